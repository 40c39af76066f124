"""Manifests that a stranger made: a clear error at once, never a traceback or a full memory."""

from __future__ import annotations

import json
import shutil

import pytest

from ckd_cache.errors import DamagedCacheError, FormatVersionError, IncompleteCacheError
from ckd_cache.fingerprint import hash_bytes
from ckd_cache.format.reader import open_cache

HUGE = 2**31


def text_of(members):
    text = json.dumps(members, sort_keys=True, indent=1, separators=(",", ": "), ensure_ascii=False)
    return f"{text}\n".encode()


@pytest.fixture
def hostile(built, tmp_path):
    """Change the manifest of a copy as somebody would who knows how digests are made."""

    def hostile(change):
        copy = tmp_path / "hostile.ckd"
        shutil.copytree(built, copy)
        members = json.loads((copy / "ckd.json").read_bytes())
        del members["digest"]
        change(members)
        digest = hash_bytes(text_of(members))
        (copy / "ckd.json").write_bytes(text_of({**members, "digest": digest}))
        return copy

    return hostile


def read_everything(path):
    cache = open_cache(path)
    for name in cache.sets:
        text = cache.set(name)
        text.shards()
        text.examples.read(0, min(text.n_examples, 20))
        for teacher in text.teachers.values():
            teacher.read(0, min(text.n_examples, 20))
        for target in text.targets.values():
            target.read(0, min(text.n_examples, 20))


def setter(path, value):
    def change(members):
        *steps, last = path.split("/")
        for step in steps:
            members = members[int(step) if isinstance(members, list) else step]
        members[int(last) if isinstance(members, list) else last] = value

    return change


def rename_set(members):
    members["sets"] = {"../text": members["sets"]["text"]}


def rename_teacher(members):
    teachers = members["sets"]["text"]["teachers"]
    teachers["../a"] = teachers.pop("a")


def many_examples(members):
    """A part of 10^15 examples, whose shards nobody could count through."""
    text = members["sets"]["text"]
    text["increments"][0]["segments"] = 10**15
    text["parts"] = [text["parts"][0] | {"examples": 10**15}]
    text["teachers"], text["targets"] = {}, {}


CHANGES = {
    "files path": setter("files/path", "../../etc/passwd"),
    "files rows": setter("files/rows", 3),
    "set name": rename_set,
    "teacher name": rename_teacher,
    "part name": setter("sets/text/parts/0/name", "../v0-0000"),
    "increment name": setter("sets/text/increments/0/name", "../../0000"),
    "many examples": many_examples,
    "negative examples": setter("sets/text/parts/0/examples", -1),
    "shards of nothing": setter("sets/text/shard_examples", 0),
    "huge shards": setter("sets/text/shard_examples", HUGE),
    "huge chunks": setter("sets/text/chunk_examples", HUGE),
    "huge k": setter("sets/text/teachers/a/k", HUGE),
    "no temperature 1": setter("sets/text/teachers/a/temperatures", [2.0]),
    "text for a number": setter("sets/text/slots_per_example", "3"),
    "unknown member": setter("sets/text/exec", "import os"),
    "unknown support": setter("sets/text/support", "0" * 64),
    "no sets": setter("sets", []),
    "another format": setter("format", "other"),
    "version 0": setter("format_version", 0),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.timeout(20)
def test_hostile_manifests_are_damage(hostile, change):
    with pytest.raises(DamagedCacheError) as error:
        read_everything(hostile(CHANGES[change]))
    assert "hostile.ckd" in str(error.value)


def test_a_newer_format_says_what_to_install(hostile):
    with pytest.raises(FormatVersionError, match="pip install -U ckd-cache"):
        open_cache(hostile(setter("format_version", 3)))


def test_a_support_of_another_size_is_damage(hostile, small):
    with pytest.raises(DamagedCacheError):
        read_everything(hostile(setter(f"supports/{small.SUPPORT}/size", HUGE)))


@pytest.mark.parametrize("depth", [100, 100_000])
def test_deep_json_is_damage(built, tmp_path, depth):
    copy = tmp_path / "deep.ckd"
    shutil.copytree(built, copy)
    (copy / "ckd.json").write_bytes(b'{"a":' * depth + b"1" + b"}" * depth)
    with pytest.raises(DamagedCacheError):
        open_cache(copy)


def test_what_is_not_there_is_not_damage(hostile):
    path = hostile(setter("sets/text/teachers", {}))
    with pytest.raises(IncompleteCacheError):
        open_cache(path).set("other")
