"""Dask arrays over a set: the same numbers, a block a shard, and nothing computed before asked."""

from __future__ import annotations

import pickle
from dataclasses import fields
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import dask.base
import numpy as np
import pytest

import ckd_cache
from ckd_cache.errors import IncompleteCacheError
from ckd_cache.format.reader import CacheReader, open_cache
from ckd_cache.inspection import lazy
from ckd_cache.inspection.lazy import LazyExamples, LazyTarget, LazyTeacher
from ckd_cache.types import Examples, TargetArrays, TeacherArrays, array_names


@pytest.fixture(autouse=True)
def _in_this_thread() -> Any:
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.mark.parametrize(
    ("lazy_record", "record"),
    [(LazyExamples, Examples), (LazyTeacher, TeacherArrays), (LazyTarget, TargetArrays)],
)
def test_lazy_records_have_the_names_of_the_read_ones(lazy_record: type, record: type) -> None:
    assert tuple(field.name for field in fields(lazy_record)) == array_names(record)


def views(cache: ckd_cache.Cache) -> list[Any]:
    return [cache.examples, cache.teachers["a"], cache.teachers["b"], cache.targets["gold"]]


def test_lazy_arrays_equal_the_read_ones_in_values_dtypes_and_shapes(tiny: Any) -> None:
    for distributions in views(ckd_cache.open(tiny.path)):
        read, delayed = distributions.read(0, 14), distributions.dask()
        names = array_names(type(read))
        arrays = [getattr(delayed, name) for name in names]
        for name, array, values in zip(names, arrays, dask.base.compute(*arrays), strict=True):
            assert isinstance(array, da.Array)
            assert array.dtype == values.dtype == read[name].dtype
            assert array.shape == read[name].shape
            np.testing.assert_array_equal(values, read[name])


def test_a_block_is_a_shard(tiny: Any) -> None:
    for distributions in views(ckd_cache.open(tiny.path)):
        delayed = distributions.dask()
        for field in fields(delayed):
            array = getattr(delayed, field.name)
            assert array.chunks[0] == (4, 3, 4, 3)
            assert array.numblocks[1:] == (1,) * (array.ndim - 1)


def test_the_mean_weights_of_the_design_page(tiny: Any) -> None:
    weights = ckd_cache.open(tiny.path).targets["gold"].dask().weights
    mean = da.nanmean(weights, axis=(0, 1)).compute()
    written = np.concatenate([part.target.weights for part in tiny.parts.values()])
    np.testing.assert_allclose(mean, np.nanmean(written, axis=(0, 1)), atol=1e-4)
    assert mean.sum() == pytest.approx(1, abs=1e-5)


def count_loads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    loaded: list[tuple[int, int]] = []
    load = lazy._load

    def counting(*where: Any) -> Any:
        loaded.append(where[-2:])
        return load(*where)

    monkeypatch.setattr(lazy, "_load", counting)
    return loaded


def test_nothing_is_read_before_it_is_asked_for(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = count_loads(monkeypatch)
    teacher = ckd_cache.open(tiny.path).teachers["a"].dask()
    assert loaded == []
    teacher.tail[8:10].compute()
    assert loaded == [(7, 11)]


def test_a_shard_is_decoded_once_for_all_arrays(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = count_loads(monkeypatch)
    teacher = ckd_cache.open(tiny.path).teachers["a"].dask()
    dask.base.compute(teacher.ids.sum(), teacher.tail.sum(), teacher.gold_rank.sum())
    assert sorted(loaded) == [(0, 4), (4, 7), (7, 11), (11, 14)]


def test_a_process_opens_the_cache_once(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []

    def counting(path: Path) -> CacheReader:
        opened.append(path)
        return open_cache(path)

    monkeypatch.setattr(lazy, "open_cache", counting)
    lazy._opened.cache_clear()
    teacher = ckd_cache.open(tiny.path).teachers["a"].dask()
    dask.base.compute(teacher.ids, teacher.tail)
    assert opened == [tiny.path]


def test_lazy_arrays_travel_to_other_processes(tiny: Any) -> None:
    """As distributed schedulers send them: pickled, and with no open cache inside."""
    delayed = ckd_cache.open(tiny.path).teachers["a"].dask().entropy
    data = pickle.dumps(delayed)
    assert len(data) < 20_000
    with dask.config.set(scheduler="processes", num_workers=1):
        there = pickle.loads(data).compute()
    np.testing.assert_array_equal(there, delayed.compute())


def test_names_are_the_same_for_the_same_cache_and_differ_between_teachers(tiny: Any) -> None:
    first, second = ckd_cache.open(tiny.path), ckd_cache.open(tiny.path)
    name = first.teachers["a"].dask().ids.name
    assert name == second.teachers["a"].dask().ids.name
    assert name != first.teachers["b"].dask().ids.name


def test_a_teacher_that_lacks_parts_is_refused_at_once(unfinished: Any) -> None:
    cache = ckd_cache.open(unfinished.path)
    assert cache.teachers["a"].dask().ids.shape == (14, 3, 4)
    with pytest.raises(IncompleteCacheError, match=r"'b' of set 'text' lacks the parts v1-0000"):
        cache.teachers["b"].dask()
