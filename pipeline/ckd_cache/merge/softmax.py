"""Confidences to prediction weights: the softmax that all rules share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ckd_cache.numerics.mixture import ordered_sum

__all__ = ["log_rest", "softmax_weights"]


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
        confidence: (N, S); -inf is no confidence at all, and so is NaN; ignored where not present.
        tau: >= 0.
        present: (N, S), at least one True in every row.
        prior: (S,) non-negative, None for equal; a row whose present teachers all have prior 0
            counts them equally.

    Returns:
        (N, S), non-negative, rows of sum 1, 0 where not present.
    """
    shares = _prior_shares(present, prior)
    # Of the teachers with a prior: one without it must not decide what the others lag behind.
    known = np.where((shares > 0.0) & ~np.isnan(confidence), confidence, -np.inf)
    top = known.max(axis=1, keepdims=True)
    lost = np.isneginf(top)
    # Subtracting before dividing keeps the largest at 0 however small tau is.
    behind = np.where(lost, 0.0, known - np.where(lost, 0.0, top))
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        scaled = np.where(behind == 0.0, 0.0, behind / tau)
    # Rows lie in one piece whatever comes in: numpy sums eight and more otherwise if they do not.
    weighed = np.ascontiguousarray(np.exp(scaled) * shares)
    result: NDArray[np.float64] = weighed / ordered_sum(weighed)[:, None]
    return result


def log_rest(amounts: NDArray[np.float64], present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Log of the share of the other teachers in a sum: log(1 - amount_t / sum of amounts).

    Rules that divide 1 - share by K - 1, K the number of teachers present, need no division here:
    it is the same for all teachers of a slot.

    Args:
        amounts: (N, S), non-negative and finite; ignored where not present.
        present: (N, S).

    Returns:
        (N, S); -inf where the others have nothing, so in all of a row where all amounts are 0.
    """
    own = np.ascontiguousarray(np.where(present, amounts, 0.0))
    # Summed, as 1 - share has few digits left where a teacher has nearly everything.
    columns = np.arange(own.shape[1])
    rest = np.stack([ordered_sum(np.where(columns == t, 0.0, own)) for t in columns], axis=1)
    total = ordered_sum(own)[:, None]
    whole = np.where(total > 0.0, total, 1.0)
    with np.errstate(divide="ignore"):
        found = np.where(2.0 * own < total, np.log1p(-own / whole), np.log(rest / whole))
    result: NDArray[np.float64] = found
    return result


def _prior_shares(
    present: NDArray[np.bool_], prior: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """(N, S) prior of the teachers present, with 1 as the largest; equal where it is 0 for all."""
    equal = present.astype(np.float64)
    if prior is None:
        return equal
    given = equal * (prior / prior.max())
    usable = given.max(axis=1, keepdims=True) > 0.0
    result: NDArray[np.float64] = np.where(usable, given, equal)
    return result
