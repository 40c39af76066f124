"""Distributions to stored arrays and back, for whole shards (docs/format.md, Teachers, targets …).

``decode_*`` of ``encode_*`` is what a reader sees; statistics are computed from that.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ckd_cache.format.spec import Capture, id_dtype
from ckd_cache.numerics.quantise import (
    float_up,
    from_drops,
    from_share,
    half_up,
    to_drops,
    to_grid,
    to_half,
    to_share,
)
from ckd_cache.types import Array, TargetArrays, TeacherArrays, iter_ranges

__all__ = ["decode_target", "decode_teacher", "encode_target", "encode_teacher", "order_of"]

_SLOTS_AT_ONCE = 2048
_HALF_CLOSEST_TO_ZERO = np.float16(-(2.0**-24))


def order_of(arrays: TeacherArrays | TargetArrays, size: int) -> Array:
    """Ids by how often each is kept: frequency descending, ties by id ascending.

    Args:
        arrays: of some examples.
        size: entries of the support, V.

    Returns:
        (V,) of the type of stored ids.
    """
    kept = arrays.ids[_kept(arrays.ids.shape[-1], arrays.n_valid)]
    counts = np.bincount(kept, minlength=size)
    return np.argsort(-counts, kind="stable").astype(id_dtype(size))


def encode_teacher(arrays: TeacherArrays, capture: Capture, order: Array) -> dict[str, Array]:
    """Stored arrays of a teacher, by name.

    Args:
        arrays: of B examples, unquantised.
        capture: how exactly to store them.
        order: (V,) id by row of the group's ``order``.

    Raises:
        ValueError: an id is outside the support.
    """
    used = arrays.n_valid > 0
    return {
        **_encode_head(arrays, capture, order),
        "tail": _zero_unused(_encode_tail(arrays.tail, capture), used),
        "logsumexp": _zero_unused(_encode_grid(arrays.logsumexp, capture), used),
        "entropy": _zero_unused(_encode_scalar(arrays.entropy, capture), used),
        "gold_logprob": _zero_unused(_encode_grid(arrays.gold_logprob, capture), used),
        "gold_rank": _zero_unused(arrays.gold_rank.astype(np.uint32), used),
    }


def decode_teacher(stored: Mapping[str, Array], capture: Capture, order: Array) -> TeacherArrays:
    """Arrays of a teacher from what ``encode_teacher`` gave.

    Raises:
        ValueError: a stored number cannot have been written.
    """
    n_valid = _decode_n_valid(stored["n_valid"], capture)
    tail = _nan_unused(stored["tail"], n_valid)
    return TeacherArrays(
        ids=_decode_ids(stored["ids"], n_valid, order),
        logprobs=_decode_logprobs(
            stored["logprobs"], n_valid, _at_temperature_1(tail, capture), capture
        ),
        n_valid=n_valid,
        tail=tail,
        logsumexp=_nan_unused(stored["logsumexp"], n_valid),
        entropy=_nan_unused(stored["entropy"], n_valid),
        gold_logprob=_nan_unused(stored["gold_logprob"], n_valid),
        gold_rank=stored["gold_rank"].astype(np.uint32),
    )


def encode_target(arrays: TargetArrays, capture: Capture, order: Array) -> dict[str, Array]:
    """Stored arrays of a target, by name.

    Args:
        arrays: of B examples, unquantised.
        capture: how exactly to store them.
        order: (V,) id by row of the group's ``order``.

    Raises:
        ValueError: an id is outside the support.
    """
    used = arrays.n_valid > 0
    weights = np.where(used[..., None], arrays.weights, np.nan)
    uncertain = float_up(arrays.uncertain) if capture.exact else half_up(arrays.uncertain)
    shares = weights.astype(np.float32) if capture.exact else to_share(weights)
    return {
        **_encode_head(arrays, capture, order),
        "tail": _zero_unused(_encode_tail(arrays.tail, capture), used),
        "weights": _zero_unused(shares, used),
        "uncertain": _zero_unused(uncertain, used),
        "gold_logprob": _zero_unused(_encode_grid(arrays.gold_logprob, capture), used),
    }


def decode_target(stored: Mapping[str, Array], capture: Capture, order: Array) -> TargetArrays:
    """Arrays of a target from what ``encode_target`` gave.

    Raises:
        ValueError: a stored number cannot have been written.
    """
    n_valid = _decode_n_valid(stored["n_valid"], capture)
    tail = _nan_unused(stored["tail"], n_valid)
    weights = stored["weights"] if capture.exact else from_share(stored["weights"])
    return TargetArrays(
        ids=_decode_ids(stored["ids"], n_valid, order),
        logprobs=_decode_logprobs(stored["logprobs"], n_valid, tail, capture),
        n_valid=n_valid,
        tail=tail,
        weights=_nan_unused(weights, n_valid),
        uncertain=_nan_unused(stored["uncertain"], n_valid),
        gold_logprob=_nan_unused(stored["gold_logprob"], n_valid),
    )


def _encode_head(
    arrays: TeacherArrays | TargetArrays, capture: Capture, order: Array
) -> dict[str, Array]:
    kept = _kept(arrays.ids.shape[-1], arrays.n_valid)
    if capture.exact:
        logprobs: Array = np.where(kept, arrays.logprobs, 0).astype(np.float32)
    else:
        logprobs = to_drops(arrays.logprobs, arrays.n_valid, capture.step)
    return {
        "ids": _encode_ids(arrays.ids, kept, order),
        "logprobs": logprobs,
        "n_valid": arrays.n_valid.astype(np.uint16),
    }


def _encode_ids(ids: Array, kept: NDArray[np.bool_], order: Array) -> Array:
    size = len(order)
    valid = np.where(kept, ids, 0)
    if valid.size and not 0 <= valid.min() <= valid.max() < size:
        message = f"ids from {valid.min()} to {valid.max()} do not fit a support of {size} entries"
        raise ValueError(message)
    rows = np.empty(size, id_dtype(size))
    rows[order] = np.arange(size, dtype=rows.dtype)
    return np.where(kept, rows[valid], 0).astype(rows.dtype)


def _encode_tail(tail: Array, capture: Capture) -> Array:
    if capture.exact:
        return tail.astype(np.float32)
    half = to_half(tail)
    # A tail of exactly 0 would leave nothing for the head, whose mass is positive.
    return np.where((half == 0) & (tail < 0), _HALF_CLOSEST_TO_ZERO, half)


def _encode_grid(values: Array, capture: Capture) -> Array:
    return values.astype(np.float32) if capture.exact else to_grid(values)


def _encode_scalar(values: Array, capture: Capture) -> Array:
    return values.astype(np.float32) if capture.exact else to_half(values)


def _zero_unused(values: Array, used: NDArray[np.bool_]) -> Array:
    return np.where(_like(used, values), values, values.dtype.type(0))


def _nan_unused(values: Array, n_valid: Array) -> NDArray[np.float32]:
    result = values.astype(np.float32)
    result[n_valid == 0] = np.nan
    return result


def _like(used: NDArray[np.bool_], values: Array) -> NDArray[np.bool_]:
    return used if values.ndim == used.ndim else used[..., None]


def _decode_n_valid(stored: Array, capture: Capture) -> NDArray[np.int32]:
    if stored.size and stored.max() > capture.k:
        message = f"n_valid is {stored.max()}, k is {capture.k}"
        raise ValueError(message)
    return stored.astype(np.int32)


def _decode_ids(stored: Array, n_valid: Array, order: Array) -> NDArray[np.int32]:
    if stored.size and stored.max() >= len(order):
        message = f"an id is stored as row {stored.max()} of an order of {len(order)} rows"
        raise ValueError(message)
    k = stored.shape[-1]
    ranks, meaning = np.moveaxis(stored, -1, 0).reshape(k, -1), order.astype(np.int32)
    ids = np.empty((n_valid.size, k), np.int32)
    # Some slots at a time, from rank-major, as the memory of a chunk lies: it stays in the cache.
    for start, stop in iter_ranges(n_valid.size, _SLOTS_AT_ONCE):
        ids[start:stop] = meaning.take(ranks[:, start:stop]).T
    short = np.flatnonzero(n_valid < k)
    ids[short] = np.where(_kept(k, n_valid.reshape(-1)[short]), ids[short], 0)
    return ids.reshape(stored.shape)


def _decode_logprobs(
    stored: Array, n_valid: Array, tail: Array, capture: Capture
) -> NDArray[np.float32]:
    if not capture.exact:
        return from_drops(stored, n_valid, tail, capture.step)
    kept = _kept(stored.shape[-1], n_valid)
    beyond = np.where(n_valid > 0, np.float32(-np.inf), np.float32(np.nan))[..., None]
    return np.where(kept, stored, beyond).astype(np.float32)


def _at_temperature_1(values: Array, capture: Capture) -> Array:
    return values[..., capture.temperatures.index(1.0)]


def _kept(k: int, n_valid: Array) -> NDArray[np.bool_]:
    kept: NDArray[np.bool_] = np.arange(k) < n_valid[..., None]
    return kept
