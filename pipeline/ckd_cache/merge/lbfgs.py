"""Minimising a smooth function of a few parameters: L-BFGS with backtracking."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Minimum", "Objective", "minimise"]

Objective = Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]
"""Parameters (d,) to value and gradient (d,); a value that is not finite is never accepted."""

_REMEMBERED = 10
_SUFFICIENT = 1e-4
_HALVINGS = 50


@dataclass(frozen=True, slots=True)
class Minimum:
    """Where a search ended.

    Attributes:
        at: (d,) parameters; their value is never above that of the start.
        value: of the objective there.
        gradient: largest absolute value of its gradient there.
        iterations: steps taken.
    """

    at: NDArray[np.float64]
    value: float
    gradient: float
    iterations: int


def minimise(
    objective: Objective,
    start: NDArray[np.float64],
    tolerance: float = 1e-6,
    max_iterations: int = 200,
) -> Minimum:
    """Walk downhill until the gradient is below ``tolerance`` or no step lowers the value.

    Source: Nocedal and Wright, Numerical Optimization (2006), algorithms 7.4 and 3.1. Pairs of
    steps and changes of gradient that show no positive curvature are not remembered.

    Args:
        objective: to be minimised.
        start: (d,), where its value is finite.
        tolerance: on the largest absolute value of the gradient.
        max_iterations: steps to take at most.
    """
    at = start
    value, gradient = objective(at)
    pairs: deque[tuple[NDArray[np.float64], NDArray[np.float64]]] = deque(maxlen=_REMEMBERED)
    iterations = 0
    while iterations < max_iterations and float(np.abs(gradient).max()) >= tolerance:
        step = _step_down(objective, at, value, gradient, _direction(gradient, pairs))
        if step is None:
            break
        new_at, new_value, new_gradient = step
        moved, changed = new_at - at, new_gradient - gradient
        if float((moved * changed).sum()) > 1e-12 * float((changed * changed).sum()):
            pairs.append((moved, changed))
        at, value, gradient = new_at, new_value, new_gradient
        iterations += 1
    return Minimum(at, value, float(np.abs(gradient).max()), iterations)


def _direction(
    gradient: NDArray[np.float64], pairs: deque[tuple[NDArray[np.float64], NDArray[np.float64]]]
) -> NDArray[np.float64]:
    """Minus the inverse Hessian that the pairs suggest, times the gradient."""
    if not pairs:
        return -gradient / max(1.0, float(np.abs(gradient).max()))
    left = gradient.copy()
    factors = []
    for moved, changed in reversed(pairs):
        factor = float((moved * left).sum() / (moved * changed).sum())
        left -= factor * changed
        factors.append(factor)
    moved, changed = pairs[-1]
    left *= float((moved * changed).sum() / (changed * changed).sum())
    for (moved, changed), factor in zip(pairs, reversed(factors), strict=True):
        left += (factor - float((changed * left).sum() / (moved * changed).sum())) * moved
    return -left


def _step_down(
    objective: Objective,
    at: NDArray[np.float64],
    value: float,
    gradient: NDArray[np.float64],
    direction: NDArray[np.float64],
) -> tuple[NDArray[np.float64], float, NDArray[np.float64]] | None:
    """The first of the steps 1, 1/2, 1/4 … that lowers the value enough; None if none does."""
    slope = float((direction * gradient).sum())
    length = 1.0
    for _ in range(_HALVINGS):
        there = at + length * direction
        lower, slopes = objective(there)
        if np.isfinite(lower) and lower < value and lower <= value + _SUFFICIENT * length * slope:
            return there, lower, slopes
        length /= 2.0
    return None
