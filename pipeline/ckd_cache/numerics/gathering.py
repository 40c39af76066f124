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
    ids = np.full((own_valid.size, width), -1, np.int32)
    n_valid = np.zeros(own_valid.size, np.int32)
    places = np.arange(width)
    # Some slots at a time, so that what is sorted stays in the processor's cache.
    for start, stop in iter_ranges(own_valid.size, _SLOTS_AT_ONCE):
        found, count = _of_slots([(one[start:stop], n[start:stop]) for one, n in flat])
        n_valid[start:stop] = count
        ids[start:stop][places < count[:, None]] = found
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


def _of_slots(kept: Sequence[tuple[Array, Array]]) -> tuple[Array, NDArray[np.int64]]:
    """Ids of N slots end to end, and how many each has; the first of ``kept`` is the teacher."""
    own, own_valid = kept[0]
    # Two keys an id: the even one if the teacher itself keeps it, which sorts before the odd one.
    filler = own[:, :1].astype(np.uint32) << 1
    keys = []
    for number, (ids, n_valid) in enumerate(kept):
        used = (np.arange(ids.shape[1]) < n_valid[:, None]) & (own_valid > 0)[:, None]
        keys.append(np.where(used, (ids.astype(np.uint32) << 1) + (number > 0), filler))
    ordered = np.sort(np.concatenate(keys, axis=1), axis=1)
    chosen = (ordered & 1).astype(np.bool_)
    chosen[:, 1:] &= (ordered[:, 1:] >> 1) != (ordered[:, :-1] >> 1)
    return (ordered[chosen] >> 1).astype(np.int32), chosen.sum(axis=1)
