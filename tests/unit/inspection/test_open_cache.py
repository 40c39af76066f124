"""``ckd_cache.open``: names, reading, errors."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, assert_type

import numpy as np
import pytest

import ckd_cache
from ckd_cache.errors import CacheNotFoundError, CkdCacheError, IncompleteCacheError
from ckd_cache.inspection.lazy import LazyTarget


def test_the_public_names_are_exactly_those_listed() -> None:
    modules = {name for name, value in vars(ckd_cache).items() if inspect.ismodule(value)}
    for name in ckd_cache.__all__:
        assert getattr(ckd_cache, name) is not None
    public = {name for name in vars(ckd_cache) if not name.startswith("_")} - modules
    assert public - {"annotations", "Final", "TYPE_CHECKING", "import_module"} == {
        name for name in ckd_cache.__all__ if not name.startswith("_")
    }
    assert list(ckd_cache.__all__) == sorted(ckd_cache.__all__)
    assert len(ckd_cache.__all__) <= 12
    assert dir(ckd_cache) == list(ckd_cache.__all__)


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'opne'"):
        ckd_cache.opne  # noqa: B018


def test_examples_are_what_was_written(tiny: Any) -> None:
    cache = ckd_cache.open(tiny.path)
    examples = cache.examples.read(7, 14)
    slots = tiny.parts["v1-0000"].slots
    for row in range(7):
        n = len(slots.positions[row])
        ids = tiny.segments.input_ids[row]
        assert examples.slot_mask[row].tolist() == [True] * n + [False] * (3 - n)
        assert examples.gold_ids[row, :n].tolist() == slots.gold[row].tolist()
        seen = examples.input_ids[row, : len(ids)].copy()
        assert seen[slots.positions[row]].tolist() == slots.inputs[row].tolist()
        seen[slots.positions[row]] = slots.gold[row]
        assert seen.tolist() == ids.tolist()


def test_distributions_of_both_views_are_what_was_written(tiny: Any) -> None:
    cache = ckd_cache.open(str(tiny.path))
    for name in "ab":
        read = cache.teachers[name].read(0, 14)
        for view, part in enumerate(tiny.parts.values()):
            written = part.teachers[name]
            rows = slice(7 * view, 7 * view + 7)
            np.testing.assert_array_equal(read.ids[rows], written.ids)
            np.testing.assert_allclose(read.logprobs[rows], written.logprobs, atol=0.05)
    target = cache.targets["gold"].read(5, 9)
    expected = np.concatenate([part.target.weights for part in tiny.parts.values()])[5:9]
    np.testing.assert_allclose(target.weights, expected, atol=1e-4)


def test_a_set_by_name_has_the_same_three(tiny: Any) -> None:
    cache = ckd_cache.open(tiny.path)
    text = cache["text"]
    assert list(cache.sets) == ["text"]
    assert len(text) == len(text.examples) == len(text.teachers["a"]) == 14
    assert list(text.teachers) == list(cache.teachers) == ["a", "b"]
    assert list(text.targets) == list(cache.targets) == ["gold", "other"]
    assert cache.manifest.complete
    assert cache.path == tiny.path


def test_representations_say_what_there_is(tiny: Any, unfinished: Any) -> None:
    cache = ckd_cache.open(tiny.path)
    assert repr(cache) == (
        f"<cache {str(tiny.path)!r}>\n  text: 14 examples; teachers a, b; targets gold, other"
    )
    assert repr(cache["text"]) == ("<set 'text': 14 examples; teachers a, b; targets gold, other>")
    assert repr(cache.teachers["a"]) == "<teacher 'a', 14 examples>"
    assert repr(cache.targets) == (
        "{'gold': <target 'gold', 14 examples>, 'other': <target 'other', 14 examples>}"
    )
    assert repr(cache.examples) == "<examples of set 'text', 14 examples>"
    assert ", incomplete>" in repr(ckd_cache.open(unfinished.path))


def test_unknown_names_list_the_known_ones(tiny: Any) -> None:
    cache = ckd_cache.open(tiny.path)
    with pytest.raises(CkdCacheError, match=r"^No set 'gloss' in .*tiny.ckd; there is 'text'\.$"):
        cache["gloss"]
    with pytest.raises(CkdCacheError, match=r"No teacher 'c' in set 'text' .*'a', 'b'\.$"):
        cache.teachers["c"]
    with pytest.raises(KeyError, match=r"^No target 'x' .*'gold', 'other'\.$"):
        cache.targets["x"]


def test_type_checkers_know_what_is_read(tiny: Any) -> None:
    cache = ckd_cache.open(tiny.path)
    assert_type(cache, ckd_cache.Cache)
    assert_type(cache.examples.read(0, 1), ckd_cache.Examples)
    assert_type(cache.teachers["a"].read(0, 1), ckd_cache.TeacherArrays)
    assert_type(cache["text"].targets["gold"].read(0, 1), ckd_cache.TargetArrays)
    assert_type(cache.targets["gold"].dask(), LazyTarget)


def test_mappings_behave(tiny: Any) -> None:
    teachers = ckd_cache.open(tiny.path).teachers
    assert teachers.get("c") is None
    assert "a" in teachers
    assert "c" not in teachers
    assert len(teachers) == 2


@pytest.mark.parametrize(("start", "stop"), [(0, 15), (-1, 3), (5, 4)])
def test_ranges_outside_are_refused(tiny: Any, start: int, stop: int) -> None:
    cache = ckd_cache.open(tiny.path)
    for distributions in (cache.examples, cache.teachers["a"], cache.targets["gold"]):
        with pytest.raises(CkdCacheError, match="14"):
            distributions.read(start, stop)


def test_no_cache_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(CacheNotFoundError, match="nothing"):
        ckd_cache.open(tmp_path / "nothing")


def test_an_unfinished_cache_gives_what_it_has(unfinished: Any) -> None:
    cache = ckd_cache.open(unfinished.path)
    assert not cache.manifest.complete
    assert len(cache.teachers["b"].read(0, 7)) == 7
    assert not cache.targets
    with pytest.raises(IncompleteCacheError):
        cache.teachers["b"].read(6, 8)
