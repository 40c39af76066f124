"""Geometric mixtures of truncated distributions, and how far they can be from the true ones.

A product needs every factor: only ids that all teachers with weight know are told apart, all
others are the tail. What the tail has can only be bounded (docs/merge.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ckd_cache.errors import MergeError
from ckd_cache.numerics.bounds import Rounding, head_term, tail_term
from ckd_cache.numerics.component import Component, Known, known_of, without_gold
from ckd_cache.numerics.logspace import log_probability, softplus
from ckd_cache.numerics.mixture import (
    Mixture,
    blocks_of,
    columns_of,
    row_sum,
    truncated,
)
from ckd_cache.numerics.union import Union, spread_over_equals, summed, unite

__all__ = ["GeometricMixture", "mix_geometric", "uncertain_geometric"]

_VETO = -1e300
"""Log of probability 0 that can be multiplied by 0."""


@dataclass(frozen=True, slots=True)
class GeometricMixture:
    """A geometric mixture at N slots.

    Attributes:
        mixture: as of an arithmetic one; ``left`` is what each component has outside the ids that
            all know. Nothing is missing.
        log_inside: (N,) log of Z, the sum of the products over the ids that all know.
        log_outside: (N,) log of X, the most that the sum over all other ids can be.
        gold: (N,) float64, the probability of gold.
        partial: (N, S) bool, the component knows ids that another one does not.
    """

    mixture: Mixture
    log_inside: NDArray[np.float64]
    log_outside: NDArray[np.float64]
    gold: NDArray[np.float64]
    partial: NDArray[np.bool_]


def mix_geometric(
    components: Sequence[Component],
    weights: NDArray[np.float64],
    gold_ids: NDArray[np.int64],
    k: int,
) -> GeometricMixture:
    """Mix components: G(v) is proportional to the product of p_t(v)^w_t.

    Over the ids U that all components with weight know, Z is the sum of the products. By Hoelder's
    inequality the sum over all other ids is at most X, the product of p_t(V without U)^w_t; that
    is what the tail is given, so G(v) is the product over Z + X. A component of weight 0 has no
    say; one with weight that gives an id probability 0 vetoes it.

    Args:
        components: the S teachers; their k may differ.
        weights: (N, S), rows sum to 1.
        gold_ids: (N,).
        k: ids to keep.

    Raises:
        MergeError: at some slot the teachers leave no id a probability above 0.
    """
    components = [without_gold(component, gold_ids) for component in components]
    known = known_of(components, weights, gold_ids)
    union = unite(blocks_of(components, weights, gold_ids, known))
    raw = _probabilities(components, weights, known, union)
    logs = log_probability(raw)
    by_source = weights[:, union.sources()]
    logs = np.where(raw > 0.0, np.where(raw > 0.0, logs, 0.0) * by_source, _VETO)
    common = _known_by_all(union, weights)
    product = np.where(common, summed(union, union.gather(logs)), _VETO)
    left, partial = _outside(union, raw, common, known)
    log_outside = _log_product(left, weights)
    top = np.maximum(product.max(axis=1), log_outside)
    _check_possible(top)
    masses = np.where(product > _VETO, np.exp(product - top[:, None]), 0.0)
    remainder = np.exp(log_outside - top)
    log_inside = log_probability(masses.sum(axis=1)) + top
    gold = (masses * (union.ids == gold_ids[:, None])).sum(axis=1)
    gold /= masses.sum(axis=1) + remainder
    best = truncated(union, masses, remainder, k)
    mixture = Mixture(
        ids=best.ids,
        logprobs=best.logprobs,
        n_valid=best.n_valid,
        head=best.head,
        tail=best.tail,
        left=left,
        gold_outside=known.gold_outside,
        missing=np.zeros(weights.shape, np.int64),
        share=np.zeros(weights.shape),
        further=np.zeros(weights.shape),
        # Products take further ids and gold as they are.
        scale=np.ones(weights.shape),
    )
    return GeometricMixture(mixture, log_inside, log_outside, gold, partial)


def uncertain_geometric(
    components: Sequence[Component],
    weights: NDArray[np.float64],
    found: GeometricMixture,
    roundings: Sequence[Rounding],
    stored: Rounding,
) -> NDArray[np.float64]:
    """Bound on the total variation between a stored geometric mixture and the true one.

    Where the products over all other ids sum to anything between 0 and X, it is at most
    X / (Z + X), which is loose. If one component alone has weight, X is known and this is 0.
    Rounding makes X uncertain, and the logs of the products, by widths that add up to W, which
    costs tanh(W/4).

    Args:
        components: the S teachers.
        weights: (N, S), taken as exact.
        found: what ``mix_geometric`` made of them.
        roundings: of the S teachers, at the mixture's temperature.
        stored: of the mixture.

    Returns:
        (N,) float64.
    """
    errors, widths = np.zeros(weights.shape), np.zeros(weights.shape)
    for t, (component, rounding) in enumerate(zip(components, roundings, strict=True)):
        errors[:, t] = _error_of_left(component, found, t, rounding)
        widths[:, t] = _width(component, found, t, rounding)
    heard = weights > 0.0
    left, errors = found.mixture.left, np.where(heard, errors, 0.0)
    alone = np.count_nonzero(heard, axis=1) == 1
    least = _log_product(np.maximum(left - errors, 0.0), weights)
    lower = _share(np.where(alone, least, -np.inf), found.log_inside)
    upper = _share(_log_product(left + errors, weights), found.log_inside)
    taken = _share(found.log_outside, found.log_inside)
    loose = np.maximum(taken - lower, upper - taken)
    width = row_sum(weights * np.where(heard, widths, 0.0))
    own: NDArray[np.float64] = head_term(found.mixture.head, stored)
    own += tail_term(found.mixture.tail, stored)
    return np.where(found.mixture.n_valid > 0, loose + np.tanh(width / 4.0), 0.0) + own


def _probabilities(
    components: Sequence[Component], weights: NDArray[np.float64], known: Known, union: Union
) -> NDArray[np.float64]:
    """(N, C) by column. Not cut to what the tail has: a factor would move whole products."""
    golds = np.stack([component.gold for component in components], axis=1)
    whole = replace(
        known, gold=np.where(known.gold_outside, golds, 0.0), scale=np.ones(weights.shape)
    )
    return columns_of(components, np.ones(weights.shape), whole, union)


def _known_by_all(union: Union, weights: NDArray[np.float64]) -> NDArray[np.bool_]:
    counts = summed(union, np.ones(union.ids.shape))
    everyone = np.count_nonzero(weights > 0.0, axis=1)[:, None]
    common: NDArray[np.bool_] = union.first() & (counts == everyone)
    return common


def _outside(
    union: Union, raw: NDArray[np.float64], common: NDArray[np.bool_], known: Known
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Mass of each component outside the common ids; and whether some of it is of known ids."""
    apart = (union.ids != union.nothing) & ~spread_over_equals(union, common)
    partial = np.zeros(known.left.shape, np.bool_)
    if not apart.any():
        return known.left, partial
    left, masses = known.left.copy(), union.gather(raw) * apart
    source = union.source()
    for t in range(left.shape[1]):
        own = source == t
        left[:, t] += (masses * own).sum(axis=1)
        partial[:, t] = (apart & own).any(axis=1)
    return left, partial


