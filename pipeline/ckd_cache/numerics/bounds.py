"""How far a mixture of truncated, rounded distributions can be from the true one.

The distance is the total variation on the cells {each kept id, everything else}. Derivation in
docs/merge.md. Rounding to float32 and float64 (about 1e-6) is not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ckd_cache.numerics.component import Adopted
from ckd_cache.numerics.logspace import log_probability
from ckd_cache.numerics.mixture import Component, Mixture, row_sum
from ckd_cache.numerics.quantise import GRID_STEP

__all__ = [
    "Rounding",
    "coarsest",
    "head_term",
    "rounding_at",
    "tail_term",
    "uncertain",
]

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
        more: largest absolute error of the logprobs of further known ids, which are not rescaled.
    """

    step: float
    tail_relative: float
    tail_absolute: float
    gold: float
    more: float = 0.0


def rounding_at(step: float, temperature: float, more_step: float = 0.0) -> Rounding:
    """Rounding of a stored distribution as it is seen at a temperature.

    Logprobs on a grid of ``step`` are divided by T. Single logprobs at T other than 1 come from
    three numbers, two of them log-sum-exps on the grid 2^-10: (logprob + lse_1)/T - lse_T.

    Args:
        step: ``step`` of the capture, 0 where nothing was rounded.
        temperature: T > 0.
        more_step: width of the grid that the logprobs of further ids were rounded to; 0 for none.
    """
    if step == 0.0:
        return Rounding(0.0, 0.0, 0.0, 0.0, more_step / (2.0 * temperature))
    half = GRID_STEP / 2.0
    sums = 0.0 if temperature == 1.0 else half * (1.0 + 1.0 / temperature)
    return Rounding(
        step=step / temperature,
        tail_relative=_HALF_RELATIVE,
        tail_absolute=_HALF_SMALLEST,
        gold=half / temperature + sums,
        more=more_step / (2.0 * temperature) + sums,
    )


def coarsest(roundings: Sequence[Rounding]) -> Rounding:
    """A rounding that none of some exceeds in anything, for slots at several temperatures.

    Args:
        roundings: at least one.
    """
    return Rounding(
        step=max(one.step for one in roundings),
        tail_relative=max(one.tail_relative for one in roundings),
        tail_absolute=max(one.tail_absolute for one in roundings),
        gold=max(one.gold for one in roundings),
        more=max(one.more for one in roundings),
    )


def uncertain(
    components: Sequence[Component],
    weights: NDArray[np.float64],
    mixture: Mixture,
    roundings: Sequence[Rounding],
    stored: Rounding,
) -> NDArray[np.float64]:
    """Bound on the total variation between a stored mixture and the true one.

    Sum of w_t (u_t + h_t tanh(D_t/4) + rounding of r_t and of gold), plus h tanh(D/4) and the
    rounding of the tail for the mixture itself, in the letters of docs/format.md; u_t is
    min(r_t, n_t m_t), with the rounding of further ids, and with what scaling to a tail that has
    less than its known ids took from these. Where the mixture took each of the n_t ids
    to have s_t, the sum of w_t u_t is the larger of the sum of w_t (1 - s_t/m_t) u_t and that of
    w_t n_t s_t. Where a teacher was rounded, m_t is the largest value that its smallest kept
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
    below, above, rounded = (np.zeros(weights.shape) for _ in range(3))
    for t, (component, rounding) in enumerate(zip(components, roundings, strict=True)):
        moved = _moved(component, rounding)
        below[:, t], above[:, t] = _hidden(component, mixture, t, rounding, moved)
        rounded[:, t] = moved + _rounded(component, mixture, t, rounding)
    # A component without weight may say anything, even NaN.
    heard = weights > 0.0
    below, above, rounded = (np.where(heard, one, 0.0) for one in (below, above, rounded))
    policy = np.maximum(row_sum(weights * below), row_sum(weights * above))
    inherited = policy + row_sum(weights * rounded)
    own: NDArray[np.float64] = head_term(mixture.head, stored) + tail_term(mixture.tail, stored)
    return inherited + own


def _hidden(
    component: Component,
    mixture: Mixture,
    t: int,
    rounding: Rounding,
    moved: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far kept ids can be above what was made of them, and how far below."""
    left, missing, share = mixture.left[:, t], mixture.missing[:, t], mixture.share[:, t]
    largest = _largest_missing(component, rounding, moved)
    if component.adopted is not None:
        return _hidden_of_adopted(component.adopted, mixture, t, largest), missing * share
    # (x - s)+ is convex in x, hence at most x (1 - s/m) on 0 ... m.
    taken = np.minimum(share, largest) / np.where(largest > 0.0, largest, 1.0)
    by_sum, by_count = (1.0 - taken) * left, (1.0 - taken) * missing * largest
    above = missing * share
    if component.more is None:
        return np.minimum(by_sum, by_count), above
    factor = np.expm1(rounding.more)
    # All further ids have left the tail; of those, only kept ones are cells.
    by_sum += factor * component.more.sum(axis=1)
    kept = factor * mixture.further[:, t]
    # An id that is stored too small and scaled down on top is further off than by its rounding.
    outside = np.where(mixture.gold_outside[:, t], component.gold, 0.0)
    scaled = (1.0 - mixture.scale[:, t]) * (mixture.further[:, t] + outside)
    if rounding.tail_relative == 0.0 and rounding.more == 0.0:
        # Nothing was rounded: then it is scaled by the drift of float32, which is not counted.
        scaled = np.zeros_like(scaled)
    return np.minimum(by_sum, by_count + kept + scaled), above + kept


