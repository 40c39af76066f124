"""What is known of one teacher's distributions, as a mixture takes it (docs/merge.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ckd_cache.numerics.logspace import row_sums

__all__ = ["Adopted", "Component", "Known", "known_of", "temper", "temper_scalar", "without_gold"]


@dataclass(frozen=True, slots=True)
class Adopted:
    """What a teacher said at N slots before its distributions were carried to another support.

    Attributes:
        hidden: (N,) float64, mass of kept ids that go nowhere; it is in the component's tail, and
            no id of the support has any of it.
        tail: (N,) float64, mass outside the ids that the teacher kept.
        n_valid: (N,) int64, ids that it kept.
        least: (N,) float64, the smallest of their probabilities, which no other id exceeds.
        gold: (N,) float64, what of gold comes from its own scalar.
        fibre: most of its ids that go to one id.
    """

    hidden: NDArray[np.float64]
    tail: NDArray[np.float64]
    n_valid: NDArray[np.int64]
    least: NDArray[np.float64]
    gold: NDArray[np.float64]
    fibre: int

    def only(self, chosen: slice) -> Adopted:
        """The same at some of these slots."""
        return replace(
            self,
            hidden=self.hidden[chosen],
            tail=self.tail[chosen],
            n_valid=self.n_valid[chosen],
            least=self.least[chosen],
            gold=self.gold[chosen],
        )


@dataclass(frozen=True, slots=True)
class Component:
    """What is known of one teacher at N slots, as probabilities at the mixture's temperature.

    Where a teacher has no distribution its weight is 0, ``n_valid`` is 0, ``kept`` is 0 and
    ``tail`` is 1; ``gold`` may be anything there.

    Attributes:
        ids: (N, k) int32 or int64 by rank.
        kept: (N, k) float64, probabilities; 0 from rank ``n_valid`` on.
        n_valid: (N,) int64, at least 1.
        tail: (N,) float64, mass outside the kept ids, so that each row with it sums to 1.
        gold: (N,) float64, probability of gold.
        more_ids: (N, g) int64, further ids of known probability, none of them kept and none twice
            in a row; -1 where nothing is. None where there are none at all. Gold among them does
            not count, as ``gold`` has its probability already.
        more: (N, g) float64, their probabilities, which ``tail`` contains; 0 where nothing is.
        adopted: of a teacher over another support, what it was before it was carried over; None
            where the support is its own.
    """

    ids: NDArray[np.signedinteger[Any]]
    kept: NDArray[np.float64]
    n_valid: NDArray[np.int64]
    tail: NDArray[np.float64]
    gold: NDArray[np.float64]
    more_ids: NDArray[np.int64] | None = None
    more: NDArray[np.float64] | None = None
    adopted: Adopted | None = None

    def only(self, chosen: slice) -> Component:
        """The same component at some of these slots."""
        return Component(
            ids=self.ids[chosen],
            kept=self.kept[chosen],
            n_valid=self.n_valid[chosen],
            tail=self.tail[chosen],
            gold=self.gold[chosen],
            more_ids=None if self.more_ids is None else self.more_ids[chosen],
            more=None if self.more is None else self.more[chosen],
            adopted=None if self.adopted is None else self.adopted.only(chosen),
        )


@dataclass(frozen=True, slots=True)
class Known:
    """How much of S components is known at N slots; all 0 where a component has no weight.

    Attributes:
        gold_outside: (N, S) bool, the component does not keep gold.
        gold: (N, S) float64, what gold takes out of the tail; 0 where gold is kept.
        scale: (N, S) float64, factor of the further probabilities; below 1 where rounding put
            more into the tail's ids than the tail has.
        more: (N, S) float64, what the further ids take out of the tail.
        left: (N, S) float64, mass of which nothing but its sum is known.
        count: (N, S) int64, ids of known probability.
    """

    gold_outside: NDArray[np.bool_]
    gold: NDArray[np.float64]
    scale: NDArray[np.float64]
    more: NDArray[np.float64]
    left: NDArray[np.float64]
    count: NDArray[np.int64]

    def only(self, chosen: slice) -> Known:
        """The same at some of these slots."""
        return Known(
            gold_outside=self.gold_outside[chosen],
            gold=self.gold[chosen],
            scale=self.scale[chosen],
            more=self.more[chosen],
            left=self.left[chosen],
            count=self.count[chosen],
        )


def without_gold(component: Component, gold_ids: NDArray[np.int64]) -> Component:
    """The same component without gold among its further ids; itself if it has none.

    Args:
        component: at N slots.
        gold_ids: (N,).
    """
    if component.more_ids is None or component.more is None:
        return component
    gold = component.more_ids == gold_ids[:, None]
    if not gold.any():
        return component
    return replace(
        component,
        more_ids=np.where(gold, -1, component.more_ids),
        more=np.where(gold, 0.0, component.more),
    )


def known_of(
    components: Sequence[Component], weights: NDArray[np.float64], gold_ids: NDArray[np.int64]
) -> Known:
    """Tell what is known of components from what is not.

    Args:
        components: the S teachers, ``without_gold``.
        weights: (N, S), not negative.
        gold_ids: (N,).
    """
    heard = weights > 0.0
    outside = np.stack([_outside(c, gold_ids) for c in components], axis=1) & heard
    tail = np.where(heard, np.stack([c.tail for c in components], axis=1), 0.0)
    gold = np.where(outside, np.stack([c.gold for c in components], axis=1), 0.0)
    count = np.stack([c.n_valid for c in components], axis=1) * heard + outside
    more = np.zeros(weights.shape)
    for t, component in enumerate(components):
        if component.more is not None and component.more_ids is not None:
            more[:, t] = component.more.sum(axis=1) * heard[:, t]
            count[:, t] += (component.more_ids >= 0).sum(axis=1) * heard[:, t]
    # Rounding may put known ids above the tail they belong to: they get no more than it has.
    total = gold + more
    scale = np.minimum(tail, total) / np.where(total > 0.0, total, 1.0)
    scale[total <= tail] = 1.0
    gold, more = np.minimum(gold * scale, tail), more * scale
    left = np.maximum(tail - gold - more, 0.0)
    return Known(outside, gold, scale, more, left, count)


def _outside(component: Component, gold_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    found = component.ids == gold_ids.astype(component.ids.dtype)[:, None]
    k = found.shape[1]
    if component.n_valid.min(initial=k) < k:
        found &= np.arange(k) < component.n_valid[:, None]
    outside = np.ones(len(found), np.bool_)
    outside[np.flatnonzero(found) // k] = False
    return outside


def temper(
    logprobs: NDArray[np.floating[Any]],
    n_valid: NDArray[np.int64],
    tail: NDArray[np.float64],
    temperature: float | NDArray[np.float64],
) -> NDArray[np.float64]:
    """Kept probabilities at a temperature, scaled so that they sum to ``1 - exp(tail)``.

    This is exp((logprob + lse_1)/T - lse_T); the two log-sum-exps are the same for all entries of
    a slot, so the scaling replaces them and takes their rounding out.

    Args:
        logprobs: (N, k) at temperature 1, by rank.
        n_valid: (N,) kept entries.
        tail: (N,) log of the mass outside, at ``temperature``.
        temperature: T > 0, one for all slots or (N,).

    Returns:
        (N, k); 0 from rank ``n_valid`` on.
    """
    heat = np.asarray(temperature, dtype=np.float64)
    k = logprobs.shape[1]
    if (heat == 1.0).all():
        powers: NDArray[np.float64] = np.exp(logprobs, dtype=np.float64)
    else:
        # At low temperatures even the most probable id could become 0.
        heat = np.broadcast_to(heat, n_valid.shape)[:, None]
        shift = np.where((heat != 1.0) & np.isfinite(logprobs[:, :1]), logprobs[:, :1], 0.0)
        powers = np.exp((logprobs - shift) / heat)
    if n_valid.min(initial=k) < k:
        powers[np.arange(k) >= n_valid[:, None]] = 0.0
    total = row_sums(powers)
    # Where a stored tail rounds to all the mass there is nothing to scale.
    factor = -np.expm1(tail) / np.where(total > 0.0, total, 1.0)
    powers *= factor[:, None]
    return powers


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
