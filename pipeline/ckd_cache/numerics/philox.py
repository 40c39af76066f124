"""Raw words of the counter-based generator behind masks and controls (docs/format.md, Slots)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["words", "words_at"]

_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_KEY_STEPS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_ROUNDS = 10
_ALL = (1 << 64) - 1
_LOW = (1 << 32) - 1


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


def words_at(
    seed: int, purpose: int, example: NDArray[np.int64], slot: NDArray[np.int64], count: int
) -> NDArray[np.uint64]:
    """The first ``count`` words of each of N slots, all slots at once.

    Block b = 1, 2, … of Philox4x64-10 with key (seed, 0) and counter (b, example, slot, purpose)
    gives words 4(b-1) … 4(b-1)+3 of a slot. Masks have 0 in the place of the purpose.

    Args:
        seed: 0 … 2^64 - 1.
        purpose: what the words decide, 1 … 2^64 - 1: words of other purposes are independent.
        example: (N,) number of the example in its set.
        slot: (N,) number of the slot in its example.
        count: how many words.

    Returns:
        (N, count) uint64.
    """
    blocks = -(-count // 4)
    shape = (example.size, blocks)
    counter = [
        np.broadcast_to(np.asarray(part).astype(np.uint64), shape)
        for part in (
            np.arange(1, blocks + 1),
            example[:, None],
            slot[:, None],
            np.array(purpose, dtype=np.uint64),
        )
    ]
    found = np.stack(_encrypted(counter, (seed, 0)), axis=-1)
    result: NDArray[np.uint64] = found.reshape(example.size, 4 * blocks)[:, :count]
    return result


def _encrypted(counter: list[NDArray[np.uint64]], key: tuple[int, int]) -> list[NDArray[np.uint64]]:
    """Salmon et al. (2011), section 4.1: four words of each counter."""
    first, second = key
    for _ in range(_ROUNDS):
        high_0, low_0 = _product(_MULTIPLIERS[0], counter[0])
        high_1, low_1 = _product(_MULTIPLIERS[1], counter[2])
        counter = [
            high_1 ^ counter[1] ^ np.uint64(first),
            low_1,
            high_0 ^ counter[3] ^ np.uint64(second),
            low_0,
        ]
        first, second = (first + _KEY_STEPS[0]) & _ALL, (second + _KEY_STEPS[1]) & _ALL
    return counter


def _product(
    factor: int, words: NDArray[np.uint64]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Upper and lower 64 bits of a product of 64-bit words, from products of their halves."""
    low, high = np.uint64(factor & _LOW), np.uint64(factor >> 32)
    words_low, words_high = words & np.uint64(_LOW), words >> np.uint64(32)
    low_high, high_low = low * words_high, high * words_low
    carry = (low * words_low >> np.uint64(32)) + (low_high & np.uint64(_LOW))
    carry += high_low & np.uint64(_LOW)
    upper = high * words_high + (low_high >> np.uint64(32)) + (high_low >> np.uint64(32))
    upper += carry >> np.uint64(32)
    lower = np.uint64(factor) * words
    return upper, lower
