"""Figures of a teacher that add up over shards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ckd_cache.types import JsonObject, TeacherArrays

__all__ = ["teacher_stats"]


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