def _hidden_of_adopted(
    adopted: Adopted, mixture: Mixture, t: int, largest: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How far kept ids can be above what was made of them, where several own ids go to one.

    An id of which nothing is known can have as many of the teacher's ids as go to one; an id of
    which something is known one less. What goes nowhere is in none of them.
    """
    missing = mixture.missing[:, t]
    others = missing * adopted.fibre + (mixture.n_valid - missing) * (adopted.fibre - 1)
    left = np.maximum(mixture.left[:, t] - adopted.hidden, 0.0)
    below: NDArray[np.float64] = np.minimum(left, others * largest)
    return below


def _largest_missing(
    component: Component, rounding: Rounding, moved: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The largest probability that an id can have which a teacher does not keep."""
    if component.adopted is None:
        n_valid = np.maximum(component.n_valid, 1)
        smallest = component.kept[np.arange(len(n_valid)), n_valid - 1]
    else:
        n_valid, smallest = np.maximum(component.adopted.n_valid, 1), component.adopted.least
    # What rounding the tail moved is shared out over the kept entries, of which this is the least.
    largest: NDArray[np.float64] = (smallest + moved / n_valid) * np.exp(rounding.step)
    return largest


def _moved(component: Component, rounding: Rounding) -> NDArray[np.float64]:
    """Most that rounding the log of a teacher's tail moved."""
    adopted = component.adopted
    return tail_term(component.tail if adopted is None else adopted.tail, rounding)


def _rounded(
    component: Component, mixture: Mixture, t: int, rounding: Rounding
) -> NDArray[np.float64]:
    if component.adopted is None:
        tail, gold = component.tail, component.gold * mixture.gold_outside[:, t]
    else:
        tail, gold = component.adopted.tail, component.adopted.gold
    own: NDArray[np.float64] = head_term(1.0 - tail, rounding) + gold * np.expm1(rounding.gold)
    return own


def head_term(head: NDArray[np.float64], rounding: Rounding) -> NDArray[np.float64]:
    """Most that rounding logprobs moves within a kept mass that stays the same, (N,)."""
    result: NDArray[np.float64] = head * np.tanh(rounding.step / 4.0)
    return result


def tail_term(tail: NDArray[np.float64], rounding: Rounding) -> NDArray[np.float64]:
    """Most that rounding the log of a tail moves into it or out of it, (N,)."""
    log_tail = np.where(tail > 0.0, log_probability(tail), 0.0)
    error = np.maximum(rounding.tail_relative * np.abs(log_tail), rounding.tail_absolute)
    result: NDArray[np.float64] = tail * np.expm1(error)
    return result
