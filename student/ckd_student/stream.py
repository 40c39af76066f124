"""The examples of a split in the order of an epoch, with what the target says at their slots.

    stream = open_stream(Path("runs/quick.ckd"), target="gold", seed=0)
    for example in stream:          # numpy arrays; no torch
        ...

Memory is bounded by one window of chunks, whatever the size of the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ckd_cache.errors import StudentError
from ckd_cache.progress import SILENT, Progress
from ckd_student.chunks import (
    ExampleRow,
    ExampleSource,
    chunks_of_split,
    examples_by_split,
)
from ckd_student.order import Chunk, epoch_order
from ckd_student.targets import check_target

if TYPE_CHECKING:
    from ckd_cache.format.reader import SetReader

__all__ = ["ExampleStream", "open_stream"]


@dataclass(slots=True)
class ExampleStream:
    """The examples of a split, in an order that depends on the epoch.

    Attributes:
        source: where examples are read.
        chunks: the chunks that hold them.
        seed: of the order.
        window: chunks that are shuffled together; 0 keeps the order of the set.
        epoch: whose order iteration follows.
    """

    source: ExampleSource
    chunks: Sequence[Chunk]
    seed: int
    window: int
    epoch: int = 0

    def __len__(self) -> int:
        """Number of examples of an epoch."""
        return sum(chunk.count for chunk in self.chunks)

    def __iter__(self) -> Iterator[ExampleRow]:
        """The examples of the current epoch, in its order."""
        return map(self.source.example, self.numbers())

    def numbers(self) -> Iterator[int]:
        """Numbers of the examples of the current epoch in its order, reading nothing."""
        if self.window == 0:
            for chunk in self.chunks:
                yield from chunk.examples().tolist()
            return
        for window in epoch_order(self.chunks, self.seed, self.epoch, self.window):
            yield from window.tolist()

    def set_epoch(self, epoch: int) -> None:
        """Follow the order of ``epoch`` from the next iteration on."""
        self.epoch = epoch


def open_stream(
    cache: Path,
    *,
    target: str | None,
    set_name: str = "text",
    split: str = "train",
    seed: int = 0,
    window: int = 16,
    progress: Progress = SILENT,
) -> ExampleStream:
    """Stream over the examples of a split that have at least one slot.

    Args:
        cache: folder of the cache.
        target: name of the target to read along, or ``live:NAME`` to merge it as chunks are read;
            None for examples only.
        set_name: the set.
        split: ``train``, ``fit`` or ``test``.
        seed: of the order.
        window: chunks that are shuffled together and kept in memory; 0 keeps the set's order.
        progress: told how far the search for the split's examples is.

    Raises:
        IncompleteCacheError: there is no such set or target, or the target or its teachers lack
            parts.
        MergeError: a live target cannot be merged from what the cache holds.
        StudentError: the split has no example with a slot.
        CkdCacheError: the cache cannot be read.
    """
    from ckd_cache.format.reader import open_cache

    reader = open_cache(cache)
    examples = reader.set(set_name)
    if target is not None:
        check_target(reader, set_name, target)
    chunks = chunks_of_split(examples, split, progress)
    if not chunks:
        raise StudentError(_without_slots(cache, examples, split))
    starts = np.array([shard.start for shard in examples.shards()], dtype=np.int64)
    source = ExampleSource(
        cache, set_name, target, examples.layout.chunk_examples, starts, max(1, window)
    )
    return ExampleStream(source, chunks, seed, window)


def _without_slots(cache: Path, examples: SetReader, split: str) -> str:
    counts = ", ".join(f"{name} {n:,}" for name, n in examples_by_split(examples).items())
    measured = "" if split == "train" else " (none: train without a held-out loss)"
    return (
        f"{cache}: no example of split {split!r} in the set {examples.name!r} has a slot; its "
        f"examples by split: {counts}. Choose another split with data.train or "
        f"data.evaluate{measured} of the student's recipe, or with --split of ckd-student "
        "evaluate; or build a cache with more documents, or with a larger share of this split."
    )
