"""What docs/format.md works out: canonical JSON, a fingerprint, the digest, a short reader."""

from __future__ import annotations

import hashlib
import json
import re

import pytest
from tests.golden.test_golden import CACHES, FOLDER, ROOT, folder_of

from ckd_cache.fingerprint import canonical_json, fingerprint
from ckd_cache.format.spec import FORMAT_VERSION

PAGE = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_worked_fingerprint():
    text = section("Fingerprints")
    (line,) = re.findall(r"```json\n(.*)\n```", text)
    (stated,) = re.findall(r"has the fingerprint `([0-9a-f]{64})`", text)
    assert hashlib.sha256(line.encode()).hexdigest() == stated
    identity = json.loads(line)
    assert canonical_json(identity).decode() == line
    assert identity.pop("fingerprint_version") == 1
    assert fingerprint(identity) == stated


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (1.0, "1.0"),
        (1, "1"),
        (1234567890123456.0, "1234567890123456.0"),
        (1e16, "1e+16"),
        (1.5e16, "1.5e+16"),
        (10**16, "10000000000000000"),
        (-0.0, "-0.0"),
        (5e-324, "5e-324"),
        (0.1 + 0.2, "0.30000000000000004"),
        ('"\\\b\f\n\r\t', r'"\"\\\b\f\n\r\t"'),
        ("\x00\x1f\x7f/\u2028", '"\\u0000\\u001f\x7f/\u2028"'),
        ({"\U0001d538": 1, "\uff5e": 2, "a": {}}, '{"a":{},"\uff5e":2,"\U0001d538":1}'),
        ([True, False, None, []], "[true,false,null,[]]"),
    ],
)
def test_the_rules_of_canonical_json(value, text):
    assert canonical_json(value).decode() == text


@pytest.mark.parametrize("cache", CACHES)
def test_the_digest_is_that_of_the_file_without_its_line(cache):
    lines = (folder_of(cache) / "ckd.json").read_bytes().splitlines(keepends=True)
    digest = [line for line in lines if line.startswith(b' "digest": ')]
    rest = b"".join(line for line in lines if line not in digest)
    assert digest == [b' "digest": "%s",\n' % hashlib.sha256(rest).hexdigest().encode()]


def test_the_reader_has_40_lines():
    (code,) = re.findall(r"```python\n(.*?)```", section("Reading without this library"), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 40


def test_every_version_has_a_row_and_golden_caches():
    versions = re.findall(r"^\| (\d+) \| .*`(tests/golden/v\d+)`", PAGE, re.MULTILINE)
    assert versions == [(str(n), f"tests/golden/v{n}") for n in range(1, FORMAT_VERSION + 1)]
    assert all((ROOT / folder).is_dir() for _, folder in versions)


def test_golden_caches_are_listed():
    listed = re.findall(r"^\| `(\w+)` \|", section("Golden caches"), re.MULTILINE)
    assert listed == list(CACHES)
    assert sorted(listed) == sorted(path.stem for path in FOLDER.glob("v*/*.npz"))
