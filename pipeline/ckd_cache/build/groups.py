"""Filling the Zarr group of a teacher or a target, and adding up what its shards say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from ckd_cache.errors import DamagedCacheError
from ckd_cache.fingerprint import hash_bytes
from ckd_cache.format.encode import order_of
from ckd_cache.format.journal import Journal
from ckd_cache.format.manifest import PartRecord
from ckd_cache.format.shards import decode_order
from ckd_cache.format.spec import (
    ORDER_ARRAY,
    WHOLE_PART,
    ArraySpec,
    Layout,
    shard_count,
    shard_range,
)
from ckd_cache.format.workspace import ShardFiles
from ckd_cache.format.zarr_io import describe, encode_shard
from ckd_cache.types import Array, JsonObject, TargetArrays, TeacherArrays

Arrays = TypeVar("Arrays", TeacherArrays, TargetArrays)

__all__ = ["Group", "ShardResult", "group_shards", "stored_order"]


@dataclass(frozen=True, slots=True)
class Group:
    """The group of one teacher or target for one part.

    Attributes:
        key: its folder in the cache.
        specs: its arrays.
        layout: how the set is cut.
        part: the part.
    """

    key: str
    specs: tuple[ArraySpec, ...]
    layout: Layout
    part: PartRecord


@dataclass(frozen=True, slots=True)
class ShardResult:
    """What computing a shard gives: stored arrays by name, and sums over its slots."""

    arrays: Mapping[str, Array]
    stats: JsonObject


def group_shards(
    group: Group,
    journal: Journal,
    compute: Callable[[int, int, int], Arrays],
    encode: Callable[[Arrays, Array], ShardResult],
    order: Callable[[], Array],
) -> Iterator[ShardFiles]:
    """The group's metadata documents and its shards, as far as the journal lacks them.

    The order of ids is that of their frequency among the kept ids of the first shard.

    Args:
        group: what is filled.
        journal: of its part.
        compute: distributions of a shard, given its number and its examples (half-open, counted
            over the set).
        encode: what is stored of them, given the order of ids.
        order: the order of ids that the cache has for this part; asked for where the journal has
            the part's metadata documents.
    """
    finished = {line.shard for line in journal.lines}
    examples = group.part.examples
    ids = order() if WHOLE_PART in finished else None
    for shard in range(shard_count(examples, group.layout)):
        if shard in finished:
            continue
        start, stop = shard_range(shard, examples, group.layout)
        first = group.part.first_example
        arrays = compute(shard, first + start, first + stop)
        if ids is None:
            ids = order_of(arrays, group.layout.support_size)
            yield _whole_part(group, ids)
        result = encode(arrays, ids)
        files = encode_shard(group.key, group.specs, group.layout, examples, shard, result.arrays)
        yield ShardFiles(shard=shard, files=files, stats=result.stats)
    if ids is None:
        yield _whole_part(group, np.arange(group.layout.support_size))


def stored_order(cache: Path, journal: Journal, size: int) -> Array:
    """The order of ids that an interrupted build has published for a part.

    Args:
        cache: folder of the cache.
        journal: of the part.
        size: entries of the support.

    Raises:
        DamagedCacheError: its file is missing or damaged.
    """
    path = f"{journal.key}/{ORDER_ARRAY}/c/0"
    row = next(row for row in journal.rows if row.path == path)
    try:
        data = (cache / path).read_bytes()
        if hash_bytes(data) == row.sha256:
            return decode_order(data, size)
        problem = "its sha256 is not that which was written"
    except (OSError, ValueError, RuntimeError) as error:
        problem = str(error)
    message = (
        f"{cache}: {path} of an interrupted build is damaged: {problem}. Delete the folder "
        f"{cache / journal.key} and {journal.path}, then run the same build again."
    )
    raise DamagedCacheError(message)


def _whole_part(group: Group, order: Array) -> ShardFiles:
    files = describe(group.key, group.specs, group.layout, group.part.examples, order)
    return ShardFiles(shard=WHOLE_PART, files=files, stats={})
