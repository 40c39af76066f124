"""Confidences to prediction weights: the softmax that all rules share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ckd_cache.numerics.mixture import ordered_sum

__all__ = ["softmax_weights"]


def softmax_weights(
    confidence: NDArray[np.float64],
    tau: float,
    present: NDArray[np.bool_],
    prior: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Weights proportional to prior_t · exp(confidence_t / tau) over the teachers present.

    Where no teacher that is present has a confidence above -inf, the weights are those of the
    prior. ``tau`` = 0 is the limit: the most confident teachers alone, shared out by the prior.

    Args:
        confidence: (N, S); -inf is no confidence at all; ignored where not present.
        tau: >= 0.
        present: (N, S), at least one True in every row.
        prior: (S,) non-negative, None for equal; a row whose present teachers have prior 0 counts
            them equally.

    Returns:
        (N, S), non-negative, rows of sum 1, 0 where not present.
    """
    known = np.where(present & ~np.isnan(confidence), confidence, -np.inf)
    top = known.max(axis=1, keepdims=True)
    lost = np.isneginf(top)
    # Subtracting before dividing keeps the largest at 0 however small tau is.
    behind = np.where(lost, 0.0, known - np.where(lost, 0.0, top))
    behind = np.where(present, behind, -np.inf)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        scaled = np.where(behind == 0.0, 0.0, behind / tau)
    shares = np.exp(scaled)
    if prior is not None:
        weighed = shares * prior
        usable = weighed.max(axis=1, keepdims=True) > 0.0
        shares = np.where(usable, weighed, shares)
    result: NDArray[np.float64] = shares / ordered_sum(shares)[:, None]
    return result
