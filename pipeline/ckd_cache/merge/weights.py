"""Prediction weights: how much each teacher counts at a slot (docs/merge.md)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ckd_cache.numerics.mixture import ordered_sum

__all__ = ["WEIGHTINGS", "Weighting", "gold", "uniform"]


class Weighting(Protocol):
    """A rule that gives the prediction weights of N slots."""

    def __call__(self, gold_logprob: NDArray[np.float64], tau: float) -> NDArray[np.float64]:
        """Weights (N, S), non-negative, rows of sum 1.

        Args:
            gold_logprob: (N, S), each teacher's log-probability of gold at temperature 1.
            tau: how soft the rule is, > 0; rules without softness ignore it.
        """


def uniform(
    gold_logprob: NDArray[np.float64],
    tau: float,  # noqa: ARG001  (all rules are called alike)
) -> NDArray[np.float64]:
    """The same weight 1/S for every teacher."""
    return np.full(gold_logprob.shape, 1.0 / gold_logprob.shape[1])


def gold(gold_logprob: NDArray[np.float64], tau: float) -> NDArray[np.float64]:
    """Weights proportional to p_t(gold)^(1/tau): the softmax over teachers of log p_t(gold)/tau.

    Where every teacher gives gold probability 0, all weights are equal. One teacher has weight 1.
    A small ``tau`` approaches the best teacher alone, a large one ``uniform``.

    Args:
        gold_logprob: (N, S) at temperature 1; -inf is probability 0.
        tau: > 0.

    Returns:
        (N, S).
    """
    top = gold_logprob.max(axis=1, keepdims=True)
    # Subtracting before dividing keeps the largest at 0 however small tau is.
    behind = np.where(np.isneginf(top), 0.0, gold_logprob - np.where(np.isneginf(top), 0.0, top))
    with np.errstate(over="ignore"):
        shares = np.exp(behind / tau)
    result: NDArray[np.float64] = shares / ordered_sum(shares)[:, None]
    return result


WEIGHTINGS: Mapping[str, Weighting] = MappingProxyType({"gold": gold, "uniform": uniform})
"""All rules by name; the set is closed, a recipe cannot add to it."""
