"""Figures of a teacher that add up over shards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ckd_cache.types import Array, JsonObject, TeacherArrays

__all__ = ["quantising_nats", "teacher_stats"]


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
