"""Arithmetic mixtures of truncated distributions, slot by slot (docs/merge.md).

Sums over teachers are taken in the order in which the teachers are given. Callers give them in the
order of their names, so that listing them otherwise changes no bit of a mixture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ckd_cache.numerics.component import (
    Component,
    Known,
    known_of,
    temper,
    temper_scalar,
    without_gold,
)
from ckd_cache.numerics.logspace import row_sums
from ckd_cache.numerics.ranking import most_probable
from ckd_cache.numerics.union import (
    Block,
    Union,
    counts_known,
    is_known_by,
    spread_over_equals,
    summed,
    unite,
)
from ckd_cache.types import Array, iter_ranges

__all__ = [
    "Component",
    "Mixture",
    "Truncated",
    "blocks_of",
    "columns_of",
    "mix",
    "ordered_sum",
    "padded",
    "row_sum",
    "temper",
    "temper_scalar",
    "truncated",
]


_SLOTS_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class Mixture:
    """A mixture of S components at N slots, truncated to k ids.

    What is said of a component is 0 or False where it has no weight.

    Attributes:
        ids: (N, k) int64, by float32 logprob descending, then id ascending; 0 where nothing is.
        logprobs: (N, k) float32; -inf from rank ``n_valid`` on.
        n_valid: (N,) int64.
        head: (N,) float64, kept mass.
        tail: (N,) float64, mass of everything else; head + tail is 1 up to rounding.
        left: (N, S) float64, each component's tail without the ids in it that it knows.
        gold_outside: (N, S) bool, the component does not keep gold.
        missing: (N, S) int64, kept ids of the mixture of which the component says nothing but
            that they are in its tail.
        share: (N, S) float64, what the mixture took each missing id to have; 0 but for ``spread``.
        further: (N, S) float64, the ``more`` of each component, unscaled, for the ids kept by the
            mixture that it knows as ``more_ids``; 0 where ``scale`` is 0.
        scale: (N, S) float64, factor by which the mixture took gold outside and ``more``; below 1
            where rounding put more into the tail's ids than the tail has.
    """

    ids: NDArray[np.int64]
    logprobs: NDArray[np.float32]
    n_valid: NDArray[np.int64]
    head: NDArray[np.float64]
    tail: NDArray[np.float64]
    left: NDArray[np.float64]
    gold_outside: NDArray[np.bool_]
    missing: NDArray[np.int64]
    share: NDArray[np.float64]
    further: NDArray[np.float64]
    scale: NDArray[np.float64]


def ordered_sum(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum along the last axis in ascending order of the values, whatever order they come in."""
    total: NDArray[np.float64] = np.sort(values, axis=-1).sum(axis=-1)
    return total


def mix(
    components: Sequence[Component],
    weights: NDArray[np.float64],
    gold_ids: NDArray[np.int64],
    k: int,
    policy: str = "bucket",
    support_size: int = 0,
) -> Mixture:
    """Mix components: P(v) = sum of w_t p_t(v), over the ids that one with weight knows.

    A component knows its kept ids, gold, and ``more_ids``. Of other ids it knows their sum, which
    stays in the tail (``bucket``, and ``exact``, where nothing should be missing) or is shared out
    evenly over all ids that it does not know (``spread``). The union of known ids is truncated to
    the k most probable; the tail is a sum of what is left and of the entries dropped, never
    1 - head. Rounding drift is divided out, so that head and tail sum to 1. Ids of probability 0
    are not kept.

    Args:
        components: the S teachers; their k may differ.
        weights: (N, S), rows sum to 1.
        gold_ids: (N,).
        k: ids to keep.
        policy: ``bucket``, ``spread`` or ``exact``.
        support_size: ids of the support, V; needed by ``spread`` alone.
    """
    components = [without_gold(component, gold_ids) for component in components]
    known = known_of(components, weights, gold_ids)
    nowhere = _nowhere(components, weights)
    spread_over = support_size if policy == "spread" else 0
    share = _shares(known, nowhere, spread_over)
    remainder = row_sum(weights * np.where(share == 0.0, known.left, nowhere))
    pieces = []
    # Some slots at a time, so that what is sorted stays in the processor's cache.
    for start, stop in list(iter_ranges(len(weights), _SLOTS_AT_ONCE)) or [(0, 0)]:
        at = slice(start, stop)
        told = _Told(
            components=[component.only(at) for component in components],
            weights=weights[at],
            gold_ids=gold_ids[at],
            known=known.only(at),
            shares=weights[at] * share[at],
            remainder=remainder[at],
        )
        pieces.append(_mix(told, k, spread_over))
    found = {name: np.concatenate([one[name] for one in pieces]) for name in pieces[0]}
    return Mixture(
        left=known.left,
        gold_outside=known.gold_outside,
        share=share,
        scale=known.scale,
        **found,
    )


