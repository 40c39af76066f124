"""What verifying finds in the columns and records that only twin sets have."""

from __future__ import annotations

import numpy as np
import pytest

from ckd_cache.format.arrow_io import Ragged
from ckd_cache.format.consistency import inconsistency
from ckd_cache.format.manifest import Manifest, SetRecord
from ckd_cache.format.reader import open_cache
from ckd_cache.format.twin_checks import check_alignment, check_words


def ragged(*rows: list[int]) -> Ragged:
    offsets = np.cumsum([0, *(len(row) for row in rows)])
    return Ragged(np.array([one for row in rows for one in row], np.int64), offsets)


OWN = ragged([9, 9, 9, 9], [9, 9, 9])
SOUND = {
    "ids": ragged([1, 5, 6, 1], [1, 7, 1]),
    "first": ragged([0, 1, 2, 0], [0, 1, 0]),
    "last": ragged([0, 2, 3, 0], [0, 3, 0]),
    "exact": ragged([0, 1, 1, 0], [0, 1, 0]),
}


def found(**changes: Ragged) -> list[tuple[str, list[bool]]]:
    columns = list({**SOUND, **changes}.values())
    return [(one.problem, one.rows.tolist()) for one in check_alignment(columns, OWN, 8)]


def test_sound_segments_have_nothing_wrong():
    assert found() == []


@pytest.mark.parametrize(
    ("changes", "rows"),
    [
        ({"first": ragged([0, 1, 2], [0, 1, 0])}, [True, False]),
        ({"last": ragged([0, 2, 3, 0], [0, 4, 0])}, [False, True]),
        ({"first": ragged([0, 3, 2, 0], [0, 1, 0])}, [True, False]),
        ({"last": ragged([0, 2, 1, 0], [0, 3, 0])}, [True, False]),
        ({"exact": ragged([0, 1, 1, 1], [0, 1, 0])}, [True, False]),
    ],
)
def test_what_does_not_fit_the_set_is_found_with_its_examples(changes, rows):
    assert ("segments", rows) in found(**changes)


def test_without_the_sets_segments_only_their_longest_can_be_held_against_them():
    columns = list({**SOUND, "last": ragged([0, 2, 3, 0], [0, 4, 0])}.values())
    assert list(check_alignment(columns, None, 8)) == []
    assert list(check_alignment(columns, None, 3)) != []


@pytest.mark.parametrize(
    ("words", "exact", "wrong"),
    [
        (ragged([0, 0, 2], []), ragged([1, 1, 0], []), False),
        (ragged([0, 1], []), ragged([1, 1, 0], []), True),
        (ragged([0, 2, 1], []), ragged([1, 1, 0], []), True),
        (ragged([0, 0, 2], []), ragged([1, 0, 0], []), True),
    ],
)
def test_words_of_slots_ascend_and_are_exact_as_a_whole(words, exact, wrong):
    broken = list(check_words(ragged([3, 4, 7], []), (words, exact)))
    assert [one.problem for one in broken] == (["slots"] if wrong else [])
    assert all(one.rows.tolist() == [True, False] for one in broken)


@pytest.fixture
def manifest(built) -> Manifest:
    return open_cache(built).manifest


def with_twin(manifest: Manifest, name: str = "text.twin", **changes) -> str | None:
    own = manifest.sets["text"]
    empty = {"teachers": {}, "targets": {}, "gathers": {}, "twin_of": "text"}
    twin: SetRecord = own.model_copy(update={**empty, **changes})
    update = {"sets": {"text": own, name: twin}, "files": None}
    return inconsistency(manifest.model_copy(update=update))


def test_a_twin_has_the_examples_of_its_set_or_the_first_of_them(manifest):
    own = manifest.sets["text"]
    assert with_twin(manifest) is None
    assert with_twin(manifest, parts=own.parts[:1]) is None
    assert with_twin(manifest, parts=[]) is None


def test_a_twin_that_says_otherwise_than_its_set_is_refused(manifest):
    own = manifest.sets["text"]
    more = {"chunk_examples": 1, "shard_examples": own.shard_examples}
    assert "another number of examples" in with_twin(manifest, **more)
    assert "no such set" in with_twin(manifest, twin_of="other")
    assert "does not begin" in with_twin(manifest, name="other")
    first = own.increments[0]
    other = first.model_copy(update={"segments": first.segments + 1})
    assert with_twin(manifest, increments=[other, *own.increments[1:]], parts=[]) is not None
