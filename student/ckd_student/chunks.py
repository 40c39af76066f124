"""Reads a set chunk by chunk and hands out its examples; keeps at most one window of chunks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ckd_cache.numerics.splits import SPLIT_NAMES
from ckd_cache.progress import SILENT, Progress
from ckd_cache.types import Array, iter_ranges
from ckd_student.order import Chunk, chunk_of
from ckd_student.targets import ReadTarget, target_reading

if TYPE_CHECKING:
    from ckd_cache.format.reader import SetReader

__all__ = [
    "ExampleRow",
    "ExampleSource",
    "chunks_of_split",
    "examples_by_split",
]

ExampleRow: TypeAlias = dict[str, Array]
"""One example: ``input_ids``, ``attention_mask``, ``token_type_ids`` (L,), ``slot_positions``,
``slot_mask``, ``gold_ids`` (M,), and with a target ``target_ids``, ``target_logprobs`` (M, k),
``target_n_valid``, ``target_tail`` (M,)."""

_TARGET_ARRAYS = ("ids", "logprobs", "n_valid", "tail")


def chunks_of_split(examples: SetReader, split: str, progress: Progress = SILENT) -> list[Chunk]:
    """The chunks with examples of a split that have a slot, in their order in the set."""
    wanted = SPLIT_NAMES.index(split)
    ranges = _chunk_ranges(examples)
    task = progress.task(f"examples of split {split}", total=len(ranges), unit="chunks")
    chunks = []
    for first, last in ranges:
        takes_part = examples.examples.splits(first, last) == wanted
        if takes_part.any():
            takes_part &= examples.examples.read(first, last).slot_mask.any(axis=1)
        chunk = chunk_of(first, takes_part)
        if chunk.count:
            chunks.append(chunk)
        task.advance()
    task.done()
    return chunks


def examples_by_split(examples: SetReader) -> dict[str, int]:
    """Number of examples of each split, with slots or without."""
    counts = np.zeros(len(SPLIT_NAMES), np.int64)
    for first, last in _chunk_ranges(examples):
        splits = examples.examples.splits(first, last)
        counts += np.bincount(splits, minlength=len(SPLIT_NAMES))
    return dict(zip(SPLIT_NAMES, counts.tolist(), strict=True))


def _chunk_ranges(examples: SetReader) -> list[tuple[int, int]]:
    return [
        (shard.start + start, shard.start + stop)
        for shard in examples.shards()
        for start, stop in iter_ranges(shard.stop - shard.start, examples.layout.chunk_examples)
    ]


@dataclass(slots=True)
class ExampleSource:
    """Examples by number, with their target, cached or merged as their chunk is read.

    Readers are opened on first use and never pickled, so that every DataLoader worker has its own.

    Attributes:
        cache: folder of the cache.
        set_name: the set.
        target: name of the target, or ``live:NAME``; None reads none.
        chunk_examples: examples of a chunk.
        shard_starts: number of the first example of each shard, ascending.
        capacity: chunks that are kept; the one used longest ago goes first.
    """

    cache: Path
    set_name: str
    target: str | None
    chunk_examples: int
    shard_starts: Array
    capacity: int
    _reader: SetReader | None = field(default=None, init=False, repr=False)
    _read_target: ReadTarget | None = field(default=None, init=False, repr=False)
    _shard_stops: list[int] = field(default_factory=list, init=False, repr=False)
    _kept: OrderedDict[int, Mapping[str, Array]] = field(
        default_factory=OrderedDict, init=False, repr=False
    )

    def example(self, number: int) -> ExampleRow:
        """One example; its arrays are views into the chunk's."""
        start = self._chunk_start(number)
        arrays = self._kept.get(start)
        if arrays is None:
            arrays = self._read(start)
            while len(self._kept) >= self.capacity:
                self._kept.popitem(last=False)
            self._kept[start] = arrays
        self._kept.move_to_end(start)
        return {name: array[number - start] for name, array in arrays.items()}

    def __getstate__(self) -> tuple[object, ...]:
        """What another process needs to open the same source."""
        return (
            self.cache,
            self.set_name,
            self.target,
            self.chunk_examples,
            self.shard_starts,
            self.capacity,
        )

    def __setstate__(self, state: tuple[Path, str, str | None, int, Array, int]) -> None:
        """Become a source that has read nothing yet."""
        self.__init__(*state)  # type: ignore[misc]

    def _chunk_start(self, number: int) -> int:
        shard = int(np.searchsorted(self.shard_starts, number, side="right")) - 1
        first = int(self.shard_starts[shard])
        return first + (number - first) // self.chunk_examples * self.chunk_examples

    def _read(self, start: int) -> dict[str, Array]:
        reader = self._open()
        shard = int(np.searchsorted(self.shard_starts, start, side="right")) - 1
        stop = min(start + self.chunk_examples, self._shard_stops[shard])
        examples = reader.examples.read(start, stop)
        arrays: dict[str, Array] = {name: examples[name] for name in examples.keys()}  # noqa: SIM118
        if self._read_target is not None:
            target = self._read_target(start, stop)
            arrays |= {f"target_{name}": target[name] for name in _TARGET_ARRAYS}
        return arrays

    def _open(self) -> SetReader:
        """The set as it is now: it may have grown behind the shards that are known here."""
        if self._reader is None:
            from ckd_cache.format.reader import open_cache

            cache = open_cache(self.cache)
            reader = cache.set(self.set_name)
            if self.target is not None:
                self._read_target = target_reading(cache, self.set_name, self.target)
            self._shard_stops = [shard.stop for shard in reader.shards()]
            self._reader = reader
        return self._reader
