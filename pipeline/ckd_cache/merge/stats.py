"""Figures of a target that add up over shards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ckd_cache.types import JsonObject, TargetArrays

__all__ = ["target_stats"]


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
