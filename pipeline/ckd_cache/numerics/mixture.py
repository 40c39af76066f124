"""Arithmetic mixtures of truncated distributions, slot by slot (docs/merge.md).

Every sum that runs over teachers is taken in the order of its values, so the order in which
teachers are listed changes no bit of a mixture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ckd_cache.numerics.logspace import log_probability
from ckd_cache.types import Array

__all__ = ["Component", "Mixture", "mix", "ordered_sum", "temper", "temper_scalar"]

_NO_ID = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Component:
    """What is known of one teacher at N slots, as probabilities at the mixture's temperature.

    Attributes:
        ids: (N, k) int64 by rank.
        kept: (N, k) float64, probabilities; 0 from rank ``n_valid`` on.
        n_valid: (N,) int64, at least 1.
        tail: (N,) float64, mass outside the kept ids, so that each row with it sums to 1.
        gold: (N,) float64, probability of gold.
    """

    ids: NDArray[np.int64]
    kept: NDArray[np.float64]
    n_valid: NDArray[np.int64]
    tail: NDArray[np.float64]
    gold: NDArray[np.float64]
    more_ids: NDArray[np.int64] | None = None
    more: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class Mixture:
    """A mixture of S components at N slots, truncated to k ids.

    Attributes:
        ids: (N, k) int64, by float32 logprob descending, then id ascending; 0 where nothing is.
        logprobs: (N, k) float32; -inf from rank ``n_valid`` on.
        n_valid: (N,) int64.
        head: (N,) float64, kept mass.
        tail: (N,) float64, mass of everything else; head + tail is 1 up to rounding.
        left: (N, S) float64, each component's tail without a gold that it does not keep.
        gold_outside: (N, S) bool, the component does not keep gold.
        missing: (N, S) int64, kept ids of the mixture of which the component says nothing but
            that they are in its tail.
    """

    ids: NDArray[np.int64]
    logprobs: NDArray[np.float32]
    n_valid: NDArray[np.int64]
    head: NDArray[np.float64]
    tail: NDArray[np.float64]
    left: NDArray[np.float64]
    gold_outside: NDArray[np.bool_]
    missing: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Everything known of any id, (N, C) with C = sum of (k_t + 1), sorted by id in each row."""

    ids: NDArray[np.int64]
    masses: NDArray[np.float64]
    source: NDArray[np.int64]


def temper(
    logprobs: NDArray[np.float64],
    n_valid: NDArray[np.int64],
    tail: NDArray[np.float64],
    temperature: float | NDArray[np.float64],
) -> NDArray[np.float64]:
    """Kept probabilities at a temperature, scaled so that they sum to ``1 - exp(tail)``.

    This is exp((logprob + lse_1)/T - lse_T); the two log-sum-exps are the same for all entries of
    a slot, so the scaling replaces them and takes their rounding out.

    Args:
        logprobs: (N, k) at temperature 1.
        n_valid: (N,) kept entries.
        tail: (N,) log of the mass outside, at ``temperature``.
        temperature: T > 0, one for all or (N,).

    Returns:
        (N, k); 0 from rank ``n_valid`` on.
    """
    used = (np.arange(logprobs.shape[1]) < n_valid[:, None]) & np.isfinite(logprobs)
    divisor = np.asarray(temperature, dtype=np.float64).reshape(-1, 1)
    scaled = np.where(used, logprobs / divisor, -np.inf)
    top = scaled.max(axis=1, keepdims=True, initial=-np.inf)
    powers = np.exp(scaled - np.where(np.isfinite(top), top, 0.0))
    total = powers.sum(axis=1)
    # Where a stored tail rounds to all the mass there is nothing to scale.
    factor = -np.expm1(tail) / np.where(total > 0.0, total, 1.0)
    result: NDArray[np.float64] = powers * factor[:, None]
    return result


def temper_scalar(
    logprob: NDArray[np.float64],
    lse_one: NDArray[np.float64],
    lse: NDArray[np.float64],
    temperature: float,
) -> NDArray[np.float64]:
    """Logprob of one id at a temperature: (logprob + lse_1)/T - lse_T; as given where T = 1.

    Args:
        logprob: (N,) at temperature 1.
        lse_one: (N,) log-sum-exp of the logits at temperature 1.
        lse: (N,) log-sum-exp of logits / T.
        temperature: T > 0.
    """
    if temperature == 1.0:
        return logprob
    result: NDArray[np.float64] = np.minimum((logprob + lse_one) / temperature - lse, 0.0)
    return result


