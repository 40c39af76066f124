"""Figures of teachers and targets that add up over shards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ckd_cache.numerics.quantise import half_up
from ckd_cache.types import (
    Array,
    GatherArrays,
    JsonObject,
    JsonValue,
    TargetArrays,
    TeacherArrays,
)

__all__ = [
    "add_stats",
    "gather_stats",
    "quantile_from_counts",
    "quantising_nats",
    "target_stats",
    "teacher_stats",
]

_BIN_BITS = 6
"""Of the 16 bits of a float16, those that its bin leaves out."""


def teacher_stats(arrays: TeacherArrays, temperatures: Sequence[float] = (1.0,)) -> JsonObject:
    """Sums over the used slots of decoded arrays; all add over shards.

    Args:
        arrays: B examples, decoded.
        temperatures: of the arrays; the figures are those at 1.0.

    Returns:
        ``slots``; ``entropy_sum`` in nats; ``gold_logprob_sum`` over finite values and
        ``gold_zero``, the number of slots where gold has probability 0; ``top1_hits``, the slots
        where gold is the most probable; ``tail_mass_sum``; ``valid_sum``, the kept entries.
    """
    used = arrays.n_valid > 0
    at_1 = temperatures.index(1.0)
    gold = arrays.gold_logprob[used].astype(np.float64)
    finite = np.isfinite(gold)
    return {
        "slots": int(used.sum()),
        "entropy_sum": float(arrays.entropy[used, at_1].astype(np.float64).sum()),
        "gold_logprob_sum": float(gold[finite].sum()),
        "gold_zero": int((~finite).sum()),
        "top1_hits": int((arrays.gold_rank[used] == 0).sum()),
        "tail_mass_sum": float(np.exp(arrays.tail[used, at_1].astype(np.float64)).sum()),
        "valid_sum": int(arrays.n_valid.sum()),
    }


def gather_stats(arrays: GatherArrays, used: Array) -> JsonObject:
    """Sums over the used slots of decoded gathered logprobs; all add over shards.

    Args:
        arrays: B examples.
        used: (B, M) bool, the used slots.

    Returns:
        ``slots``; ``gathered_sum``, the logprobs; ``zero_sum``, those of probability 0;
        ``mass_sum``, their probabilities.
    """
    there = np.arange(arrays.logprobs.shape[-1]) < arrays.n_valid[..., None]
    logprobs = arrays.logprobs[there].astype(np.float64)
    return {
        "slots": int(used.sum()),
        "gathered_sum": int(arrays.n_valid.sum()),
        "zero_sum": int(np.isneginf(logprobs).sum()),
        "mass_sum": float(np.exp(logprobs).sum()),
    }


def target_stats(
    target: TargetArrays, names: Sequence[str], coverage: JsonObject | None = None
) -> JsonObject:
    """Sums over the used slots of a decoded target; all add over shards but ``uncertain_max``.

    Args:
        target: B examples.
        names: teachers, in the order of the weights.
        coverage: of teachers that have no distribution at some slots; it cannot be computed from
            the target. ``present``: by teacher, the slots where it has one; ``carried``: by
            teacher, the sum over these of the mass that is carried into the set's support.

    Returns:
        ``slots``; ``gold_logprob_sum`` over finite values and ``gold_zero``, the number of slots
        where gold has probability 0; ``weights_sum`` by teacher; ``tail_mass_sum``;
        ``uncertain_sum``, ``uncertain_max`` (0 without slots) and ``uncertain_counts``, the slots
        by bin, see ``quantile_from_counts``; ``coverage`` where it is given.
    """
    used = target.n_valid > 0
    gold = target.gold_logprob[used].astype(np.float64)
    finite = np.isfinite(gold)
    weights = target.weights[used].astype(np.float64).sum(axis=0)
    doubt = target.uncertain[used].astype(np.float64)
    return {
        "slots": int(used.sum()),
        "gold_logprob_sum": float(gold[finite].sum()),
        "gold_zero": int((~finite).sum()),
        "weights_sum": {name: float(x) for name, x in zip(names, weights, strict=True)},
        "tail_mass_sum": float(np.exp(target.tail[used].astype(np.float64)).sum()),
        "uncertain_sum": float(doubt.sum()),
        "uncertain_max": float(doubt.max(initial=0.0)),
        "uncertain_counts": _counts(doubt),
        **({} if coverage is None else {"coverage": coverage}),
    }


def quantile_from_counts(counts: Mapping[str, int], q: float) -> float:
    """A number that at least a share of the counted numbers do not exceed; 0 if none was counted.

    It is the upper edge of the bin that the quantile falls into, so never less than the quantile
    and at most a sixteenth more, but for the smallest numbers (below 2^-14).

    Args:
        counts: numbers by bin. A bin is the first 10 bits of a float16 (sign, exponent, four bits
            of the mantissa); it holds the numbers that, rounded up to such a float16, are it.
        q: share, 0 to 1.
    """
    ordered = sorted((int(name), count) for name, count in counts.items() if count > 0)
    needed = q * sum(count for _, count in ordered)
    reached = 0
    for name, count in ordered:
        reached += count
        if reached >= needed:
            return float(np.uint16(name << _BIN_BITS).view(np.float16))
    return 0.0


def _counts(values: Array) -> JsonObject:
    """Numbers of at least 0 by bin."""
    patterns = half_up(values + 0.0).view(np.uint16).astype(np.int64)
    bins, counts = np.unique(-(-patterns >> _BIN_BITS), return_counts=True)
    return {str(n): count for n, count in zip(bins.tolist(), counts.tolist(), strict=True)}


def quantising_nats(exact: Array, exact_tail: Array, stored: Array, stored_tail: Array) -> float:
    """Sum over slots of KL(what is read back || what was given to be stored), in nats.

    On the cells {each kept entry, everything else}; at temperature 1, or a target's own.

    Args:
        exact: (..., k) logprobs before they were quantised; NaN at unused slots, -inf or NaN
            beyond the kept entries.
        exact_tail: (...) log of the mass outside them.
        stored: (..., k) logprobs as they are read back, -inf beyond the kept entries.
        stored_tail: (...) as it is read back.
    """
    before = np.concatenate([exact, exact_tail[..., None]], axis=-1).astype(np.float64)
    after = np.concatenate([stored, stored_tail[..., None]], axis=-1).astype(np.float64)
    there = np.isfinite(before) & np.isfinite(after)
    terms = np.exp(np.where(there, after, 0.0)) * (
        np.where(there, after, 0.0) - np.where(there, before, 0.0)
    )
    # Rounding to float32 may leave a slot an ulp below nothing.
    return float(np.maximum(np.where(there, terms, 0.0).sum(axis=-1), 0.0).sum())


def add_stats(stats: Iterable[JsonObject]) -> JsonObject:
    """Figures of a part from those of its shards: sums, but the largest of each ``…_max``."""
    total: JsonObject = {}
    for one in stats:
        for name, value in one.items():
            larger = name.endswith("_max") and name in total
            total[name] = max(total[name], value) if larger else _added(total.get(name), value)
    return total


def _added(so_far: JsonValue, value: JsonValue) -> JsonValue:
    """Numbers added; objects member by member, whatever these are called."""
    if so_far is None or value is None:
        return value if so_far is None else so_far
    if not isinstance(value, dict):
        return so_far + value
    return {name: _added(so_far.get(name), value.get(name)) for name in {**so_far, **value}}