@dataclass(frozen=True, slots=True)
class _Told:
    """What a mixture of some slots is made of.

    Attributes:
        components: the S teachers at these N slots.
        weights: (N, S).
        gold_ids: (N,).
        known: of the components.
        shares: (N, S), weighted, what each is taken to give to an id that it does not know.
        remainder: (N,), weighted, what is given to no id.
    """

    components: Sequence[Component]
    weights: NDArray[np.float64]
    gold_ids: NDArray[np.int64]
    known: Known
    shares: NDArray[np.float64]
    remainder: NDArray[np.float64]


def _mix(told: _Told, k: int, spread_over: int) -> dict[str, Array]:
    components, weights, known = told.components, told.weights, told.known
    union = unite(blocks_of(components, weights, told.gold_ids, known))
    columns = columns_of(components, weights, known, union)
    masses = summed(union, union.gather(columns))
    remainder = told.remainder
    if spread_over:
        remainder = remainder + _spread(union, masses, told.shares, spread_over)
    best = truncated(union, masses, remainder, k)
    counts = counts_known(union, best.at, best.valid)
    return {
        "ids": best.ids,
        "logprobs": best.logprobs,
        "n_valid": best.n_valid,
        "head": best.head,
        "tail": best.tail,
        "missing": (best.n_valid[:, None] - counts) * (weights > 0.0),
        "further": _further(components, weights * known.scale, union, columns, best),
    }


@dataclass(frozen=True, slots=True)
class Truncated:
    """The k most probable ids of N slots, and the rest.

    Attributes:
        at: (N, at most k) flat index of the first entry of each id in the union.
        valid: (N, at most k) bool, ids of positive probability.
        ids: as of ``Mixture``, like ``logprobs``, ``n_valid``, ``head`` and ``tail``.
        logprobs: (N, k) float32.
        n_valid: (N,) int64.
        head: (N,) float64.
        tail: (N,) float64.
    """

    at: NDArray[np.intp]
    valid: NDArray[np.bool_]
    ids: NDArray[np.int64]
    logprobs: NDArray[np.float32]
    n_valid: NDArray[np.int64]
    head: NDArray[np.float64]
    tail: NDArray[np.float64]


def truncated(
    union: Union, masses: NDArray[np.float64], remainder: NDArray[np.float64], k: int
) -> Truncated:
    """Divide masses by their sum, keep the largest, and move the others into the tail exactly.

    Args:
        union: of N slots and C columns.
        masses: (N, C) at the first entry of each id, 0 elsewhere; overwritten.
        remainder: (N,) mass outside the union.
        k: ids to keep.
    """
    totals = row_sums(masses) + remainder
    ranked = most_probable(masses, totals, k)
    valid = ranked.masses > 0.0
    ids = union.ids.ravel().take(ranked.at).astype(np.int64)
    n_valid = np.full(len(ids), ids.shape[1])
    if not valid.all():
        ids *= valid
        n_valid = np.count_nonzero(valid, axis=1)
    masses.ravel()[ranked.at.ravel()] = 0.0
    return Truncated(
        at=ranked.at,
        valid=valid,
        ids=padded(ids, k, 0),
        logprobs=padded(ranked.logprobs, k, -np.inf),
        n_valid=n_valid,
        head=row_sums(ranked.masses),
        tail=(remainder + row_sums(masses)) / totals,
    )


