"""Figures of teachers and targets that add up over shards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ckd_cache.types import Array, JsonObject, JsonValue, TargetArrays, TeacherArrays

__all__ = ["add_stats", "quantising_nats", "target_stats", "teacher_stats"]


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


def target_stats(target: TargetArrays, names: Sequence[str]) -> JsonObject:
    """Sums over the used slots of a decoded target; all add over shards but ``uncertain_max``.

    Args:
        target: B examples.
        names: teachers, in the order of the weights.

    Returns:
        ``slots``; ``gold_logprob_sum`` over finite values and ``gold_zero``, the number of slots
        where gold has probability 0; ``weights_sum`` by teacher; ``tail_mass_sum``;
        ``uncertain_sum`` and ``uncertain_max`` (0 without slots).
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
    }


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
            total[name] = _combined(name, total[name], value) if name in total else value
    return total


def _combined(name: str, so_far: JsonValue, value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return add_stats([so_far, value])
    return max(so_far, value) if name.endswith("_max") else so_far + value
