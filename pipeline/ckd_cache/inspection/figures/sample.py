"""Which chunks of a set are read for figures."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ckd_cache.format.reader import SetReader
from ckd_cache.merge.source import chunk_ranges

__all__ = ["Sample", "sample_chunks"]


@dataclass(frozen=True, slots=True)
class Sample:
    """Evenly spaced chunks.

    Attributes:
        ranges: first example and example after the last one of each chunk that is read.
        every: of so many chunks one is read.
        chunks: chunks there are.
        slots: used slots there are.
    """

    ranges: tuple[tuple[int, int], ...]
    every: int
    chunks: int
    slots: int


def sample_chunks(reader: SetReader, parts: Collection[str], most: int) -> Sample:
    """Every k-th chunk of some parts, with the least k that reads about ``most`` slots.

    Whole chunks are read, the first among them, so that a small ``most`` may be exceeded.

    Args:
        reader: of the set.
        parts: names of the parts to read.
        most: slots wanted; all are read where there are no more.
    """
    chosen = [part for part in reader.record.parts if part.name in parts]
    spans = [(part.first_example, part.first_example + part.examples) for part in chosen]
    ranges = [
        (start, stop)
        for start, stop in chunk_ranges(reader, 0, reader.n_examples)
        if any(first <= start < last for first, last in spans)
    ]
    slots = sum(part.slots for part in chosen)
    every = max(1, -(-slots // most))
    return Sample(tuple(ranges[::every]), every, len(ranges), slots)