def ordered_sum(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum along the last axis in ascending order of the values, whatever order they come in."""
    total: NDArray[np.float64] = np.sort(values, axis=-1).sum(axis=-1)
    return total


def mix(
    components: Sequence[Component],
    weights: NDArray[np.float64],
    gold_ids: NDArray[np.int64],
    k: int,
) -> Mixture:
    """Mix components: P(v) = sum of w_t p_t(v) over the components that know p_t(v).

    A component knows its kept ids and gold. What it does not know stays in the tail. The union of
    known ids is truncated to the k most probable; the tail is the sum of the weighted tails that
    are left and of the entries dropped, never 1 - head. Rounding drift is divided out, so that
    head and tail sum to 1. Ids of probability 0 are not kept.

    Args:
        components: the S teachers; their k may differ.
        weights: (N, S), rows sum to 1.
        gold_ids: (N,).
        k: ids to keep.
    """
    outside = np.stack([_outside(c, gold_ids) for c in components], axis=1)
    # Rounding may put gold above the tail it belongs to: it gets no more than the tail has.
    extra = np.stack([np.minimum(c.gold, c.tail) for c in components], axis=1) * outside
    left = np.stack([c.tail for c in components], axis=1) - extra
    candidates = _sorted(components, weights, gold_ids, extra, outside)
    masses, first = _merge_equal_ids(candidates)
    remainder = ordered_sum(weights * left)
    total = masses.sum(axis=1) + remainder
    masses /= total[:, None]
    picked = _most_probable(masses, k)
    kept = np.take_along_axis(masses, picked, axis=1)
    ids = np.where(kept > 0.0, np.take_along_axis(candidates.ids, picked, axis=1), 0)
    is_kept = np.zeros(masses.shape, dtype=np.bool_)
    np.put_along_axis(is_kept, picked, kept > 0.0, axis=1)
    n_valid = is_kept.sum(axis=1, dtype=np.int64)
    is_known = is_kept.ravel()[first].reshape(masses.shape)
    known = _count_by_source(is_known, candidates.source, len(components))
    return Mixture(
        ids=_pad(ids, k, 0),
        logprobs=_pad(log_probability(kept).astype(np.float32), k, -np.inf),
        n_valid=n_valid,
        head=kept.sum(axis=1),
        tail=remainder / total + np.where(is_kept, 0.0, masses).sum(axis=1),
        left=left,
        gold_outside=outside,
        missing=n_valid[:, None] - known,
    )


def _outside(component: Component, gold_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    used = np.arange(component.ids.shape[1]) < component.n_valid[:, None]
    result: NDArray[np.bool_] = ~((component.ids == gold_ids[:, None]) & used).any(axis=1)
    return result


def _sorted(
    components: Sequence[Component],
    weights: NDArray[np.float64],
    gold_ids: NDArray[np.int64],
    extra: NDArray[np.float64],
    outside: NDArray[np.bool_],
) -> _Candidates:
    ids, masses, source = [], [], []
    for t, component in enumerate(components):
        used = np.arange(component.ids.shape[1]) < component.n_valid[:, None]
        ids += [np.where(used, component.ids, _NO_ID)]
        ids += [np.where(outside[:, t], gold_ids, _NO_ID)[:, None]]
        masses += [component.kept * weights[:, t, None], (extra[:, t] * weights[:, t])[:, None]]
        source += [t] * (component.ids.shape[1] + 1)
    all_ids, all_masses = np.concatenate(ids, axis=1), np.concatenate(masses, axis=1)
    order = np.lexsort((all_masses, all_ids), axis=1)
    return _Candidates(
        ids=np.take_along_axis(all_ids, order, axis=1),
        masses=np.take_along_axis(all_masses, order, axis=1),
        source=np.asarray(source, dtype=np.int64)[order],
    )


def _merge_equal_ids(
    candidates: _Candidates,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Masses summed into the first entry of each id, 0 elsewhere; flat index of the first."""
    first = np.ones(candidates.ids.shape, dtype=np.bool_)
    first[:, 1:] = candidates.ids[:, 1:] != candidates.ids[:, :-1]
    starts = np.flatnonzero(first)
    masses = np.zeros(first.size, dtype=np.float64)
    masses[starts] = np.add.reduceat(candidates.masses.ravel(), starts)
    return masses.reshape(first.shape), starts[np.cumsum(first.ravel()) - 1]


def _count_by_source(
    chosen: NDArray[np.bool_], source: NDArray[np.int64], n_sources: int
) -> NDArray[np.int64]:
    counts = [(chosen & (source == t)).sum(axis=1, dtype=np.int64) for t in range(n_sources)]
    return np.stack(counts, axis=1)


def _most_probable(masses: NDArray[np.float64], k: int) -> NDArray[np.intp]:
    # Ranked by what is stored, so that equal stored values stand by ascending id.
    stored = log_probability(masses).astype(np.float32)
    return np.argsort(-stored, axis=1, kind="stable")[:, :k]


def _pad(values: Array, k: int, fill: float) -> Array:
    lacking = max(k - values.shape[1], 0)
    return np.pad(values, ((0, 0), (0, lacking)), constant_values=fill)
