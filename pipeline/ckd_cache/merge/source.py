"""The teachers of a set, found and ready to be read side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ckd_cache.errors import MergeError
from ckd_cache.format.reader import CacheReader, SetReader
from ckd_cache.format.spec import Capture
from ckd_cache.merge.lineup import Member, lineup_of
from ckd_cache.merge.twins import TwinReader, twin_reader
from ckd_cache.types import iter_ranges

__all__ = ["MergeSource", "chunk_ranges", "merge_source"]


@dataclass(frozen=True)
class MergeSource:
    """The teachers of a set, ready to be read side by side.

    Attributes:
        cache: the open cache.
        reader: of the set.
        names: of the S teachers, in the order of the weights.
        members: where each of them lies.
        twins: readers of those with another tokenizer, by name.
    """

    cache: CacheReader
    reader: SetReader
    names: tuple[str, ...]
    members: tuple[Member, ...]
    twins: Mapping[str, TwinReader]

    @property
    def captures(self) -> tuple[Capture, ...]:
        """What was kept of each teacher."""
        return tuple(one.record.capture for one in self.members)

    @property
    def support_size(self) -> int:
        """Size of the set's support."""
        return self.reader.layout.support_size


def merge_source(cache: CacheReader, set_name: str, teachers: Sequence[str]) -> MergeSource:
    """The teachers of these names.

    Raises:
        IncompleteCacheError: there is no such set.
        MergeError: it has no such teacher, or none of them has the set's tokenizer.
    """
    reader = cache.set(set_name)
    members = lineup_of(cache.manifest, set_name)
    unknown = [name for name in teachers if name not in members]
    if not teachers:
        message = (
            f"{cache.path}: no teacher of set {set_name} was named, expected at least one; there is"
            f" {', '.join(members) or 'none yet: build with a recipe that names teachers'}."
        )
        raise MergeError(message)
    if unknown:
        message = (
            f"{cache.path}: set {set_name} has no teacher {', '.join(unknown)}; it has "
            f"{', '.join(members) or 'none'}. Name some of these, or build the teacher first."
        )
        raise MergeError(message)
    chosen = tuple(members[name] for name in teachers)
    if all(one.twin for one in chosen):
        message = (
            f"{cache.path}: {', '.join(teachers)} of set {set_name} all have another tokenizer than"
            " the set, so at many slots there would be nothing to mix. Name a teacher with the"
            f" set's own tokenizer too; there is {', '.join(reader.record.teachers) or 'none'}."
        )
        raise MergeError(message)
    twins = {
        name: twin_reader(cache, set_name, one.set_name, name)
        for name, one in zip(teachers, chosen, strict=True)
        if one.twin
    }
    return MergeSource(cache, reader, tuple(teachers), chosen, twins)


def chunk_ranges(reader: SetReader, start: int, stop: int) -> list[tuple[int, int]]:
    """The examples ``start`` to ``stop``, cut where chunks and shards end."""
    ranges = []
    for shard in reader.shards():
        for first, last in iter_ranges(shard.stop - shard.start, reader.layout.chunk_examples):
            low, high = max(start, shard.start + first), min(stop, shard.start + last)
            if low < high:
                ranges.append((low, high))
    return ranges
