"""A manifest whose gathers could not be read is damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ckd_cache.format.consistency import inconsistency
from ckd_cache.format.manifest import Manifest, loads

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "v2" / "gathered" / "ckd.json"


def changed(**update: Any) -> Manifest:
    """The golden manifest with another gather of teacher a."""
    manifest = loads(GOLDEN.read_bytes(), "golden")
    text = manifest.sets["text"]
    name, gather = next(iter(text.gathers.items()))
    gathers = {**text.gathers, name: gather.model_copy(update=update)}
    sets = {"text": text.model_copy(update={"gathers": gathers})}
    return manifest.model_copy(update={"sets": sets})


def test_the_golden_one_is_consistent():
    assert inconsistency(changed()) is None


@pytest.mark.parametrize(
    ("update", "said"),
    [
        ({"teacher": "z"}, "teachers that the set does not have"),
        ({"group": ["a", "z"]}, "teachers that the set does not have"),
        ({"group": ["b"]}, "teachers that the set does not have"),
        ({"group": ["b", "a"]}, "not sorted"),
        ({"group": ["a", "b", "b"]}, "not sorted"),
        ({"width": 2**30}, "wider"),
        ({"step": 0.5}, "another step"),
    ],
)
def test_what_does_not_fit_is_said(update, said):
    found = inconsistency(changed(**update))
    assert found is not None
    assert said in found


def test_a_part_that_a_teacher_lacks_is_said():
    manifest = changed()
    text = manifest.sets["text"]
    teacher = text.teachers["b"].model_copy(update={"parts": {}})
    teachers = {**text.teachers, "b": teacher}
    targets = {name: one.model_copy(update={"parts": {}}) for name, one in text.targets.items()}
    text = text.model_copy(update={"teachers": teachers, "targets": targets})
    found = inconsistency(manifest.model_copy(update={"sets": {"text": text}}))
    assert found is not None
    assert "not all of its teachers have" in found
