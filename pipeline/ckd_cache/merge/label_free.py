"""Rules of prediction weights that do not look at gold (docs/merge.md).

Each gives a confidence c_t, and the weights are softmax(c_t / tau) over the teachers present.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ckd_cache.merge.evidence import Evidence
from ckd_cache.merge.segments import segment_means
from ckd_cache.merge.softmax import log_rest, softmax_weights

if TYPE_CHECKING:
    from ckd_cache.merge.rule import TargetRule

__all__ = [
    "entropy_linear_weights",
    "entropy_weights",
    "fixed_weights",
    "max_prob_weights",
    "segment_entropy_weights",
    "uniform_weights",
]


def uniform_weights(evidence: Evidence, _rule: TargetRule) -> NDArray[np.float64]:
    """C = 0: equal weights (N, S); tau has no effect."""
    return _equal(evidence, None)


def fixed_weights(evidence: Evidence, rule: TargetRule) -> NDArray[np.float64]:
    """The rule's own weights, (N, S), renormalised over the teachers present; tau has no effect."""
    return _equal(evidence, np.asarray(rule.weights, dtype=np.float64))


def max_prob_weights(evidence: Evidence, rule: TargetRule) -> NDArray[np.float64]:
    """C = log max_v p_t(v), (N, S): weights proportional to (max_v p_t(v))^(1/tau)."""
    return softmax_weights(evidence.max_logprob, rule.tau, evidence.present)


def entropy_weights(evidence: Evidence, rule: TargetRule) -> NDArray[np.float64]:
    """C = -H_t, (N, S): softmax of the negative entropy."""
    return softmax_weights(-evidence.entropy, rule.tau, evidence.present)


def entropy_linear_weights(evidence: Evidence, rule: TargetRule) -> NDArray[np.float64]:
    """C = log((1 - H_t / ΣH) / (K - 1)), (N, S), over the K teachers present.

    A teacher alone has weight 1; where all entropies are 0 the weights are equal. As published
    both are 0/0. Source: EBKD, as in the code of CA-MKD.
    """
    confidence = log_rest(evidence.entropy, evidence.present)
    return softmax_weights(confidence, rule.tau, evidence.present)


def segment_entropy_weights(evidence: Evidence, rule: TargetRule) -> NDArray[np.float64]:
    """C = -mean H_t over the slots of the segment at which all teachers are present, (N, S).

    Without such a slot in the segment the weights are equal.
    """
    counted = np.logical_and.reduce(evidence.present, axis=1)
    confidence = segment_means(-evidence.entropy, counted, evidence.example)
    return softmax_weights(confidence, rule.tau, evidence.present)


def _equal(evidence: Evidence, prior: NDArray[np.float64] | None) -> NDArray[np.float64]:
    return softmax_weights(np.zeros(evidence.present.shape), 1.0, evidence.present, prior)
