"""The most probable of many masses a slot, ordered by their float32 logprobs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ckd_cache.types import Array

__all__ = ["Ranked", "flat_index", "most_probable"]

_SPARE = np.uint32(2)
"""Leading bits that all float32 from 0 to below 2 have in common: the sign, and that of the
exponent which says 2 or more."""
_MORE = 4
"""Places looked at beyond the last one that is kept, for masses that are almost equal."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """The most probable places at N slots.

    Attributes:
        at: (N, k) flat index of each in an (N, C) array.
        masses: (N, k) float64, divided by their totals, descending.
        logprobs: (N, k) float32, their logs.
    """

    at: NDArray[np.intp]
    masses: NDArray[np.float64]
    logprobs: NDArray[np.float32]


def flat_index(place: Array, width: int) -> NDArray[np.intp]:
    """Index into a flat (N, C) array of places in its rows.

    Args:
        place: (N, k), each below C.
        width: C.
    """
    flat = place.astype(np.intp)
    flat += np.arange(0, len(place) * width, width, dtype=np.intp)[:, None]
    return flat


def most_probable(masses: NDArray[np.float64], totals: NDArray[np.float64], k: int) -> Ranked:
    """The k places of largest float32 log of mass over total, equal ones in their order.

    What is sorted are leading bits of float32 masses, with the place behind them: half as much as
    their logs would take. Where these bits cannot tell, the logs themselves are sorted.

    Args:
        masses: (N, C), at least 0 and below 2.
        totals: (N,), above 0.
        k: places to keep; C if that is less.
    """
    width = masses.shape[1]
    bits = (width - 1).bit_length()
    keys = masses.astype(np.float32).view(np.uint32)
    keys <<= _SPARE
    np.invert(keys, out=keys)
    keys &= ~np.uint32((1 << bits) - 1)
    keys |= np.arange(width, dtype=np.uint32)
    keys.sort(axis=1)
    keys = keys[:, : k + _MORE]
    place = keys & np.uint32((1 << bits) - 1)
    at = flat_index(place, width)
    found = masses.ravel().take(at)
    doubtful = _beyond(found, keys, k, bits) if k + _MORE < width else np.zeros(len(keys), np.bool_)
    found /= totals[:, None]
    losses = _losses(found)
    _mark_unordered(losses, place, doubtful)
    rows = np.flatnonzero(doubtful)
    if rows.size:
        place[rows] = _by_logs(masses[rows] / totals[rows, None], keys.shape[1])
        at[rows] = flat_index(place[rows], width) + (rows - np.arange(rows.size))[:, None] * width
        found[rows] = masses.ravel().take(at[rows]) / totals[rows, None]
        losses[rows] = _losses(found[rows])
    return Ranked(at[:, :k], found[:, :k], -losses[:, :k])


def _losses(masses: NDArray[np.float64]) -> NDArray[np.float32]:
    """Minus logs, from 0 on: rounding may put a mass above 1."""
    with np.errstate(divide="ignore"):
        logs = np.log(masses)
    return np.abs(np.minimum(logs, 0.0, out=logs), out=logs).astype(np.float32)


def _beyond(found: NDArray[np.float64], keys: Array, k: int, bits: int) -> NDArray[np.bool_]:
    """Whether a place that was not looked at might belong to the k most probable, (N,)."""
    highest = (~keys[:, -1] | np.uint32((1 << bits) - 1)) >> _SPARE
    # One more for rounding to float32; and logs above -128 that are the same in float32 differ by
    # less than 2^-16.
    limit = (highest + np.uint32(1)).view(np.float32) * (1.0 + 2.0**-16)
    doubtful: NDArray[np.bool_] = found[:, k - 1] <= limit
    return doubtful


def _mark_unordered(losses: NDArray[np.float32], place: Array, doubtful: NDArray[np.bool_]) -> None:
    """Mark the rows whose places are not in the order of (loss, place)."""
    falls = losses[:, 1:] <= losses[:, :-1]
    # Few do, and of those most are equal and in order.
    row, rank = np.divmod(np.flatnonzero(falls), max(falls.shape[1], 1))
    equal = losses[row, rank] == losses[row, rank + 1]
    in_order = equal & (place[row, rank] < place[row, rank + 1])
    doubtful[row[~in_order]] = True


def _by_logs(masses: NDArray[np.float64], k: int) -> NDArray[np.uint32]:
    # The bits of a float that is not negative ascend with it.
    keys = _losses(masses).view(np.uint32).astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= np.arange(keys.shape[1], dtype=np.uint64)
    keys.sort(axis=1)
    return (keys[:, :k] & np.uint64(0xFFFFFFFF)).astype(np.uint32)
