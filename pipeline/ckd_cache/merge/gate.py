"""Prediction weights that depend on label-free features of the slot and its segment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ckd_cache.merge.evidence import Evidence
from ckd_cache.merge.features import features
from ckd_cache.merge.fitted import Likelihoods, by_teacher, em_weights
from ckd_cache.merge.lbfgs import Objective, minimise
from ckd_cache.merge.softmax import softmax_weights
from ckd_cache.numerics.logspace import log_probability

if TYPE_CHECKING:
    from ckd_cache.merge.rule import TargetRule

__all__ = [
    "GateProblem",
    "Parameters",
    "Standard",
    "constant_start",
    "fit_parameters",
    "gate_objective",
    "gate_weights",
    "log_mixture",
    "standard_of",
]

_LEAST_WEIGHT = 1e-3


@dataclass(frozen=True, slots=True)
class Standard:
    """How features are put on one scale.

    Attributes:
        centre: (F,) mean over slots and teachers.
        scale: (F,) root mean square, over slots and teachers, of the distance from the mean of
            the teachers at the slot; 1 where teachers never differ.
    """

    centre: NDArray[np.float64]
    scale: NDArray[np.float64]

    def apply(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Features (F, …) on the scale."""
        shape = (-1, *(1,) * (values.ndim - 1))
        result: NDArray[np.float64] = values - self.centre.reshape(shape)
        result /= self.scale.reshape(shape)
        return result


@dataclass(frozen=True, slots=True)
class GateProblem:
    """What a gate is fitted on.

    Attributes:
        gold: probabilities of gold at the n used slots.
        features: (F, S, n) float64, on one scale.
    """

    gold: Likelihoods
    features: NDArray[np.float64]

    def only(self, chosen: NDArray[np.bool_]) -> GateProblem:
        """The same at some of the slots; ``chosen`` is (n,)."""
        return GateProblem(self.gold.only(chosen), self.features[:, :, chosen])


@dataclass(frozen=True, slots=True)
class Parameters:
    """Of a gate, and how its fit ended.

    Attributes:
        bias: (S,) a_t, mean 0.
        theta: (F,).
        mean_loglik: mean log-likelihood of gold at the slots of the fit, without the penalty.
        iterations: of the search.
        gradient: largest absolute value of the gradient where it ended.
    """

    bias: NDArray[np.float64]
    theta: NDArray[np.float64]
    mean_loglik: float
    iterations: int
    gradient: float


def gate_weights(evidence: Evidence, rule: TargetRule) -> NDArray[np.float64]:
    """Weights proportional to exp(a_t + theta · phi_t) over the teachers present.

    Args:
        evidence: S teachers at N slots of whole examples; nothing of gold is looked at.
        rule: with a fit that has a gate.

    Returns:
        (N, S).

    Raises:
        MergeError: the rule has no such fit, or it lacks one of its teachers.
    """
    gate = None if rule.fit is None else rule.fit.gate
    bias = by_teacher(None if gate is None else gate.bias, "gate", rule)
    score = np.zeros(evidence.present.shape) + bias
    if gate is not None:
        standard = Standard(np.array(gate.centre), np.array(gate.scale))
        seen = standard.apply(features(evidence, gate.features))
        for theta, feature in zip(gate.theta, seen, strict=True):
            score += theta * feature
    return softmax_weights(score, 1.0, evidence.present)


def standard_of(values: NDArray[np.float64]) -> Standard:
    """The scale of features (F, N, S) at slots where all teachers are present."""
    spread = np.sqrt(((values - values.mean(axis=2, keepdims=True)) ** 2).mean(axis=(1, 2)))
    return Standard(values.mean(axis=(1, 2)), np.where(spread > 0.0, spread, 1.0))


def gate_objective(problem: GateProblem, l2: float) -> Objective:
    """Minus the mean log-likelihood of gold plus l2 · |theta|², of (a, theta) in one vector.

    Its gradient is minus the mean over slots of sum_t (rho_t - w_t) phi_t, with
    rho_t = w_t p_t(y) / P(y), plus 2 l2 theta. It is not convex.

    Args:
        problem: S teachers, F features.
        l2: >= 0.
    """
    teachers, slots = problem.gold.relative.shape

    def objective(at: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        bias, theta = at[:teachers], at[teachers:]
        odds = np.exp(_score(problem, bias, theta))
        joint = odds * problem.gold.relative
        total, mixed = odds.sum(axis=0), joint.sum(axis=0)
        if not mixed.all():
            return np.inf, np.zeros_like(at)
        value = float(np.log(total).mean() - np.log(mixed).mean() - problem.gold.largest.mean())
        pull = (odds / total - joint / mixed) / slots
        slopes = [float(np.einsum("sn,sn->", pull, one)) for one in problem.features]
        gradient = np.concatenate([pull.sum(axis=1), np.array(slopes) + 2.0 * l2 * theta])
        return value + l2 * float((theta * theta).sum()), gradient

    return objective


def log_mixture(
    problem: GateProblem, bias: NDArray[np.float64], theta: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n,) log of sum_t w_t p_t(y) under a gate."""
    odds = np.exp(_score(problem, bias, theta))
    mixed = (odds * problem.gold.relative).sum(axis=0)
    relative = log_probability(mixed) - np.log(odds.sum(axis=0))
    result: NDArray[np.float64] = relative + problem.gold.largest
    return result


def constant_start(problem: GateProblem) -> NDArray[np.float64]:
    """(S + F,) the gate with constant fitted weights: a = log of them, theta = 0.

    Weights below 1e-3 are raised to it: a teacher that is never any good on the whole may be
    good at some slots, and from a weight of 0 no gradient leads there.
    """
    weights = np.maximum(em_weights(problem.gold).weights, _LEAST_WEIGHT)
    bias = np.log(weights)
    return np.concatenate([bias - bias.mean(), np.zeros(problem.features.shape[0])])


def fit_parameters(
    problem: GateProblem, l2: float, start: NDArray[np.float64], tolerance: float = 1e-6
) -> Parameters:
    """The gate that a search finds.

    Args:
        problem: S teachers, F features.
        l2: strength of the penalty on theta, >= 0.
        start: (S + F,), as ``constant_start`` gives it.
        tolerance: on the gradient.
    """
    found = minimise(gate_objective(problem, l2), start, tolerance)
    teachers = problem.gold.relative.shape[0]
    bias, theta = found.at[:teachers], found.at[teachers:]
    return Parameters(
        bias=bias - bias.mean(),
        theta=theta,
        mean_loglik=l2 * float((theta * theta).sum()) - found.value,
        iterations=found.iterations,
        gradient=found.gradient,
    )


def _score(
    problem: GateProblem, bias: NDArray[np.float64], theta: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(S, n) a_t + theta · phi_t, less the largest of the slot."""
    # Feature by feature: a matrix product may sum in another order on another machine.
    score = np.zeros(problem.gold.relative.shape) + bias[:, None]
    for weight, feature in zip(theta.tolist(), problem.features, strict=True):
        score += weight * feature
    score -= score.max(axis=0)
    return score
