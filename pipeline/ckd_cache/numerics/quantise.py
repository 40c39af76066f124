"""How numbers are rounded on their way to disk, and read back (docs/format.md, encodings)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ckd_cache.numerics.logspace import log_probability
from ckd_cache.types import Array, iter_ranges

__all__ = [
    "GRID_STEP",
    "float_up",
    "from_drops",
    "from_share",
    "half_up",
    "level_dtype",
    "step_of",
    "to_drops",
    "to_grid",
    "to_half",
    "to_share",
]

GRID_STEP = 2.0**-10
"""Step in nats of the arrays with the encoding ``grid``."""

_NATS_COVERED = 800.0
_LARGEST_SHARE = 65535.0
_SLOTS_AT_ONCE = 2048


def step_of(max_nats: float) -> float:
    """Step of the logprob grid that costs ``max_nats`` on average; 0.0 for ``max_nats`` = 0.

    Rounding errors uniform on a grid of step D change KL by D^2/24 on average (half the variance
    D^2/12 of the error of a logprob), hence D = sqrt(24 * max_nats).
    """
    return math.sqrt(24.0 * max_nats)


def level_dtype(step: float) -> np.dtype[Any]:
    """Type of stored drops: uint16 if its range covers 800 nats at ``step``, else uint32."""
    small = np.iinfo(np.uint16).max * step >= _NATS_COVERED
    return np.dtype(np.uint16 if small else np.uint32)


def to_drops(logprobs: ArrayLike, n_valid: ArrayLike, step: float) -> NDArray[Any]:
    """Levels on the grid, as the level of rank 0 and the differences between neighbouring ranks.

    Levels are rounded half to even and saturate at the largest value of their type.

    Args:
        logprobs: (..., k), descending over the kept ranks; anything beyond ``n_valid``.
        n_valid: (...), number of kept entries.
        step: width of the grid in nats, > 0.

    Returns:
        (..., k) of ``level_dtype(step)``; 0 from rank ``n_valid`` on.
    """
    dtype = level_dtype(step)
    values = np.asarray(logprobs, dtype=np.float64)
    kept = _kept(values.shape[-1], n_valid)
    scaled = np.rint(-np.where(kept, values, 0.0) / step)
    levels = np.clip(scaled, 0.0, float(np.iinfo(dtype).max)).astype(np.int64)
    levels = np.maximum.accumulate(levels, axis=-1)
    drops = np.diff(levels, axis=-1, prepend=np.int64(0))
    return np.where(kept, drops, 0).astype(dtype)


def from_drops(
    drops: ArrayLike, n_valid: ArrayLike, tail: ArrayLike, step: float
) -> NDArray[np.float32]:
    """Logprobs of stored drops, rescaled so that the kept entries sum to ``1 - exp(tail)``.

    Args:
        drops: (..., k) as ``to_drops`` gives them.
        n_valid: (...), number of kept entries.
        tail: (...), log of the mass outside the kept entries; ignored where ``n_valid`` is 0.
        step: width of the grid in nats.

    Returns:
        (..., k): -inf from rank ``n_valid`` on; NaN throughout where ``n_valid`` is 0.
    """
    stored = np.asarray(drops)
    k, slots = stored.shape[-1], stored.shape[:-1]
    valid = np.broadcast_to(n_valid, slots).reshape(-1)
    outside = np.broadcast_to(np.asarray(tail, dtype=np.float64), slots).reshape(-1)
    ranks = np.moveaxis(stored, -1, 0).reshape(k, -1)
    result = np.empty((valid.size, k), np.float32)
    # Some slots at a time: then the memory of one round serves the next.
    for start, stop in iter_ranges(valid.size, _SLOTS_AT_ONCE):
        at = slice(start, stop)
        result[at] = _logprobs(ranks[:, at], valid[at], outside[at], step).T
    return result.reshape(*slots, k)


def _logprobs(
    ranks: Array, valid: Array, outside: NDArray[np.float64], step: float
) -> NDArray[np.float64]:
    """(k, N) logprobs of (k, N) drops; arguments as of ``from_drops``, one entry a slot."""
    k = len(ranks)
    # float32 holds the levels of uint16 drops exactly, and is twice as fast.
    levels = ranks.astype(np.float32 if ranks.dtype == np.uint16 else np.float64, order="C")
    # Row by row: NumPy accumulates along the first axis six times more slowly.
    for rank in range(1, k):
        levels[rank] += levels[rank - 1]
    short = np.flatnonzero(valid < k)
    levels[:, short] = np.where(_kept(k, valid[short]).T, levels[:, short], np.inf)
    used = valid > 0
    # As a sum of logs needs it: to 1e-16 nats, not to as many digits as log1mexp gives.
    head = log_probability(-np.expm1(np.where(used, outside, -np.inf)))
    shift = np.where(used, head - _log_sum(levels, used, step), np.nan)
    values: NDArray[np.float64] = np.multiply(levels, -step, dtype=np.float64)
    values += shift
    return values


def _log_sum(levels: Array, used: NDArray[np.bool_], step: float) -> NDArray[np.float64]:
    """Log of the sum over ranks of exp(-step * level); row 0 is the lowest level."""
    lowest = np.where(used, levels[0], 0)
    powers = levels - lowest
    powers *= -step
    # In float32 the sum is off by 1e-7 of itself, which is what the result is rounded to.
    powers = powers.astype(np.float32, copy=False)
    np.exp(powers, out=powers)
    total = np.where(used, powers.sum(axis=0, dtype=np.float64), 1.0)
    result: NDArray[np.float64] = np.log(total) - step * lowest.astype(np.float64)
    return result


def to_grid(x: ArrayLike, step: float = GRID_STEP) -> NDArray[np.float32]:
    """Nearest multiples of ``step``, halves to even; NaN and infinities stay."""
    return (np.rint(np.asarray(x, dtype=np.float64) / step) * step).astype(np.float32)


def to_half(x: ArrayLike) -> NDArray[np.float16]:
    """Nearest float16; magnitudes beyond its range become infinite (as a log: probability 0)."""
    with np.errstate(over="ignore"):
        return np.asarray(x, dtype=np.float64).astype(np.float16)


def half_up(x: ArrayLike) -> NDArray[np.float16]:
    """Smallest float16 that is not below ``x``; NaN stays NaN."""
    return _up(x, np.dtype(np.float16))


def float_up(x: ArrayLike) -> NDArray[np.float32]:
    """Smallest float32 that is not below the float64 ``x``; NaN stays NaN."""
    return _up(x, np.dtype(np.float32))


def to_share(weights: ArrayLike) -> NDArray[np.uint16]:
    """Weights as integers relative to the largest of each row, which becomes 65535.

    Equal weights are therefore read back exactly equal. A row with NaN (an unused slot) becomes 0.

    Args:
        weights: (..., S), non-negative, of positive sum.
    """
    values = np.asarray(weights, dtype=np.float64)
    used = ~np.isnan(values).any(axis=-1, keepdims=True)
    values = np.where(used, values, 1.0)
    shares = np.rint(values / values.max(axis=-1, keepdims=True) * _LARGEST_SHARE)
    return np.where(used, shares, 0.0).astype(np.uint16)


def from_share(stored: ArrayLike) -> NDArray[np.float32]:
    """Weights of stored shares: each divided by the sum of its row; NaN where the sum is 0."""
    values = np.asarray(stored, dtype=np.float64)
    total = values.sum(axis=-1, keepdims=True)
    return (values / np.where(total > 0.0, total, np.nan)).astype(np.float32)


def _kept(k: int, n_valid: ArrayLike) -> NDArray[np.bool_]:
    kept: NDArray[np.bool_] = np.arange(k) < np.asarray(n_valid)[..., None]
    return kept


def _up(x: ArrayLike, dtype: np.dtype[Any]) -> NDArray[Any]:
    values = np.asarray(x, dtype=np.float64)
    with np.errstate(over="ignore"):
        nearest = values.astype(dtype)
        above = np.nextafter(nearest, dtype.type(np.inf))
    return np.where(nearest.astype(np.float64) < values, above, nearest)
