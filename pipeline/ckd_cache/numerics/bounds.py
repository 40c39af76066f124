"""How far a mixture of truncated, rounded distributions can be from the true one.

The distance is the total variation on the cells {each kept id, everything else}. Derivation in
docs/merge.md. Rounding to float32 and float64 (about 1e-6) is not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ckd_cache.numerics.logspace import log_probability
from ckd_cache.numerics.mixture import Component, Mixture, ordered_sum
from ckd_cache.numerics.quantise import GRID_STEP

__all__ = ["Rounding", "rounding_at", "uncertain"]

_HALF_RELATIVE = 2.0**-11
_HALF_SMALLEST = 2.0**-25


@dataclass(frozen=True, slots=True)
class Rounding:
    """Rounding that a distribution went through on its way to disk; all 0 where it is exact.

    Attributes:
        step: width in nats of the range in which errors of its logprobs lie.
        tail_relative: largest relative error of the stored log of the tail.
        tail_absolute: largest absolute error where the log is too small for the relative one.
        gold: largest absolute error of gold's logprob.
    """

    step: float
    tail_relative: float
    tail_absolute: float
    gold: float


def rounding_at(step: float, temperature: float) -> Rounding:
    """Rounding of a stored distribution as it is seen at a temperature.

    Logprobs on a grid of ``step`` are divided by T. Gold's logprob at T other than 1 comes from
    three numbers on the grid 2^-10: (logprob + lse_1)/T - lse_T.

    Args:
        step: ``step`` of the capture, 0 where nothing was rounded.
        temperature: T > 0.
    """
    if step == 0.0:
        return Rounding(0.0, 0.0, 0.0, 0.0)
    parts = 1.0 if temperature == 1.0 else 1.0 + 2.0 / temperature
    return Rounding(step / temperature, _HALF_RELATIVE, _HALF_SMALLEST, parts * GRID_STEP / 2.0)


def uncertain(
    components: Sequence[Component],
    weights: NDArray[np.float64],
    mixture: Mixture,
    roundings: Sequence[Rounding],
    stored: Rounding,
) -> NDArray[np.float64]:
    """Bound on the total variation between a stored mixture and the true one.

    Sum of w_t (min(r_t, n_t m_t) + h_t tanh(D_t/4) + rounding of r_t and of gold), plus
    h tanh(D/4) and the rounding of the tail for the mixture itself, in the letters of
    docs/format.md. Where a teacher was rounded, m_t is the largest value that its smallest kept
    probability can have had.

    Args:
        components: the S teachers.
        weights: (N, S), taken as exact.
        mixture: what ``mix`` made of them.
        roundings: of the S teachers, at the mixture's temperature.
        stored: of the mixture.

    Returns:
        (N,) float64.
    """
    doubts = [
        _doubt(component, mixture, t, rounding)
        for t, (component, rounding) in enumerate(zip(components, roundings, strict=True))
    ]
    inherited = ordered_sum(weights * np.stack(doubts, axis=1))
    return inherited + _head_term(mixture.head, stored) + _tail_term(mixture.tail, stored)


def _doubt(
    component: Component, mixture: Mixture, t: int, rounding: Rounding
) -> NDArray[np.float64]:
    tail_term = _tail_term(component.tail, rounding)
    last = np.maximum(component.n_valid - 1, 0)[:, None]
    smallest = np.take_along_axis(component.kept, last, axis=1)[:, 0]
    # What rounding the tail moved is shared out over the kept entries, of which this is the least.
    largest = (smallest + tail_term / np.maximum(component.n_valid, 1)) * np.exp(rounding.step)
    unknown = np.minimum(mixture.left[:, t], mixture.missing[:, t] * largest)
    gold_term = component.gold * mixture.gold_outside[:, t] * np.expm1(rounding.gold)
    head_term = _head_term(component.kept.sum(axis=1), rounding)
    doubt: NDArray[np.float64] = unknown + head_term + tail_term + gold_term
    return doubt


def _head_term(head: NDArray[np.float64], rounding: Rounding) -> NDArray[np.float64]:
    result: NDArray[np.float64] = head * np.tanh(rounding.step / 4.0)
    return result


def _tail_term(tail: NDArray[np.float64], rounding: Rounding) -> NDArray[np.float64]:
    log_tail = np.where(tail > 0.0, log_probability(tail), 0.0)
    error = np.maximum(rounding.tail_relative * np.abs(log_tail), rounding.tail_absolute)
    result: NDArray[np.float64] = tail * np.expm1(error)
    return result
