"""Rules of prediction weights that look at gold (docs/merge.md says what they cannot show).

Each gives a confidence c_t, and the weights are softmax(c_t / tau) over the teachers present. A
gold of probability 0 is a confidence of -inf; where every teacher has that, the prior is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ckd_cache.merge.evidence import Evidence
from ckd_cache.merge.fitted import by_teacher
from ckd_cache.merge.segments import segment_means, sums_of_others
from ckd_cache.merge.softmax import log_rest, softmax_weights

if TYPE_CHECKING:
    from ckd_cache.merge.rule import TargetRule

__all__ = [
    "avg_ce_weights",
    "ca_mkd_weights",
    "correctness_weights",
    "gold_weights",
    "min_ce_weights",
    "prior_of",
    "segment_loo_weights",
]


def prior_of(rule: TargetRule) -> NDArray[np.float64] | None:
    """Prior (S,) of ``gold`` and ``segment_loo`` in the order of the teachers; None for equal.

    Raises:
        MergeError: the prior is ``fitted``, and there is no fitted weight of a teacher.
    """
    if rule.prior == "uniform":
        return None
    learned = None if rule.fit is None else rule.fit.weights
    return by_teacher(learned, "prior", rule)


def gold_weights(evidence: Evidence, rule: TargetRule) -> NDArray[np.float64]:
    """C = log p_t(y), (N, S): weights proportional to prior_t · p_t(y)^(1/tau)."""
    return softmax_weights(evidence.gold_logprob, rule.tau, evidence.present, prior_of(rule))


def ca_mkd_weights(evidence: Evidence, rule: TargetRule) -> NDArray[np.float64]:
    """C = log((1 - softmax(CE)_t) / (K - 1)), (N, S), CE_t = -log p_t(y), K teachers present.

    A teacher alone has weight 1, which as published is 0/0. Teachers that give gold probability 0
    share softmax(CE) equally, as in the limit of ever larger CE that are equal.

    Source: CA-MKD, its code.
    """
    loss = np.where(evidence.present, -evidence.gold_logprob, -np.inf)
    highest = loss.max(axis=1, keepdims=True)
    # The highest is at 0 whether it is finite or not: inf - inf is no number.
    below = np.where(np.isinf(highest), -np.inf, loss - np.where(np.isinf(highest), 0.0, highest))
    powers = np.exp(np.where(loss == highest, 0.0, below))
    return softmax_weights(log_rest(powers, evidence.present), rule.tau, evidence.present)


def correctness_weights(evidence: Evidence, _rule: TargetRule) -> NDArray[np.float64]:
    """C = 0 where gold is the most probable id, else -inf, (N, S); equal where nobody is right.

    tau has no effect.
    """
    confidence = np.where(evidence.correct, 0.0, -np.inf)
    return softmax_weights(confidence, 1.0, evidence.present)


def min_ce_weights(evidence: Evidence, rule: TargetRule) -> NDArray[np.float64]:
    """C = -mean CE_t over the segment, (N, S); at tau = 0 the best teacher of the segment alone.

    The mean is over the units of text that all teachers see; without one the weights are equal.

    Source: FuseLLM, MinCE.
    """
    return softmax_weights(_segment_logprob(evidence), rule.tau, evidence.present)


def avg_ce_weights(evidence: Evidence, rule: TargetRule) -> NDArray[np.float64]:
    """C = exp(-mean CE_t over the segment), (N, S), which is in [0, 1]: nearly equal weights.

    The mean is over the units of text that all teachers see; without one the weights are equal.

    Source: FuseLLM, AvgCE.
    """
    return softmax_weights(np.exp(_segment_logprob(evidence)), rule.tau, evidence.present)


def segment_loo_weights(evidence: Evidence, rule: TargetRule) -> NDArray[np.float64]:
    """C = Σ log p_t(y_j) over the other units of the document in the segment, (N, S).

    Units that not all teachers see are left out; where none is left, the weights are the prior's.
    The labels of the slot's own unit never count.
    """
    seen = _seen_by_all(evidence)
    values = np.where(seen[:, None], evidence.unit_logprob, 0.0)
    group = np.column_stack([evidence.document, evidence.example])
    confidence = sums_of_others(values, group, evidence.unit)
    return softmax_weights(confidence, rule.tau, evidence.present, prior_of(rule))


def _segment_logprob(evidence: Evidence) -> NDArray[np.float64]:
    """(N, S) mean log-probability of the segment's units that all teachers see."""
    return segment_means(evidence.unit_logprob, _seen_by_all(evidence), evidence.example)


def _seen_by_all(evidence: Evidence) -> NDArray[np.bool_]:
    """(N,) whether the slot begins a unit that all teachers see."""
    seen: NDArray[np.bool_] = np.logical_and.reduce(~np.isnan(evidence.unit_logprob), axis=1)
    return seen
