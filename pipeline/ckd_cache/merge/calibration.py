"""Temperatures at which teachers are calibrated, chosen among those that they were captured at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ckd_cache.merge.fit import SLOT_TYPES
from ckd_cache.merge.voices import Scalars
from ckd_cache.numerics.mixture import temper_scalar

__all__ = [
    "FEWEST_SLOTS",
    "SEEN",
    "NllSums",
    "add_sums",
    "calibrated_scalars",
    "choose_temperatures",
    "nll_sums",
]

SEEN = ("masked", "random", "kept")
"""What the models see at a slot, by number: the mask token, another token, gold itself."""
FEWEST_SLOTS = 100
"""A type of slots with fewer of them takes the temperature that suits all slots together."""


@dataclass(frozen=True, slots=True)
class NllSums:
    """What calibrating a teacher needs; sums of several chunks can be added.

    Attributes:
        nll: (3, T) float64, sums of -log p(gold) at each temperature, by ``SEEN``.
        slots: (3,) int64, slots they were summed over.
        left_out: slots where gold has probability 0, at every temperature.
    """

    nll: NDArray[np.float64]
    slots: NDArray[np.int64]
    left_out: int


def nll_sums(
    gold_logprob: NDArray[np.float64],
    logsumexp: NDArray[np.float64],
    temperatures: Sequence[float],
    seen: NDArray[np.int64],
) -> NllSums:
    """Negative log-likelihood of gold under one teacher at its temperatures.

    NLL(T) = lse_T - z_y / T with z_y = gold_logprob + lse_1: exact at these temperatures, and
    known at no other.

    Args:
        gold_logprob: (N,) at temperature 1; NaN where the teacher is not present.
        logsumexp: (N, T) of logits / T.
        temperatures: T of them, 1 among them.
        seen: (N,) number in ``SEEN``.
    """
    present = ~np.isnan(gold_logprob)
    used = present & ~np.isneginf(gold_logprob)
    gold, lse, kinds = gold_logprob[used], logsumexp[used], seen[used]
    one = lse[:, list(temperatures).index(1.0)]
    nll = [
        np.bincount(kinds, -temper_scalar(gold, one, lse[:, place], temperature), len(SEEN))
        for place, temperature in enumerate(temperatures)
    ]
    return NllSums(
        nll=np.stack(nll, axis=1),
        slots=np.bincount(kinds, minlength=len(SEEN)).astype(np.int64),
        left_out=int((present & ~used).sum()),
    )


def add_sums(one: NllSums, other: NllSums) -> NllSums:
    """Sums over the slots of both."""
    return NllSums(one.nll + other.nll, one.slots + other.slots, one.left_out + other.left_out)


def choose_temperatures(
    sums: NllSums, temperatures: Sequence[float], fewest: int = FEWEST_SLOTS
) -> Mapping[str, float]:
    """The temperature of least negative log-likelihood, by type of slot.

    Random and kept slots share one: which of the two a slot is depends on gold. Of equal
    temperatures the one nearest to 1 is taken; without any slot, 1.

    Args:
        sums: of the teacher.
        temperatures: T of them.
        fewest: a type with fewer slots takes the temperature of all slots together.
    """
    masked = SEEN.index("masked")
    by_type = {
        "masked": (sums.nll[masked], int(sums.slots[masked])),
        "shown": (np.delete(sums.nll, masked, axis=0).sum(axis=0), int(sums.slots[1:].sum())),
    }
    together = sums.nll.sum(axis=0)
    return {
        kind: _least(by_type[kind][0] if by_type[kind][1] >= fewest else together, temperatures)
        for kind in SLOT_TYPES
    }


def calibrated_scalars(
    gold_logprob: NDArray[np.float64],
    max_logprob: NDArray[np.float64],
    logsumexp: NDArray[np.float64],
    entropy: NDArray[np.float64],
    temperatures: Sequence[float],
    chosen: NDArray[np.int64],
) -> Scalars:
    """Scalars of one teacher at the temperature that was chosen for each slot.

    Args:
        gold_logprob: (N,) at temperature 1.
        max_logprob: (N,) at temperature 1; no temperature changes which id it belongs to.
        logsumexp: (N, T) of logits / T.
        entropy: (N, T) nats.
        temperatures: T of them, 1 among them.
        chosen: (N,) index of the slot's temperature.
    """
    one = logsumexp[:, list(temperatures).index(1.0)]
    gold, largest = gold_logprob.copy(), max_logprob.copy()
    for place, temperature in enumerate(temperatures):
        there = chosen == place
        lse = logsumexp[there, place]
        gold[there] = temper_scalar(gold[there], one[there], lse, temperature)
        largest[there] = temper_scalar(largest[there], one[there], lse, temperature)
    return Scalars(
        gold_logprob=gold,
        max_logprob=largest,
        entropy=np.take_along_axis(entropy, chosen[:, None], axis=1)[:, 0],
    )


def _least(nll: NDArray[np.float64], temperatures: Sequence[float]) -> float:
    nearest_first = sorted(range(len(temperatures)), key=lambda i: abs(np.log(temperatures[i])))
    return temperatures[min(nearest_first, key=lambda i: float(nll[i]))]
