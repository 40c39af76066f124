"""The order of examples in an epoch: a pure function of (seed, epoch, chunks, window).

The chunks of all parts are permuted; windows of ``window`` chunks in a row are each shuffled by
example. So a reader needs only one window in memory, and reads each chunk once an epoch.

Every permutation sorts raw 64-bit words of Philox4x64-10 with key (seed, epoch) and counter
(b, stream, 1, 0), stream 0 for the chunks and 1 + w for window w; ties by position. Library
shuffles may change between versions, raw words do not. The third word of the counter keeps these
words apart from those that chose the slots.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ckd_cache.types import iter_ranges

__all__ = ["Chunk", "chunk_of", "epoch_order"]

_SHUFFLES = 1


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """The examples of one chunk that take part.

    Attributes:
        start: number of the chunk's first example in the set.
        stop: number after its last example.
        bits: which of its examples take part, eight to a byte.
        count: how many take part, at least 1.
    """

    start: int
    stop: int
    bits: NDArray[np.uint8]
    count: int

    def examples(self) -> NDArray[np.int64]:
        """Numbers of the examples that take part, ascending, (count,) int64."""
        taken = np.unpackbits(self.bits, count=self.stop - self.start)
        return self.start + np.flatnonzero(taken).astype(np.int64)


def chunk_of(start: int, takes_part: NDArray[np.bool_]) -> Chunk:
    """Chunk of the examples ``start`` … ``start`` + n of which some take part.

    Args:
        start: number of the first example.
        takes_part: (n,) bool.
    """
    count = int(np.count_nonzero(takes_part))
    return Chunk(start, start + takes_part.shape[0], np.packbits(takes_part), count)


def epoch_order(
    chunks: Sequence[Chunk], seed: int, epoch: int, window: int
) -> Iterator[NDArray[np.int64]]:
    """Numbers of all examples that take part, each once, window by window.

    Args:
        chunks: of all parts, in their order in the set.
        seed: 0 … 2^64 - 1.
        epoch: from 0.
        window: chunks that are shuffled together.

    Yields:
        (n,) int64, the order of one window.
    """
    permuted = _permutation(len(chunks), seed, epoch, 0)
    for number, (start, stop) in enumerate(iter_ranges(len(chunks), window)):
        examples = np.concatenate([chunks[at].examples() for at in permuted[start:stop]])
        yield examples[_permutation(examples.shape[0], seed, epoch, 1 + number)]


def _permutation(count: int, seed: int, epoch: int, stream: int) -> NDArray[np.intp]:
    source = np.random.Philox(
        key=np.array([seed, epoch], dtype=np.uint64),
        counter=np.array([0, stream, _SHUFFLES, 0], dtype=np.uint64),
    )
    return np.argsort(source.random_raw(count), kind="stable")