def _log_product(masses: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    logs = log_probability(masses)
    heard = weights > 0.0
    return row_sum(np.where(heard, np.where(heard, logs, 0.0) * weights, 0.0))


def _check_possible(top: NDArray[np.float64]) -> None:
    impossible = np.flatnonzero(top <= _VETO)
    if impossible.size:
        message = (
            f"a geometric mixture does not exist at {impossible.size} of {top.size} slots, the "
            f"first of them number {impossible[0]}: every id has probability 0 under some "
            "teacher. Set mixture to `arithmetic`, or leave one of the teachers out"
        )
        raise MergeError(message)


def _share(
    log_outside: NDArray[np.float64], log_inside: NDArray[np.float64]
) -> NDArray[np.float64]:
    """X / (Z + X); 0 where Z is 0, since the tail is all there is then."""
    possible = np.isfinite(log_inside)
    ratio = np.where(possible, log_inside, 0.0) - log_outside
    return np.where(possible, np.exp(-softplus(ratio)), 0.0)


def _error_of_left(
    component: Component, found: GeometricMixture, t: int, rounding: Rounding
) -> NDArray[np.float64]:
    """How far the mass outside the common ids can be from what was taken for it."""
    error = tail_term(component.tail, rounding)
    outside = found.mixture.gold_outside[:, t]
    error += np.where(outside, component.gold, 0.0) * np.expm1(rounding.gold)
    if component.more is not None:
        error += component.more.sum(axis=1) * np.expm1(rounding.more)
    partial: NDArray[np.float64] = head_term(1.0 - component.tail, rounding)
    error += np.where(found.partial[:, t], partial, 0.0)
    return error


def _width(
    component: Component, found: GeometricMixture, t: int, rounding: Rounding
) -> NDArray[np.float64]:
    """Width of a range that holds 0 and the errors of a teacher's logprobs, in nats.

    Those of kept ids lie in a range of ``step`` around what rounding the tail moved all of them
    by; those of gold and of further ids, in one around 0.
    """
    head = 1.0 - component.tail
    moved = tail_term(component.tail, rounding) / np.where(head > 0.0, head, 1.0)
    moved = -np.log1p(-np.minimum(moved, 1.0 - 2.0**-53))
    single = np.where(found.mixture.gold_outside[:, t], rounding.gold, 0.0)
    if component.more is not None:
        single = np.maximum(single, rounding.more)
    return np.maximum(rounding.step + moved + single, 2.0 * single)
