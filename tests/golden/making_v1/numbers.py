"""What a reader must see of numbers that were stored: docs/format.md done with NumPy alone."""

from __future__ import annotations

import numpy as np

from ckd_cache.types import Array, TargetArrays, TeacherArrays

GRID = 2.0**-10


def expected_teacher(arrays: TeacherArrays, step: float, at_1: int) -> dict[str, Array]:
    """Decoded arrays of a teacher.

    Args:
        arrays: as they were before they were rounded for the disk.
        step: of the logprobs; 0 stores exactly.
        at_1: index of temperature 1.
    """
    used = arrays.n_valid > 0
    tail = _tail(arrays.tail, step)
    return {
        **_head(arrays, tail[..., at_1], step),
        "tail": _unused(tail, used),
        "logsumexp": _unused(_grid(arrays.logsumexp, step), used),
        "entropy": _unused(_half(arrays.entropy) if step else arrays.entropy, used),
        "gold_logprob": _unused(_grid(arrays.gold_logprob, step), used),
        "gold_rank": np.where(used, arrays.gold_rank, 0).astype(np.uint32),
    }


def expected_target(arrays: TargetArrays, step: float) -> dict[str, Array]:
    """Decoded arrays of a target, of what they were before they were rounded for the disk."""
    used = arrays.n_valid > 0
    tail = _tail(arrays.tail, step)
    weights: Array = arrays.weights
    doubt: Array = arrays.uncertain
    if step:
        values = arrays.weights.astype(np.float64)
        shares = np.rint(values / values.max(axis=-1, keepdims=True) * 65535)
        weights = shares / shares.sum(axis=-1, keepdims=True)
        doubt = _half(arrays.uncertain)
        above = np.nextafter(doubt, np.float16(np.inf))
        doubt = np.where(doubt.astype(np.float64) < arrays.uncertain, above, doubt)
    return {
        **_head(arrays, tail, step),
        "tail": _unused(tail, used),
        "weights": _unused(weights, used),
        "uncertain": _unused(doubt, used),
        "gold_logprob": _unused(_grid(arrays.gold_logprob, step), used),
    }


def _head(arrays: TeacherArrays | TargetArrays, tail: Array, step: float) -> dict[str, Array]:
    used = arrays.n_valid > 0
    kept = np.arange(arrays.ids.shape[-1]) < arrays.n_valid[..., None]
    logprobs = arrays.logprobs.astype(np.float64)
    if step:
        raw = np.where(kept, -step * np.rint(-np.where(kept, logprobs, 0) / step), -np.inf)
        with np.errstate(divide="ignore", invalid="ignore"):
            head = np.log(-np.expm1(tail.astype(np.float64)))
            logprobs = raw + (head - np.logaddexp.reduce(raw, axis=-1))[..., None]
    logprobs = np.where(kept, logprobs, -np.inf)
    return {
        "ids": np.where(kept, arrays.ids, 0).astype(np.int32),
        "logprobs": _unused(logprobs, used),
        "n_valid": arrays.n_valid.astype(np.int32),
    }


def _tail(tail: Array, step: float) -> Array:
    if not step:
        return tail
    half = _half(tail)
    return np.where((half == 0) & (tail < 0), np.float16(-(2.0**-24)), half)


def _half(values: Array) -> Array:
    return values.astype(np.float16)


def _grid(values: Array, step: float) -> Array:
    return np.rint(values.astype(np.float64) / GRID) * GRID if step else values


def _unused(values: Array, used: Array) -> Array:
    """The values as float32, NaN at unused slots."""
    there = used if values.ndim == used.ndim else used[..., None]
    return np.where(there, values, np.nan).astype(np.float32)