def blocks_of(
    components: Sequence[Component],
    weights: NDArray[np.float64],
    gold_ids: NDArray[np.int64],
    known: Known,
) -> list[Block]:
    """The ids that components with weight know: kept ones, gold, further ones, by component.

    Args:
        components: the S teachers.
        weights: (N, S).
        gold_ids: (N,).
        known: of these components.
    """
    blocks = []
    for t, component in enumerate(components):
        heard = weights[:, t] > 0.0
        valid = component.n_valid * heard
        k = component.ids.shape[1]
        used = None if valid.min(initial=k) >= k else np.arange(k) < valid[:, None]
        blocks.append(Block(component.ids, used, t))
        blocks.append(Block(gold_ids[:, None], known.gold_outside[:, t, None], t))
        if component.more_ids is not None:
            used = (component.more_ids >= 0) & heard[:, None]
            blocks.append(Block(component.more_ids, used, t))
    return blocks


def row_sum(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over the last axis in the order of the columns, (N, S) to (N,)."""
    total = values[:, 0].copy()
    for column in range(1, values.shape[1]):
        total += values[:, column]
    return total


def padded(values: Array, k: int, fill: float) -> Array:
    """Values of (N, at most k) with the columns that lack added, all ``fill``."""
    lacking = k - values.shape[1]
    return values if lacking <= 0 else np.pad(values, ((0, 0), (0, lacking)), constant_values=fill)


def columns_of(
    components: Sequence[Component],
    weights: NDArray[np.float64],
    known: Known,
    union: Union,
) -> NDArray[np.float64]:
    """Weighted probabilities in the order of ``blocks_of``, and 0 in the last column.

    Args:
        components: the S teachers.
        weights: (N, S).
        known: of these components.
        union: of these components.

    Returns:
        (N, C), column by column.
    """
    columns = np.empty(union.ids.shape)
    start = 0
    for t, component in enumerate(components):
        stop = start + component.ids.shape[1]
        weight = weights[:, t]
        np.multiply(component.kept, weight[:, None], out=columns[:, start:stop])
        np.multiply(known.gold[:, t], weight, out=columns[:, stop])
        start = stop + 1
        if component.more is not None:
            stop = start + component.more.shape[1]
            scaled = (known.scale[:, t] * weight)[:, None]
            np.multiply(component.more, scaled, out=columns[:, start:stop])
            start = stop
    columns[:, -1] = 0.0
    return columns


def _nowhere(components: Sequence[Component], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, S) mass of each component that no id of the support has."""
    nowhere = np.zeros(weights.shape)
    for t, component in enumerate(components):
        if component.adopted is not None:
            nowhere[:, t] = np.where(weights[:, t] > 0.0, component.adopted.hidden, 0.0)
    return nowhere


def _shares(known: Known, nowhere: NDArray[np.float64], support_size: int) -> NDArray[np.float64]:
    """What is left of each component, over the ids of the support that it does not know."""
    unknown = support_size - known.count
    left = np.maximum(known.left - nowhere, 0.0)
    share: NDArray[np.float64] = np.where(unknown > 0, left / np.maximum(unknown, 1), 0.0)
    return share


def _spread(
    union: Union,
    masses: NDArray[np.float64],
    share: NDArray[np.float64],
    support_size: int,
) -> NDArray[np.float64]:
    """Add to every id of the union what those that do not know it are taken to give it.

    Args:
        union: of N slots.
        masses: (N, C) as ``summed`` gives them; changed in place.
        share: (N, S), weighted.
        support_size: of the support.

    Returns:
        (N,) what ids outside the union are taken to have.
    """
    first = union.first()
    for t in range(share.shape[1]):
        masses += (first & ~is_known_by(union, t)) * share[:, t, None]
    outside: NDArray[np.float64] = row_sum(share) * (support_size - first.sum(axis=1))
    return outside


def _further(
    components: Sequence[Component],
    factors: NDArray[np.float64],
    union: Union,
    columns: NDArray[np.float64],
    best: Truncated,
) -> NDArray[np.float64]:
    """Kept further mass without the (N, S) factors by which ``columns_of`` multiplied it."""
    further = np.zeros(factors.shape)
    if all(component.more is None for component in components):
        return further
    chosen = np.zeros(columns.shape, np.bool_)
    chosen.ravel()[best.at] = best.valid
    kept = union.gather(columns) * spread_over_equals(union, chosen)
    start = 0
    for t, component in enumerate(components):
        start += component.ids.shape[1] + 1
        if component.more is not None:
            stop = start + component.more.shape[1]
            own = (union.column >= start) & (union.column < stop)
            factor = factors[:, t]
            further[:, t] = (kept * own).sum(axis=1) / np.where(factor > 0.0, factor, 1.0)
            start = stop
    return further
