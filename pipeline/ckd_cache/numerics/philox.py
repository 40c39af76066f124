"""Raw words of the counter-based generator that decides masks (docs/format.md, Slots)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["words"]


def words(seed: int, view: int, segment: int, count: int) -> NDArray[np.uint64]:
    """The first ``count`` words of a segment in a view.

    Block b = 1, 2, … of Philox4x64-10 with key (seed, view) and counter (b, segment, 0, 0) gives
    words 4(b-1) … 4(b-1)+3. Only raw words are used: the distributions that numpy derives from
    them may change between its versions, the words may not.

    Source: J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

    Args:
        seed: seed of the masks, 0 … 2^64 - 1.
        view: number of the view, 0 … 2^64 - 1.
        segment: number of the segment across increments, 0 … 2^64 - 1.
        count: how many words.

    Returns:
        (count,) uint64.
    """
    key = np.array([seed, view], dtype=np.uint64)
    # numpy increments the counter before it makes a block, so the first block has b = 1.
    counter = np.array([0, segment, 0, 0], dtype=np.uint64)
    raw: NDArray[np.uint64] = np.random.Philox(key=key, counter=counter).random_raw(count)
    return raw
