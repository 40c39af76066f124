"""How strongly a gate is held back: chosen on documents that it was not fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ckd_cache.merge.gate import GateProblem, constant_start, fit_parameters, log_mixture

__all__ = ["FOLDS", "GRID", "HeldOut", "choose_l2", "clustered_error", "folds_of"]

GRID = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
"""Strengths of the penalty that are tried, strongest first."""
FOLDS = 5
_MOST_SLOTS = 2**15
_ROUGH = 1e-5
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Mean log-likelihood of gold on documents that were not fitted on, nats a slot.

    Attributes:
        slots: that were looked at.
        folds: parts that documents were dealt into; 0 where one document is all there is, and
            nothing could be held out.
        gates: of the gate, for each strength of the grid; empty without folds.
        constant: of constant fitted weights; NaN without folds.
        l2: the strength of the best gate, the stronger of two that are equal.
        gain: of the best gate over constant weights; NaN without folds.
        gain_error: standard error of the gain, clustered by document: slots of one document
            resemble each other, so counting them as independent would make it too small.
    """

    slots: int
    folds: int
    gates: tuple[float, ...]
    constant: float
    l2: float
    gain: float
    gain_error: float


def folds_of(document: NDArray[np.int64], folds: int = FOLDS) -> NDArray[np.int64]:
    """(N,) fold of each slot; no document is in two.

    Documents are put in the order of their number times 2^64 / golden ratio, modulo 2^64, and
    dealt out in turn: neighbours part, and folds have equally many documents.

    Args:
        document: (N,) number of each slot's document.
        folds: at most as many as there are documents are made.
    """
    distinct, inverse = np.unique(document, return_inverse=True)
    order = np.argsort(distinct.astype(np.uint64) * _GOLDEN, kind="stable")
    rank = np.empty(len(distinct), dtype=np.int64)
    rank[order] = np.arange(len(distinct))
    dealt: NDArray[np.int64] = rank[inverse] % folds
    return dealt


def choose_l2(
    problem: GateProblem, document: NDArray[np.int64], grid: Sequence[float] = GRID
) -> HeldOut:
    """Cross-validate the strengths of a grid over documents.

    Of more than 2^15 slots every second, third … is looked at: what is uncertain about held-out
    text is which documents it has, hardly how many slots of each.

    Args:
        problem: n slots.
        document: (n,) number of each slot's document.
        grid: strengths, strongest first; each search starts where the one before ended.
    """
    looked_at = np.arange(len(document)) % -(-len(document) // _MOST_SLOTS) == 0
    problem, document = problem.only(looked_at), document[looked_at]
    fold = folds_of(document)
    folds = int(fold.max()) + 1
    if folds < 2:
        nan = float("nan")
        return HeldOut(len(document), 0, (), nan, grid[0], nan, nan)
    gates, constant = np.zeros((len(grid), len(document))), np.zeros(len(document))
    for number in range(folds):
        held, rest = problem.only(fold == number), problem.only(fold != number)
        teachers = rest.gold.relative.shape[0]
        start = constant_start(rest)
        constant[fold == number] = log_mixture(held, start[:teachers], start[teachers:])
        for place, l2 in enumerate(grid):
            found = fit_parameters(rest, l2, start, _ROUGH)
            gates[place, fold == number] = log_mixture(held, found.bias, found.theta)
            start = np.concatenate([found.bias, found.theta])
    means = gates.mean(axis=1)
    best = int(np.argmax(means))
    gain = gates[best] - constant
    return HeldOut(
        slots=len(document),
        folds=folds,
        gates=tuple(means.tolist()),
        constant=float(constant.mean()),
        l2=grid[best],
        gain=float(gain.mean()),
        gain_error=clustered_error(gain, document),
    )


def clustered_error(values: NDArray[np.float64], document: NDArray[np.int64]) -> float:
    """Standard error of the mean of (n,) values that hang together within documents (n,)."""
    _, cluster = np.unique(document, return_inverse=True)
    sums = np.bincount(cluster, values - values.mean())
    return float(np.sqrt((sums * sums).sum())) / len(values)
