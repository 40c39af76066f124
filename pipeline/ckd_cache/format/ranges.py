"""Which shards of which parts a range of examples falls into."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ckd_cache.errors import IncompleteCacheError
from ckd_cache.format.manifest import PartRecord, SetRecord
from ckd_cache.format.spec import Layout, shard_count, shard_range

__all__ = ["Piece", "ShardRange", "check_range", "pieces_of", "shard_ranges"]


@dataclass(frozen=True, slots=True)
class ShardRange:
    """A shard, by the examples of the set that it holds, half-open.

    Attributes:
        part: name of the part.
        shard: number of the shard within the part.
        start: first example.
        stop: example after the last one.
    """

    part: str
    shard: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Piece:
    """The part of a read that falls into one shard.

    Attributes:
        part: the part.
        shard: number of the shard within the part.
        start: first example wanted, counted within the part.
        stop: example after the last one wanted, counted within the part.
        shard_start: first example of the shard, counted within the part.
    """

    part: PartRecord
    shard: int
    start: int
    stop: int
    shard_start: int

    @property
    def where(self) -> str:
        """Shard and examples (of the set), for messages."""
        first = self.part.first_example
        return f"shard {self.shard}, examples {first + self.start} to {first + self.stop - 1}"


def shard_ranges(record: SetRecord, layout: Layout) -> list[ShardRange]:
    """All shards of a set in order."""
    ranges = []
    for part in record.parts:
        for shard in range(shard_count(part.examples, layout)):
            start, stop = shard_range(shard, part.examples, layout)
            first = part.first_example
            ranges.append(ShardRange(part.name, shard, first + start, first + stop))
    return ranges


def check_range(start: int, stop: int, examples: int, where: str) -> None:
    """Refuse a range of examples that is not one of the set's.

    Raises:
        IncompleteCacheError: unless 0 <= start <= stop <= examples.
    """
    if not 0 <= start <= stop <= examples:
        message = (
            f"{where}: examples {start} to {stop} were asked for; it has {examples}, so"
            f" 0 <= start <= stop <= {examples} is needed."
        )
        raise IncompleteCacheError(message)


def pieces_of(record: SetRecord, layout: Layout, start: int, stop: int) -> Iterator[Piece]:
    """The shards that examples ``start`` to ``stop`` fall into, in order."""
    for part in record.parts:
        first = max(start - part.first_example, 0)
        last = min(stop - part.first_example, part.examples)
        while first < last:
            shard = first // layout.shard_examples
            shard_start, shard_stop = shard_range(shard, part.examples, layout)
            yield Piece(part, shard, first, min(last, shard_stop), shard_start)
            first = shard_stop
