"""Which ids of a union a teacher does not keep, and how their logprobs are rounded.

Nothing but the kept ids of a group's teachers says which ids these are, so they are not stored.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ckd_cache.numerics.quantise import level_dtype
from ckd_cache.types import Array, iter_ranges

__all__ = ["from_levels", "gathered_ids", "to_levels"]

_SLOTS_AT_ONCE = 2048


def gathered_ids(
    own: Array, own_valid: Array, others: Sequence[tuple[Array, Array]], width: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Ids that others keep at a slot and a teacher does not, ascending.

    Args:
        own: (..., k) ids that the teacher keeps, by rank.
        own_valid: (...) how many of them are kept; 0 at unused slots, where nothing is gathered.
        others: of each other teacher the same two arrays; their k may differ.
        width: most ids that there can be of a slot.

    Returns:
        ids: (..., width) int32, -1 from ``n_valid`` on.
        n_valid: (...) int32, how many there are.
    """
    shape = own_valid.shape
    flat = [_flat(own, own_valid), *(_flat(*one) for one in others)]
    ids = np.empty((own_valid.size, width), np.int32)
    n_valid = np.empty(own_valid.size, np.int32)
    places = np.arange(width)
    # Some slots at a time, so that what is sorted stays in the processor's cache.
    for start, stop in iter_ranges(own_valid.size, _SLOTS_AT_ONCE):
        keys, count = _of_slots([(one[start:stop], n[start:stop]) for one, n in flat])
        there = min(keys.shape[1], width)
        ids[start:stop, :there] = keys[:, :there] >> 1
        ids[start:stop][places >= count[:, None]] = -1
        n_valid[start:stop] = count
    return ids.reshape(*shape, width), n_valid.reshape(shape)


def to_levels(logprobs: ArrayLike, n_valid: ArrayLike, step: float) -> NDArray[np.unsignedinteger]:
    """Logprobs on the grid, each by itself: round(-logprob / step), halves to even.

    The largest value of the type is probability 0; levels saturate at the one below it.

    Args:
        logprobs: (..., width); anything beyond ``n_valid``.
        n_valid: (...), how many there are.
        step: width of the grid in nats, > 0.

    Returns:
        (..., width) of ``level_dtype(step)``; 0 from ``n_valid`` on.
    """
    dtype = level_dtype(step)
    zero = int(np.iinfo(dtype).max)
    values = np.asarray(logprobs, dtype=np.float64)
    there = np.arange(values.shape[-1]) < np.asarray(n_valid)[..., None]
    finite = there & np.isfinite(values)
    levels = np.clip(np.rint(-np.where(finite, values, 0.0) / step), 0.0, float(zero - 1))
    stored: NDArray[np.unsignedinteger] = np.where(there & ~finite, zero, levels).astype(dtype)
    return stored


def from_levels(levels: Array, n_valid: Array, step: float) -> NDArray[np.float32]:
    """Logprobs of stored levels: -step · level.

    Args:
        levels: (..., width) as ``to_levels`` gives them.
        n_valid: (...), how many there are.
        step: width of the grid in nats.

    Returns:
        (..., width) float32; -inf where the probability is 0, and from ``n_valid`` on.
    """
    there = np.arange(levels.shape[-1]) < n_valid[..., None]
    there &= levels != np.iinfo(levels.dtype).max
    values = (levels * -step).astype(np.float32)
    return np.where(there, values, np.float32(-np.inf))


def _flat(ids: Array, n_valid: Array) -> tuple[Array, Array]:
    return ids.reshape(-1, ids.shape[-1]), n_valid.reshape(-1)


def _of_slots(kept: Sequence[tuple[Array, Array]]) -> tuple[NDArray[np.uint32], NDArray[np.intp]]:
    """Keys of the gathered ids of N slots, ascending, and how many there are of each slot.

    Of two keys an id, the even one stands for an id that the teacher itself keeps (the first of
    ``kept``), the odd one, which sorts behind it, for one that another does.
    """
    keys: NDArray[np.uint32] = np.concatenate(
        [ids for ids, _ in kept], axis=1, dtype=np.uint32, casting="unsafe"
    )
    keys <<= 1
    own = kept[0][0].shape[1]
    keys[:, own:] |= 1
    _fill_short(keys, kept)
    keys.sort(axis=1)
    chosen = (keys & 1).astype(np.bool_)
    chosen[:, 1:] &= (keys[:, 1:] ^ keys[:, :-1]) > 1
    # All bits set where nothing is chosen; sorting once more is faster than picking the others.
    front = keys | (chosen.astype(np.uint32) - np.uint32(1))
    front.sort(axis=1)
    return front, np.count_nonzero(chosen, axis=1)


def _fill_short(keys: NDArray[np.uint32], kept: Sequence[tuple[Array, Array]]) -> None:
    """Put a key of the teacher itself, of which it has one anyway, where nothing is kept."""
    own_valid = kept[0][1]
    first = 0
    for ids, n_valid in kept:
        k = ids.shape[1]
        short = np.flatnonzero((n_valid < k) | (own_valid == 0))
        if short.size:
            there = np.arange(k) < np.where(own_valid[short] > 0, n_valid[short], 0)[:, None]
            block = keys[short, first : first + k]
            keys[short, first : first + k] = np.where(there, block, keys[short, :1])
        first += k
