"""The golden caches are read for ever, by this package and by the reader of docs/format.md.

They are committed with what a reader must see of them (``tests/golden/make_v1.py``, and one of each
later version). Everything is equal bit for bit but logprobs that were quantised: a decoder rescales
them in floating point, and 1e-6 nats is what that may differ by. Only what reading needs is
imported here: this file is also run with a newer Python and the newest Zarr
(``workflows/golden.sh``), where there is no torch.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr

from ckd_cache.format.reader import open_cache
from ckd_cache.format.verify import verify_cache

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).parent
VERSIONS = {"v1": ("compact", "exact", "wide"), "v2": ("gathered", "pooled")}
CACHES = tuple(cache for caches in VERSIONS.values() for cache in caches)
TREES = {
    "v1": "bacb79b77bfb48eb8481fd45a274213090b681fbe4689397b1913fbd73086c55",
    "v2": "ca73013ec38fe7af8bab18173b1fb1d4d38f15c9147a1b65bf047e385a9d2eef",
}
"""sha256 over all golden files. It never changes: caches like these are out in the world."""
QUANTISED = 1e-6
"""Nats by which decoders of quantised logprobs may differ."""


def folder_of(cache: str) -> Path:
    version = next(version for version, caches in VERSIONS.items() if cache in caches)
    return FOLDER / version / cache


def manifest_of(cache: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder_of(cache) / "ckd.json").read_bytes())
    return found


def distributions() -> list[Any]:
    """Cache, kind and name of everything that holds distributions."""
    return [
        pytest.param(cache, kind, name, id=f"{cache}-{kind}-{name}")
        for cache in CACHES
        for kind in ("teachers", "targets")
        for name, record in manifest_of(cache)["sets"]["text"][kind].items()
        if record["parts"]
    ]


def gathers() -> list[Any]:
    """Cache and name of everything that was gathered."""
    return [
        pytest.param(cache, name, id=f"{cache}-{name}")
        for cache in VERSIONS["v2"]
        for name in manifest_of(cache)["sets"]["text"]["gathers"]
    ]


def expected_of(cache: str, owner: str) -> dict[str, np.ndarray]:
    """Arrays of ``examples``, ``segments``, ``documents``, ``teachers.<name>`` or a target."""
    with np.load(folder_of(cache).with_suffix(".npz"), allow_pickle=False) as stored:
        return {
            name.removeprefix(f"{owner}."): stored[name]
            for name in stored.files
            if name.startswith(f"{owner}.")
        }


def is_quantised(cache: str, kind: str, name: str) -> bool:
    return bool(manifest_of(cache)["sets"]["text"][kind][name]["step"])


def text_of(cache: str):
    return open_cache(folder_of(cache)).set("text")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def canonical(value: object) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def fingerprint(identity: dict[str, Any]) -> str:
    return sha256(canonical({"fingerprint_version": 1, **identity}))


# --- the files are those that were committed --------------------------------------------------


def tree_hash(folder: Path) -> str:
    files = {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }
    return sha256(canonical(files))


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_has_changed(version):
    folder = FOLDER / version
    assert tree_hash(folder) == TREES[version], f"golden caches stay as they are: restore {folder}"


@pytest.mark.parametrize("version", VERSIONS)
def test_they_are_small(version):
    files = [path for path in (FOLDER / version).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2**19
    assert len(files) < 400


@pytest.mark.parametrize("cache", CACHES)
def test_every_file_is_the_one_in_the_table(cache):
    folder = folder_of(cache)
    record = manifest_of(cache)["files"]
    stored = (folder / record["path"]).read_bytes()
    assert record["path"] == f"files-{sha256(stored)}.parquet"
    assert record["bytes"] == len(stored)
    rows = pq.read_table(folder / record["path"]).to_pylist()
    assert len(rows) == record["rows"]
    for row in rows:
        data = (folder / row["path"]).read_bytes()
        assert (len(data), sha256(data)) == (row["bytes"], row["sha256"].hex()), row["path"]
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    unlisted = {"ckd.json", record["path"], record["previous"]}
    assert found == {row["path"] for row in rows} | unlisted


@pytest.mark.parametrize("cache", CACHES)
def test_fingerprints_follow_from_identities(cache):
    text = manifest_of(cache)["sets"]["text"]
    for one in (*text["increments"], *text["parts"]):
        assert fingerprint(one["identity"]) == one["fingerprint"]
    for teacher in text["teachers"].values():
        for part in text["parts"]:
            identity = {"slots": part["fingerprint"], **teacher["identity"]}
            assert fingerprint(identity) == teacher["parts"][part["name"]]["fingerprint"]


@pytest.mark.parametrize("cache", CACHES)
def test_the_digest_is_that_of_the_rest(cache):
    data = (folder_of(cache) / "ckd.json").read_bytes()
    members = json.loads(data)
    digest = members.pop("digest")
    layout: dict[str, Any] = {"sort_keys": True, "indent": 1, "ensure_ascii": False}
    text = json.dumps(members, separators=(",", ": "), **layout)
    assert sha256(f"{text}\n".encode()) == digest
    again = json.dumps({**members, "digest": digest}, separators=(",", ": "), **layout)
    assert f"{again}\n".encode() == data


# --- this package reads them --------------------------------------------------------------------


@pytest.mark.parametrize("cache", CACHES)
def test_the_package_finds_nothing_wrong(cache):
    found = verify_cache(folder_of(cache), workers=1)
    assert (found.findings, found.notes) == ((), ())


@pytest.mark.parametrize(("cache", "kind", "name"), distributions())
def test_the_package_reads_the_distributions(cache, kind, name):
    expected = expected_of(cache, f"{kind}.{name}")
    text = text_of(cache)
    reader = getattr(text, kind)[name]
    whole = reader.read(0, text.n_examples)
    assert set(whole.keys()) == set(expected)
    for start in range(text.n_examples):
        piece = reader.read(start, start + 1)
        for array, values in expected.items():
            np.testing.assert_array_equal(piece[array], whole[array][start : start + 1], array)
            assert piece[array].dtype == values.dtype
    for array, values in expected.items():
        if array == "logprobs" and is_quantised(cache, kind, name):
            np.testing.assert_allclose(whole[array], values, rtol=0, atol=QUANTISED)
        else:
            np.testing.assert_array_equal(whole[array], values, array)


@pytest.mark.parametrize(("cache", "name"), gathers())
def test_the_package_reads_what_was_gathered(cache, name):
    expected = expected_of(cache, f"gathers.{name}")
    text = text_of(cache)
    whole = text.gathers[name].read(0, text.n_examples)
    assert set(whole.keys()) == set(expected)
    for start in range(text.n_examples):
        piece = text.gathers[name].read(start, start + 1)
        for array in expected:
            np.testing.assert_array_equal(piece[array], whole[array][start : start + 1], array)
    for array, values in expected.items():
        np.testing.assert_array_equal(whole[array], values, array)
        assert whole[array].dtype == values.dtype


@pytest.mark.parametrize("cache", CACHES)
def test_the_package_reads_the_examples(cache):
    expected = expected_of(cache, "examples")
    text = text_of(cache)
    splits = text.examples.splits(0, text.n_examples)
    np.testing.assert_array_equal(splits, expected.pop("splits"))
    for start, stop in [(0, text.n_examples), (1, text.n_examples - 1), (2, 3)]:
        found = text.examples.read(start, stop)
        for array, values in expected.items():
            np.testing.assert_array_equal(found[array], values[start:stop], array)


@pytest.mark.parametrize("cache", CACHES)
def test_the_package_reads_segments_and_documents(cache):
    expected = expected_of(cache, "segments")
    text = text_of(cache)
    rows = text.examples.segments(0, text.n_examples)
    assert [len(ids) for ids in rows.input_ids] == expected["lengths"].tolist()
    np.testing.assert_array_equal(np.concatenate(rows.input_ids), expected["input_ids"])
    np.testing.assert_array_equal(np.concatenate(rows.word_starts), expected["word_starts"])
    places = ("document", "token_start", "token_end", "char_start", "char_end")
    spans = [
        [n, *(getattr(span, place) for place in places)]
        for n, row in enumerate(rows.spans)
        for span in row
    ]
    assert spans == expected["spans"].tolist()
    listed = expected_of(cache, "documents")
    found = text.examples.documents(listed["number"].tolist())
    for n, number in enumerate(listed["number"].tolist()):
        row = found[number]
        assert row.key.hex() == listed["key"][n]
        for name in ("number", "id", "source", "genre", "split", "characters"):
            assert getattr(row, name) == listed[name][n]


# --- docs/format.md reads them ------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain():
    """The functions of the reader in docs/format.md: Zarr, NumPy and pyarrow only."""
    page = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page.split("## Reading without")[1], re.DOTALL)
    (more,) = re.findall(
        r"```python\n(.*?)```", page.split("## Gathers")[1].split("\n## ")[0], re.DOTALL
    )
    code += more
    assert "ckd_cache" not in code
    names: dict[str, Any] = {}
    exec(compile(code, "docs/format.md", "exec"), names)
    return names


@pytest.mark.parametrize(("cache", "kind", "name"), distributions())
def test_the_page_reads_the_distributions(plain, cache, kind, name):
    expected = expected_of(cache, f"{kind}.{name}")
    parts = [part["name"] for part in manifest_of(cache)["sets"]["text"]["parts"]]
    read = [plain["distributions"](folder_of(cache), "text", kind, name, part) for part in parts]
    used = expected["n_valid"] > 0
    kept = np.arange(expected["ids"].shape[-1]) < expected["n_valid"][..., None]
    assert set(read[0]) == set(expected)
    for array, values in expected.items():
        found = np.concatenate([part[array] for part in read])
        where = kept if array in {"ids", "logprobs"} else used
        if array == "logprobs" and is_quantised(cache, kind, name):
            np.testing.assert_allclose(found[where], values[where], rtol=0, atol=QUANTISED)
        else:
            np.testing.assert_array_equal(found[where].astype(values.dtype), values[where], array)


@pytest.mark.parametrize(("cache", "name"), gathers())
def test_the_page_reads_what_was_gathered(plain, cache, name):
    expected = expected_of(cache, f"gathers.{name}")
    parts = [part["name"] for part in manifest_of(cache)["sets"]["text"]["parts"]]
    read = [plain["gathered"](folder_of(cache), "text", name, part) for part in parts]
    for n, array in enumerate(("ids", "logprobs")):
        found = np.concatenate([part[n] for part in read]).astype(expected[array].dtype)
        np.testing.assert_array_equal(found, expected[array], array)


@pytest.mark.parametrize("cache", CACHES)
def test_the_page_reads_the_examples(plain, cache):
    expected = expected_of(cache, "examples")
    first = 0
    for part in manifest_of(cache)["sets"]["text"]["parts"]:
        seen, positions, gold = plain["examples"](folder_of(cache), "text", part["name"])
        assert len(seen) == part["examples"]
        for n, ids in enumerate(seen, first):
            assert ids == expected["input_ids"][n][expected["attention_mask"][n] == 1].tolist()
            used = expected["slot_mask"][n]
            assert positions[n - first] == expected["slot_positions"][n][used].tolist()
            assert gold[n - first] == expected["gold_ids"][n][used].tolist()
        first += part["examples"]


# --- they hold what they were made for ----------------------------------------------------------


def test_they_cover_what_the_format_can_say():
    caches = VERSIONS["v1"]
    sets = {cache: manifest_of(cache)["sets"]["text"] for cache in caches}
    assert [sets[cache]["teachers"]["a"]["max_nats"] for cache in caches] == [1e-4, 0, 1e-9]
    assert sets["compact"]["teachers"]["b"]["top_p"] < 1
    assert sets["compact"]["targets"]["gold"]["teachers"] == ["a", "b"]
    parts = {cache: [part["name"] for part in one["parts"]] for cache, one in sets.items()}
    assert parts["compact"] == ["v0-0000", "v0-0001"]
    assert parts["exact"] == ["v0-0000", "v1-0000"]
    assert sets["compact"]["parts"][0]["examples"] % sets["compact"]["shard_examples"]
    stored = {
        (cache, array): zarr.open_array(
            folder_of(cache) / "text" / "teachers" / "a" / "v0-0000" / array, mode="r"
        ).dtype.name
        for cache in caches
        for array in ("ids", "logprobs", "tail")
    }
    assert stored == {
        ("compact", "ids"): "uint16",
        ("compact", "logprobs"): "uint16",
        ("compact", "tail"): "float16",
        ("exact", "ids"): "uint16",
        ("exact", "logprobs"): "float32",
        ("exact", "tail"): "float32",
        ("wide", "ids"): "uint32",
        ("wide", "logprobs"): "uint32",
        ("wide", "tail"): "float16",
    }


def test_those_of_version_2_cover_what_it_adds():
    sets = {cache: manifest_of(cache)["sets"]["text"] for cache in VERSIONS["v2"]}
    assert {bool(one["teachers"]["a"]["step"]) for one in sets.values()} == {True, False}
    targets = [target for one in sets.values() for target in one["targets"].values()]
    assert {target["mixture"] for target in targets} == {"arithmetic", "geometric"}
    assert {target["missing"] for target in targets} == {"bucket", "exact"}
    assert any(target["fit"] and target["settings"] and not target["stored"] for target in targets)
    for cache, one in sets.items():
        for name in one["gathers"]:
            found = expected_of(cache, f"gathers.{name}")
            assert 0 < found["n_valid"].max() < found["ids"].shape[-1] + 1
            assert (found["n_valid"] < found["ids"].shape[-1]).any()
        there = [expected_of(cache, f"gathers.{name}") for name in one["gathers"]]
        assert any(np.isneginf(one["logprobs"][one["ids"] >= 0]).any() for one in there)


def test_they_cover_what_the_numbers_can_be():
    examples, a = expected_of("compact", "examples"), expected_of("compact", "teachers.a")
    assert 0 in examples["slot_mask"].sum(axis=1)
    assert a["tail"].shape[-1] == 2
    used = a["n_valid"] > 0
    assert np.isneginf(a["tail"][used]).any()
    assert np.isneginf(a["gold_logprob"][used]).any()
    assert (a["gold_rank"][used] == 0).any()
    narrow = expected_of("compact", "teachers.b")["n_valid"][used]
    assert (narrow < a["n_valid"][used]).any()
    documents = expected_of("compact", "segments")["spans"][:, 0]
    assert np.bincount(documents).max() > 1


# --- with what they are read --------------------------------------------------------------------


def test_zarr_is_no_older_than_what_is_supported():
    """The environment of the other tests has the oldest one; that of golden.sh the newest."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (oldest,) = re.findall(r"zarr>=([\d.]+)", " ".join(declared["project"]["dependencies"]))
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert re.findall(r"^zarr==(.*)$", pins, re.MULTILINE) == [oldest]
    found = tuple(int(number) for number in re.findall(r"\d+", zarr.__version__)[:3])
    assert found >= tuple(int(number) for number in oldest.split("."))


def test_reading_needs_no_framework():
    code = (
        "import sys; from pathlib import Path; from ckd_cache.format.reader import open_cache;"
        "text = open_cache(Path(sys.argv[1])).set('text');"
        "text.examples.read(0, 8); text.teachers['a'].read(0, 8); text.targets['gold'].read(0, 8);"
        "sys.stdout.write(' '.join(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, folder_of("compact")],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT / "pipeline")},
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded & {"dask", "tokenizers", "torch", "transformers"} == set()
    assert {"numcodecs", "numpy", "pyarrow", "pydantic"} <= loaded
