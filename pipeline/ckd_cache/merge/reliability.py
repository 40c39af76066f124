"""Calibration curves: how often the most probable id is gold, by how probable it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Reliability", "add_reliability", "expected_calibration_error", "reliability"]


@dataclass(frozen=True, slots=True)
class Reliability:
    """Slots by confidence, in bins of equal width over 0 … 1; those of chunks can be added.

    Attributes:
        slots: (bins,) int64, how many slots fall into each.
        confidence: (bins,) float64, sum of their largest probabilities.
        hits: (bins,) int64, at how many of them the most probable id is gold.
    """

    slots: NDArray[np.int64]
    confidence: NDArray[np.float64]
    hits: NDArray[np.int64]


def reliability(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_], bins: int = 15
) -> Reliability:
    """Sort slots into bins by confidence.

    Args:
        confidence: (N,) probability of the most probable id, 0 … 1.
        correct: (N,) whether that id is gold.
        bins: how many; a confidence on the border of two belongs to the upper one, 1 to the last.
    """
    # Probabilities may be a rounding error above 1.
    number = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    return Reliability(
        slots=np.bincount(number, minlength=bins).astype(np.int64),
        confidence=np.bincount(number, confidence, bins).astype(np.float64),
        hits=np.bincount(number[correct], minlength=bins).astype(np.int64),
    )


def add_reliability(one: Reliability, other: Reliability) -> Reliability:
    """The slots of both, which have equally many bins."""
    return Reliability(
        one.slots + other.slots, one.confidence + other.confidence, one.hits + other.hits
    )


def expected_calibration_error(found: Reliability) -> float:
    """Mean over slots of |hits - confidence| of their bin, 0 … 1; NaN without slots.

    Source: Guo et al., "On calibration of modern neural networks" (2017), equation 3.
    """
    total = int(found.slots.sum())
    if total == 0:
        return float("nan")
    return float(np.abs(found.hits - found.confidence).sum()) / total
