"""docs/manifest.schema.json is in step with the models, and manifests are valid by it.

That of version 1 is frozen like the caches that are valid by it.
"""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from ckd_cache.errors import CkdCacheError
from ckd_cache.format.manifest import Manifest, dumps, loads
from ckd_cache.format.schema import schema_text
from ckd_cache.format.workspace import CacheWriter

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "manifest.schema.json"
V1_SCHEMA = SCHEMA.with_name("manifest-v1.schema.json")
V1_DIGEST = "9d12f3ae84d0f81a1f66ab4c51d17639f5f3ec8e324f14565e1275f5be7c9dab"
GOLDEN = {
    version: sorted(Path(__file__).with_name(version).glob("*/ckd.json"))
    for version in ("v1", "v2")
}


@pytest.fixture(scope="module")
def schema():
    members = json.loads(SCHEMA.read_bytes())
    Draft202012Validator.check_schema(members)
    return Draft202012Validator(members)


@pytest.fixture
def stored() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(GOLDEN["v2"][0].read_bytes())
    return found


def test_it_is_in_step():
    assert SCHEMA.read_text(encoding="utf-8") == schema_text(), (
        "python -m ckd_cache.format.schema > docs/manifest.schema.json"
    )


def test_that_of_version_1_is_frozen():
    assert hashlib.sha256(V1_SCHEMA.read_bytes()).hexdigest() == V1_DIGEST


@pytest.mark.parametrize("path", GOLDEN["v2"], ids=lambda path: path.parent.name)
def test_golden_manifests_are_valid(schema, path):
    schema.validate(json.loads(path.read_bytes()))


@pytest.mark.parametrize("path", GOLDEN["v1"], ids=lambda path: path.parent.name)
def test_manifests_of_version_1_are_valid_by_its_own_schema_only(schema, path):
    stored = json.loads(path.read_bytes())
    Draft202012Validator(json.loads(V1_SCHEMA.read_bytes())).validate(stored)
    assert not schema.is_valid(stored)


def test_a_fresh_manifest_is_valid(schema, tmp_path):
    with CacheWriter.begin(tmp_path / "fresh") as writer:
        written = writer.commit(
            Manifest(complete=False, recipe={}, supports={}, sets={}, provenance={})
        )
    schema.validate(json.loads((tmp_path / "fresh" / "ckd.json").read_bytes()))
    schema.validate(json.loads(dumps(written)))


def objects(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where the objects of a manifest are whose members are given."""
    open_ended = {"recipe", "provenance", "identity", "stats", "profile", "splits", "genres"}
    open_ended |= {"settings", "fit"}
    by_name = {"supports", "special", "sets", "teachers", "targets", "gathers", "parts"}
    found = []
    members = value.items() if isinstance(value, dict) else enumerate(value)
    if isinstance(value, dict) and not (path and path[-1] in by_name):
        found.append(path)
    for name, member in members:
        if isinstance(member, dict | list) and name not in open_ended:
            found += objects(member, (*path, name))
    return found


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


def test_every_member_is_required_and_no_other_allowed(schema, stored):
    places = objects(stored)
    assert len(places) > 12
    for place in places:
        for name in at(stored, place):
            less = copy.deepcopy(stored)
            del at(less, place)[name]
            assert not schema.is_valid(less), (*place, name)
        more = copy.deepcopy(stored)
        at(more, place)["something"] = 1
        assert not schema.is_valid(more), place


WRONG = [
    (("format",), "zip"),
    (("format_version",), 3),
    (("complete",), 1),
    (("files", "path"), "../files.parquet"),
    (("sets", "text", "kind"), "causal_lm"),
    (("sets", "text", "support"), "0"),
    (("sets", "text", "chunk_examples"), 0),
    (("sets", "text", "parts", 0, "name"), "first"),
    (("sets", "text", "parts", 0, "slots"), -1),
    (("sets", "text", "increments", 0, "tokens"), 1.5),
    (("sets", "text", "teachers", "a", "top_p"), 0),
    (("sets", "text", "targets", "union", "teachers"), "a"),
]


def signed(members: dict[str, Any]) -> bytes:
    """A manifest with a digest that is right."""
    members.pop("digest")
    layout: dict[str, Any] = {"sort_keys": True, "indent": 1, "ensure_ascii": False}
    text = json.dumps(members, separators=(",", ": "), **layout) + "\n"
    members["digest"] = hashlib.sha256(text.encode()).hexdigest()
    return (json.dumps(members, separators=(",", ": "), **layout) + "\n").encode()


@pytest.mark.parametrize(("place", "value"), WRONG, ids=str)
def test_what_a_reader_refuses_is_invalid(schema, stored, place, value):
    loads(signed(stored), "a manifest")
    at(stored, place[:-1])[place[-1]] = value
    data = signed(stored)
    assert not schema.is_valid(json.loads(data))
    with pytest.raises(CkdCacheError) as refused:
        loads(data, "a manifest")
    assert "digest" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"), [("generation", 0), ("files", None), ("digest", "A" * 64)]
)
def test_what_is_never_stored_is_invalid(schema, stored, name, value):
    assert not schema.is_valid({**stored, name: value})
