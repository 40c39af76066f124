"""Constant prediction weights that make gold most probable on the split ``fit``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ckd_cache.errors import MergeError
from ckd_cache.merge.evidence import Evidence
from ckd_cache.merge.softmax import softmax_weights

if TYPE_CHECKING:
    from ckd_cache.merge.rule import TargetRule

__all__ = [
    "TOLERANCE",
    "ConstantWeights",
    "Likelihoods",
    "by_teacher",
    "em_weights",
    "fitted_weights",
    "likelihoods",
]

TOLERANCE = 1e-6
"""Nats a slot that fitted weights may be below the best constant ones."""
_LEAST_FACTOR = 0.1
_MOST_MOVES = 200
_FLAT = 1e-9


@dataclass(frozen=True, slots=True)
class Likelihoods:
    """Probability of gold under S teachers at the slots that a fit can use.

    A slot is used where all teachers are present and one of them does not give gold
    probability 0.

    Attributes:
        used: (N,) bool, which of the slots given are used.
        relative: (S, n) float64, p_t(y) / max_s p_s(y), at the n used slots.
        largest: (n,) float64, log of max_s p_s(y).
        absent: slots left out because a teacher is not present.
        impossible: slots left out because all teachers give gold probability 0.
    """

    used: NDArray[np.bool_]
    relative: NDArray[np.float64]
    largest: NDArray[np.float64]
    absent: int
    impossible: int

    def __len__(self) -> int:
        """Number of used slots, n."""
        return int(self.largest.shape[0])

    def only(self, chosen: NDArray[np.bool_]) -> Likelihoods:
        """Some of the used slots; ``chosen`` is (n,)."""
        used = self.used.copy()
        used[used] = chosen
        return Likelihoods(used, self.relative[:, chosen], self.largest[chosen], 0, 0)


@dataclass(frozen=True, slots=True)
class ConstantWeights:
    """What ``em_weights`` found.

    Attributes:
        weights: (S,), non-negative, sum 1.
        iterations: weights that were tried.
        gap: nats a slot, >= 0; no constant weights have a mean log-likelihood that is higher by
            more than this.
        mean_loglik: mean over the used slots of log sum_t w_t p_t(y), nats.
    """

    weights: NDArray[np.float64]
    iterations: int
    gap: float
    mean_loglik: float


def likelihoods(gold_logprob: NDArray[np.float64], present: NDArray[np.bool_]) -> Likelihoods:
    """Probabilities of gold at the slots that a fit can use.

    Args:
        gold_logprob: (N, S), -inf is probability 0.
        present: (N, S).

    Raises:
        MergeError: there is no such slot.
    """
    whole = np.logical_and.reduce(present, axis=1)
    top = np.where(whole[:, None], gold_logprob, -np.inf).max(axis=1)
    used = np.isfinite(top)
    if not used.any():
        message = (
            f"none of the {len(used):,} slots that weights are fitted on can be used: at "
            f"{int((~whole).sum()):,} a teacher has no distribution, at the others all teachers "
            "give gold probability 0. Leave out the teacher that has none, or give split `fit` "
            "more documents"
        )
        raise MergeError(message)
    relative = np.exp(gold_logprob[used] - top[used, None])
    return Likelihoods(
        used=used,
        relative=np.ascontiguousarray(relative.T),
        largest=top[used],
        absent=int((~whole).sum()),
        impossible=int((whole & ~used).sum()),
    )


def em_weights(
    found: Likelihoods, tolerance: float = TOLERANCE, max_iterations: int = 10_000
) -> ConstantWeights:
    """Weights that maximise the mean of log P_i, P_i = sum_t w_t p_ti, over the used slots.

    The objective is concave. Expectation maximisation takes w_t to w_t g_t, g_t being the mean of
    p_ti / P_i, and starts from equal weights. For any weights v, mean log (sum v_t p_ti / P_i) is
    at most log sum v_t g_t (Jensen), so log max_t g_t bounds what is still to be gained; the
    search ends when it is below ``tolerance``. Teachers that are much alike, and weights on their
    way to 0, make it slow, so a step of Newton's method is tried first, and kept if it does not
    lower the objective. The bound holds however the weights were come by.

    Args:
        found: probabilities of gold.
        tolerance: nats a slot.
        max_iterations: weights to try; what is reached by then is returned with its gap.
    """
    size = found.relative.shape[0]
    weights = np.full(size, 1.0 / size)
    accepted, gains, best, gap = weights, np.ones(size), -np.inf, np.inf
    bold = False
    iterations = 0
    while iterations < max_iterations:
        iterations += 1
        mixed = _mixed(found.relative, weights)
        objective = float(np.log(mixed).mean()) if mixed.all() else -np.inf
        if bold and objective < best:
            # A step of expectation maximisation cannot lower the objective.
            weights, bold = _normalised(accepted * gains), False
            continue
        accepted, best = weights, objective
        ratios = found.relative / mixed
        gains = ratios.mean(axis=1)
        gap = max(float(np.log(gains.max())), 0.0)
        if gap < tolerance:
            break
        weights, bold = _newton(weights, gains, ratios), True
    return ConstantWeights(accepted, iterations, gap, best + float(found.largest.mean()))


def fitted_weights(evidence: Evidence, rule: TargetRule) -> NDArray[np.float64]:
    """The fitted weights at every slot, made to sum to 1 over the teachers present.

    Args:
        evidence: only ``present`` is looked at.
        rule: with a fit that has weights.

    Returns:
        (N, S).

    Raises:
        MergeError: the rule has no such fit, or it lacks one of its teachers.
    """
    learned = None if rule.fit is None else rule.fit.weights
    prior = by_teacher(learned, "weights", rule)
    return softmax_weights(np.zeros(evidence.present.shape), 1.0, evidence.present, prior)


def by_teacher(
    learned: Mapping[str, float] | None, what: str, rule: TargetRule
) -> NDArray[np.float64]:
    """(S,) learned numbers in the order of the rule's teachers.

    Args:
        learned: by name of the teacher; None where nothing was learned.
        what: they are, for the message.
        rule: whose teachers are asked for.

    Raises:
        MergeError: there are none, or not for every teacher.
    """
    lacking = [name for name in rule.teachers if name not in (learned or {})]
    if learned is None or lacking:
        message = (
            f"weighting {rule.weighting!r} has no fitted {what} for {', '.join(lacking)}: merge "
            "with a cache whose split `fit` has documents, so that they are learned there"
        )
        raise MergeError(message)
    return np.array([learned[name] for name in rule.teachers], dtype=np.float64)


def _mixed(relative: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    # A matrix product may sum in another order on another machine.
    mixed: NDArray[np.float64] = (relative * weights[:, None]).sum(axis=0)
    return mixed


def _newton(
    weights: NDArray[np.float64], gains: NDArray[np.float64], ratios: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weights that maximise the quadratic model of the objective, each a tenth at least.

    The gradient is g, the Hessian minus the mean of (p_ti / P_i) (p_si / P_i). Weight is moved
    from the teacher whose slope is least to the one whose slope is largest, as far as the model
    rises, until the slopes of all that can give are equal.
    """
    hessian = np.einsum("sn,tn->st", ratios, ratios) / ratios.shape[1]
    moved, slope, floor = weights.copy(), gains.copy(), _LEAST_FACTOR * weights
    for _ in range(_MOST_MOVES):
        to = int(np.argmax(slope))
        source = int(np.argmin(np.where(moved > floor, slope, np.inf)))
        steepness = float(slope[to] - slope[source])
        if steepness < _FLAT:
            break
        bend = hessian[:, to] - hessian[:, source]
        curvature = float(bend[to] - bend[source])
        most = float(moved[source] - floor[source])
        length = most if curvature * most <= steepness else steepness / curvature
        moved[to] += length
        moved[source] = floor[source] if length == most else moved[source] - length
        slope -= length * bend
    return _normalised(moved)


def _normalised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = values / values.sum()
    return result
