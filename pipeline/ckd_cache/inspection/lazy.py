"""Lazy arrays over a whole set: dask, one block a shard.

A task opens the cache by its path and decodes one shard once for all arrays of the record, so the
graph holds no open file and travels to any scheduler that sees the path. Dask only reads here.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from ckd_cache.errors import IncompleteCacheError
from ckd_cache.format.reader import CacheReader, SetReader, ShardRange, open_cache
from ckd_cache.types import Array, Examples, TargetArrays, TeacherArrays

__all__ = [
    "LazyExamples",
    "LazyTarget",
    "LazyTeacher",
    "lazy_examples",
    "lazy_target",
    "lazy_teacher",
]

_Kind: TypeAlias = Literal["examples", "teachers", "targets"]
_Record: TypeAlias = Examples | TeacherArrays | TargetArrays
_Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LazyExamples:
    """`ckd_cache.types.Examples` of all examples of a set, lazily."""

    input_ids: da.Array
    attention_mask: da.Array
    token_type_ids: da.Array
    slot_positions: da.Array
    slot_mask: da.Array
    gold_ids: da.Array


@dataclass(frozen=True, slots=True)
class LazyTeacher:
    """`ckd_cache.types.TeacherArrays` of all examples of a set, lazily."""

    ids: da.Array
    logprobs: da.Array
    n_valid: da.Array
    tail: da.Array
    logsumexp: da.Array
    entropy: da.Array
    gold_logprob: da.Array
    gold_rank: da.Array


@dataclass(frozen=True, slots=True)
class LazyTarget:
    """`ckd_cache.types.TargetArrays` of all examples of a set, lazily."""

    ids: da.Array
    logprobs: da.Array
    n_valid: da.Array
    tail: da.Array
    weights: da.Array
    uncertain: da.Array
    gold_logprob: da.Array


def lazy_examples(cache: CacheReader, part: SetReader) -> LazyExamples:
    """All examples of a set.

    Raises:
        IncompleteCacheError: there are none yet.
    """
    slots, tokens = part.layout.slots, part.record.segment_tokens
    arrays: dict[str, tuple[_Shape, type]] = {
        "input_ids": ((tokens,), np.int64),
        "attention_mask": ((tokens,), np.int64),
        "token_type_ids": ((tokens,), np.int64),
        "slot_positions": ((slots,), np.int64),
        "slot_mask": ((slots,), np.bool_),
        "gold_ids": ((slots,), np.int64),
    }
    return LazyExamples(**_arrays(_Source(cache, part, "examples", ""), arrays))


def lazy_teacher(cache: CacheReader, part: SetReader, name: str) -> LazyTeacher:
    """All distributions of a teacher.

    Raises:
        IncompleteCacheError: some parts are not there yet.
    """
    record = part.record.teachers[name]
    _require(cache, part, name, record.parts)
    slots, temperatures = part.layout.slots, len(record.temperatures)
    arrays: dict[str, tuple[_Shape, type]] = {
        **_head(slots, record.k),
        "tail": ((slots, temperatures), np.float32),
        "logsumexp": ((slots, temperatures), np.float32),
        "entropy": ((slots, temperatures), np.float32),
        "gold_logprob": ((slots,), np.float32),
        "gold_rank": ((slots,), np.uint32),
    }
    return LazyTeacher(**_arrays(_Source(cache, part, "teachers", name), arrays))


def lazy_target(cache: CacheReader, part: SetReader, name: str) -> LazyTarget:
    """All merged distributions of a target.

    Raises:
        IncompleteCacheError: some parts are not there yet, or none is stored at all.
    """
    record = part.record.targets[name]
    if not record.stored:
        message = (
            f"{cache.path}: target {name!r} of set {part.name!r} is a rule that is only recorded; "
            "there are no arrays of it. Store one by the same rule under another name: `ckd-cache "
            f"merge {cache.path} --name … --weighting {record.weighting} …`."
        )
        raise IncompleteCacheError(message)
    _require(cache, part, name, record.parts)
    slots = part.layout.slots
    arrays: dict[str, tuple[_Shape, type]] = {
        **_head(slots, record.k),
        "tail": ((slots,), np.float32),
        "weights": ((slots, len(record.teachers)), np.float32),
        "uncertain": ((slots,), np.float32),
        "gold_logprob": ((slots,), np.float32),
    }
    return LazyTarget(**_arrays(_Source(cache, part, "targets", name), arrays))


def _head(slots: int, k: int) -> dict[str, tuple[_Shape, type]]:
    return {
        "ids": ((slots, k), np.int32),
        "logprobs": ((slots, k), np.float32),
        "n_valid": ((slots,), np.int32),
    }


def _require(cache: CacheReader, part: SetReader, name: str, filled: Mapping[str, object]) -> None:
    missing = [record.name for record in part.record.parts if record.name not in filled]
    if missing:
        message = (
            f"{cache.path}: {name!r} of set {part.name!r} lacks the parts {', '.join(missing)}; "
            "its arrays over the whole set exist once the same `ckd-cache build` has finished. "
            "What is there can be read with read(start, stop)."
        )
        raise IncompleteCacheError(message)


@dataclass(frozen=True, slots=True)
class _Source:
    cache: CacheReader
    part: SetReader
    kind: _Kind
    name: str


def _arrays(source: _Source, arrays: Mapping[str, tuple[_Shape, type]]) -> dict[str, da.Array]:
    """Arrays by name, from the shape of one example and the dtype of each."""
    shards = source.part.shards()
    if not shards:
        message = f"{source.cache.path}: set {source.part.name!r} has no examples yet."
        raise IncompleteCacheError(message)
    stamp = _stamp(source.cache)
    token = tokenize(str(source.cache.path), stamp, source.part.name, source.kind, source.name)
    blocks = f"shard-{token}"
    where = (str(source.cache.path), stamp, source.part.name, source.kind, source.name)
    load = {
        (blocks, number): (_load, *where, shard.start, shard.stop)
        for number, shard in enumerate(shards)
    }
    return {
        name: _array(f"{name}-{token}", name, blocks, load, shards, *arrays[name])
        for name in arrays
    }


def _array(
    key: str,
    name: str,
    blocks: str,
    load: Mapping[Any, Any],
    shards: Sequence[ShardRange],
    shape: _Shape,
    dtype: type,
) -> da.Array:
    zeros = (0,) * len(shape)
    layer: dict[Any, Any] = {
        (key, number, *zeros): (operator.itemgetter(name), (blocks, number))
        for number in range(len(shards))
    }
    graph = HighLevelGraph({blocks: load, key: layer}, {blocks: set(), key: {blocks}})
    chunks = (tuple(shard.stop - shard.start for shard in shards), *((size,) for size in shape))
    meta: Array = np.empty((0, *zeros), dtype)
    return da.Array(graph, key, chunks, meta=meta)  # type: ignore[no-untyped-call]


def _load(
    path: str, stamp: str, part: str, kind: _Kind, name: str, start: int, stop: int
) -> _Record:
    reader = _opened(path, stamp).set(part)
    if kind == "examples":
        return reader.examples.read(start, stop)
    named = reader.teachers if kind == "teachers" else reader.targets
    if name not in named:
        message = (
            f"{path}: {kind.removesuffix('s')} {name!r} of set {part!r} was dropped since the"
            " cache was opened. Open it again to see what it holds now."
        )
        raise IncompleteCacheError(message)
    return named[name].read(start, stop)


@lru_cache(maxsize=8)
def _opened(path: str, stamp: str) -> CacheReader:
    """The cache at ``path``, opened once a process; ``stamp`` tells its generations apart."""
    del stamp
    return open_cache(Path(path))


def _stamp(cache: CacheReader) -> str:
    files = cache.manifest.files
    return files.path if files is not None else str(cache.manifest.generation)
