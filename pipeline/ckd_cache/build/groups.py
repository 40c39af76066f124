"""Filling the Zarr group of a teacher or a target, and adding up what its shards say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ckd_cache.format.journal import Journal
from ckd_cache.format.manifest import PartRecord
from ckd_cache.format.spec import WHOLE_PART, ArraySpec, Layout, shard_count, shard_range
from ckd_cache.format.workspace import ShardFiles
from ckd_cache.format.zarr_io import describe, encode_shard
from ckd_cache.types import Array, JsonObject, JsonValue

__all__ = ["Group", "ShardResult", "add_stats", "group_shards"]


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
    group: Group, journal: Journal, compute: Callable[[int, int, int], ShardResult]
) -> Iterator[ShardFiles]:
    """The group's metadata documents and its shards, as far as the journal lacks them.

    Args:
        group: what is filled.
        journal: of its part.
        compute: arrays of a shard, given its number and its examples (half-open, counted over
            the set).
    """
    finished = {line.shard for line in journal.lines}
    examples = group.part.examples
    if WHOLE_PART not in finished:
        documents = describe(group.key, group.specs, group.layout, examples)
        yield ShardFiles(shard=WHOLE_PART, files=documents, stats={})
    for shard in range(shard_count(examples, group.layout)):
        if shard in finished:
            continue
        start, stop = shard_range(shard, examples, group.layout)
        first = group.part.first_example
        result = compute(shard, first + start, first + stop)
        files = encode_shard(group.key, group.specs, group.layout, examples, shard, result.arrays)
        yield ShardFiles(shard=shard, files=files, stats=result.stats)


def add_stats(stats: Sequence[JsonObject]) -> JsonObject:
    """Figures of a part from those of its shards: sums, but the largest of each ``…_max``."""
    total: JsonObject = {}
    for one in stats:
        for name, value in one.items():
            total[name] = _combined(name, total.get(name), value)
    return total


def _combined(name: str, so_far: JsonValue, value: JsonValue) -> JsonValue:
    if so_far is None:
        return value
    if isinstance(value, dict):
        return add_stats([so_far, value])
    return max(so_far, value) if name.endswith("_max") else so_far + value
