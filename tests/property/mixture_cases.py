"""Teachers with dense distributions, and what a mixture gets to see of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ckd_cache.numerics.bounds import Rounding, rounding_at
from ckd_cache.numerics.mixture import Component, temper
from ckd_cache.numerics.quantise import from_drops, to_drops, to_grid, to_half
from ckd_cache.numerics.topk import SlotDistributions, reference_distributions

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class View:
    """How teachers are seen: at one temperature, rounded to a grid (0: not at all), and whether
    each tells its logprobs of all ids that the others keep."""

    temperature: float = 1.0
    step: float = 0.0
    gathered: bool = False

    @property
    def rounding(self) -> Rounding:
        return rounding_at(self.step, self.temperature, self.step if self.gathered else 0.0)


def peaked(seed: int, teachers: int, size: int, n: int = 24) -> list[Floats]:
    """Logits of teachers that agree on much and differ on much, as trained ones do.

    Some ids are impossible for a teacher, never the last; halves of a nat make ties, in half of
    the slots.
    """
    rng = np.random.default_rng(seed)
    common = -1.5 * np.log1p(rng.permuted(np.tile(np.arange(size), (n, 1)), axis=1))
    found = []
    for _ in range(teachers):
        logits = common + rng.normal(scale=2.0, size=(n, size))
        logits[::2] = np.rint(2.0 * logits[::2]) / 2.0
        logits[:, :-1][rng.random((n, size - 1)) < 0.05] = -np.inf
        found.append(logits)
    return found


def flat(seed: int, teachers: int, size: int, n: int = 24) -> list[Floats]:
    """Logits of teachers that know next to nothing, as random weights do."""
    rng = np.random.default_rng(seed)
    return [rng.normal(scale=0.05, size=(n, size)) for _ in range(teachers)]


def dense(logits: Floats, temperature: float = 1.0) -> Floats:
    powers = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


def golds_of(seed: int, logits: Sequence[Floats]) -> Integers:
    """Likely golds and unlikely ones."""
    rng = np.random.default_rng(seed)
    likely = np.argsort(-sum(dense(one) for one in logits), axis=1)[:, :6]
    picked = likely[np.arange(len(likely)), rng.integers(0, likely.shape[1], len(likely))]
    other = rng.integers(0, logits[0].shape[1], len(likely))
    return np.where(rng.random(len(likely)) < 0.6, picked, other)


def weights_of(seed: int, n: int, teachers: int, silent: float = 0.3) -> Floats:
    """Weights of rows of sum 1; a teacher has none with probability ``silent``, one always has."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(teachers), size=n)
    heard = rng.random((n, teachers)) >= silent
    heard[np.arange(n), rng.integers(0, teachers, n)] = True
    weights *= heard
    return weights / weights.sum(axis=1, keepdims=True)


def components_of(
    logits: Sequence[Floats], gold: Integers, sizes: Sequence[int], view: View = View()
) -> list[Component]:
    """Teachers that keep as many ids each as ``sizes`` says."""
    temperatures = (1.0, view.temperature)
    exact = [
        reference_distributions(one, gold, k, temperatures)
        for one, k in zip(logits, sizes, strict=True)
    ]
    return seen_as(logits, exact, view)


def seen_as(
    logits: Sequence[Floats], exact: Sequence[SlotDistributions], view: View
) -> list[Component]:
    """Teachers whose distributions at 1 and at the temperature of the view are known already."""
    more = [gathered_ids(exact, t) if view.gathered else None for t in range(len(exact))]
    return [_seen(*one, view) for one in zip(logits, exact, more, strict=True)]


def cut(exact: SlotDistributions, k: int) -> SlotDistributions:
    """The k most probable of the entries kept, at temperature 1; the others join the tail."""
    dropped = np.logaddexp.reduce(exact.logprobs[:, k:], axis=1, initial=-np.inf)
    return replace(
        exact,
        ids=exact.ids[:, :k],
        logprobs=exact.logprobs[:, :k],
        n_valid=np.minimum(exact.n_valid, k),
        tail=np.logaddexp(exact.tail, dropped[:, None]),
    )


def gathered_ids(exact: Sequence[SlotDistributions], t: int) -> Integers:
    """Ids that other teachers keep and teacher t does not, -1 after the last."""
    rows = []
    for i in range(len(exact[t].ids)):
        kept = [set(one.ids[i, : one.n_valid[i]].tolist()) for one in exact]
        rows.append(sorted(set.union(*kept) - kept[t]))
    found = np.full((len(rows), max(1, *map(len, rows))), -1)
    for i, row in enumerate(rows):
        found[i, : len(row)] = row
    return found


def _seen(logits: Floats, exact: SlotDistributions, more: Integers | None, view: View) -> Component:
    logprobs, tail, lse = exact.logprobs, exact.tail, exact.logsumexp
    gold, further = exact.gold_logprob, None
    if more is not None:
        further = np.take_along_axis(logits, np.maximum(more, 0), axis=1) - lse[:, :1]
    if view.step:
        tail, lse, gold = (
            f(x).astype(float) for f, x in ((to_half, tail), (to_grid, lse), (to_grid, gold))
        )
        drops = to_drops(logprobs, exact.n_valid, view.step)
        logprobs = from_drops(drops, exact.n_valid, tail[:, 0], view.step).astype(float)
        further = None if further is None else view.step * np.rint(further / view.step)
    kept = temper(logprobs, exact.n_valid, tail[:, 1], view.temperature)

    def probability(logprob: Floats) -> Floats:
        if view.temperature == 1.0:
            return np.exp(logprob)
        wide = lse if logprob.ndim == 1 else lse[:, :, None]
        return np.exp(np.minimum((logprob + wide[:, 0]) / view.temperature - wide[:, 1], 0.0))

    return Component(
        ids=exact.ids,
        kept=kept,
        n_valid=exact.n_valid,
        tail=np.exp(tail[:, 1]),
        gold=probability(gold),
        more_ids=more,
        more=None if further is None else np.where(more >= 0, probability(further), 0.0),
    )


def silenced(components: Sequence[Component], weights: Floats) -> list[Component]:
    """Where a teacher has no weight, what stands in for one that is absent."""
    found = []
    for t, one in enumerate(components):
        gone = weights[:, t] == 0.0
        more_ids, more = one.more_ids, one.more
        found.append(
            Component(
                ids=np.where(gone[:, None], 0, one.ids),
                kept=np.where(gone[:, None], 0.0, one.kept),
                n_valid=np.where(gone, 0, one.n_valid),
                tail=np.where(gone, 1.0, one.tail),
                gold=np.where(gone, np.nan, one.gold),
                more_ids=None if more_ids is None else np.where(gone[:, None], -1, more_ids),
                more=None if more is None else np.where(gone[:, None], 0.0, more),
            )
        )
    return found
