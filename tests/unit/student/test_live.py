"""Targets by the name they are asked for, as far as the manifest decides."""

from __future__ import annotations

import re
import shutil

import pytest

from ckd_cache.errors import CkdCacheError, IncompleteCacheError
from ckd_cache.format.manifest import FilledPart, TeacherRecord
from ckd_cache.format.reader import open_cache
from ckd_cache.format.workspace import CacheWriter
from ckd_student.stream import open_stream
from ckd_student.targets import check_target, target_identity


@pytest.fixture
def change(cache, tmp_path):
    """Copy the cache with another record of its set: ``change(teachers=…, targets=…)``."""

    def copied(**members):
        copy = shutil.copytree(cache, tmp_path / "own.ckd")
        with CacheWriter.begin(copy) as writer:
            manifest = writer.manifest
            assert manifest is not None
            record = manifest.sets["text"]
            updated = {name: {**getattr(record, name), **more} for name, more in members.items()}
            sets = {"text": record.model_copy(update=updated)}
            writer.commit(manifest.model_copy(update={"sets": sets}), [])
        return open_cache(copy)

    return copied


def teacher(*parts: str, temperatures: tuple[float, ...] = (1.0,)) -> TeacherRecord:
    """A record of a teacher; no arrays are behind it."""
    return TeacherRecord(
        model="a",
        k=6,
        temperatures=list(temperatures),
        max_nats=0.0,
        step=0.0,
        identity={},
        parts={
            part: FilledPart(fingerprint=f"{number:064x}", stats={}, profile={})
            for number, part in enumerate(parts, 1)
        },
    )


def recorded(cache, **changes):
    """The target ``mix`` as a rule that is only recorded."""
    target = open_cache(cache).sets["text"].record.targets["mix"]
    return target.model_copy(update={"stored": False, "parts": {}, **changes})


BOTH = ("v0-0000", "v1-0000")


def test_a_name_that_is_not_there_is_named_with_those_that_are(cache):
    with pytest.raises(IncompleteCacheError) as error:
        open_stream(cache, target="live:gate")
    text = str(error.value)
    assert "no target 'gate' in the set 'text'; it has mix, partial, warm." in text
    assert f"ckd-cache merge {cache} --name gate … --live" in text


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (
            "live:",
            r"--target live: lacks the name of a target after live:;.*Give one: .*live:NAME\.$",
        ),
        (
            "",
            r"--target '' lacks the name of a target; .* has mix, partial, warm\. Give .* NAME\.$",
        ),
    ],
)
def test_a_name_that_is_not_given_is_asked_for(cache, target, said):
    with pytest.raises(IncompleteCacheError, match=said) as error:
        open_stream(cache, target=target)
    assert "ckd-cache merge" not in str(error.value)


def test_a_rule_that_is_only_recorded_must_be_asked_for_live(cache, change):
    own = change(targets={"calm": recorded(cache)})
    with pytest.raises(IncompleteCacheError, match=r"only recorded.*--target live:calm\."):
        check_target(own, "text", "calm")
    with pytest.raises(IncompleteCacheError, match=r"only recorded.*live:calm"):
        own.sets["text"].targets["calm"].read(0, 1)


def test_everything_that_the_teachers_lack_is_listed_at_once(cache, change):
    """Targets outlive their teachers, so a name that is there says nothing of them."""
    with pytest.raises(
        IncompleteCacheError,
        match=r"live:mix merges a, b .* teacher a is not in the cache; teacher b is not .*"
        rf"build RECIPE --cache {re.escape(str(cache))}` .* stored of it: --target mix\.",
    ):
        open_stream(cache, target="live:mix")
    own = change(
        teachers={"a": teacher("v0-0000")},
        targets={"calm": recorded(cache, teachers=["a", "b"])},
    )
    for name in ("calm", "partial"):
        with pytest.raises(IncompleteCacheError) as error:
            check_target(own, "text", f"live:{name}")
        assert "teacher a lacks v1-0000; teacher b is not in the cache" in str(error.value)
        assert "what is stored" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"weighting": "gate"}, r"weighting gate.*has nothing that it learned.*--target calm"),
        ({"calibrate": "weights"}, r"calibrate weights.*has nothing that it learned"),
        ({"settings": {"prior": "fitted"}}, "has nothing that it learned"),
        ({"temperature": 2.0}, r"temperature 2\.0.*teacher 'a' was captured at 1\.0"),
        ({"missing": "exact"}, r"no gathered logprobs of teacher a"),
        ({"weighting": "oracle"}, r"unknown weighting 'oracle'"),
        (
            {"weighting": "fitted", "fit": {"on": {"teacher_parts": {"a": {"v0-0000": "0" * 64}}}}},
            r"learned from another teacher a than",
        ),
        ({"weighting": "fitted", "fit": {"weights": {}}}, "cannot be understood"),
    ],
)
def test_what_a_rule_needs_is_checked_before_anything_is_read(cache, change, changes, problem):
    own = change(
        teachers={"a": teacher(*BOTH), "b": teacher(*BOTH)},
        targets={"calm": recorded(cache, **changes)},
    )
    with pytest.raises(CkdCacheError, match=problem):
        check_target(own, "text", "live:calm")


def test_a_live_student_is_another_than_one_of_what_is_stored(cache, change):
    own = change(
        teachers={"a": teacher(*BOTH), "b": teacher(*BOTH)},
        targets={"calm": recorded(cache, identity={"weighting": "gold", "fit": {"weights": {}}})},
    )
    stored = target_identity(own, "text", "mix")
    live = target_identity(own, "text", "live:calm")
    parts = own.sets["text"].record.targets["mix"].parts
    assert stored == {
        "target": "mix",
        "target_parts": {name: part.fingerprint for name, part in parts.items()},
    }
    assert live == {
        "target": "live:calm",
        "target_rule": {"weighting": "gold", "fit": {"weights": {}}},
        "target_parts": {"teachers": {name: dict(zip(BOTH, PARTS, strict=True)) for name in "ab"}},
    }
    assert target_identity(own, "text", None) == {"target": None, "target_parts": {}}


PARTS = (f"{1:064x}", f"{2:064x}")
