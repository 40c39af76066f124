"""The slots that a fit is made on: whole examples of the split ``fit``, evenly thinned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from ckd_cache.merge.evidence import Evidence
from ckd_cache.types import Array

__all__ = ["MOST_SLOTS", "FitBatch", "FitSample", "collect", "evidence_rows"]

MOST_SLOTS = 2**18
"""Slots that a fit is made on at most; more change no decimal that matters."""


@dataclass(frozen=True, slots=True)
class FitBatch:
    """S teachers at the N used slots of consecutive whole examples of the split ``fit``.

    Attributes:
        evidence: at temperature 1.
        logsumexp: (N, S, T) float64 of logits / T, at temperatures that all teachers share; NaN
            where a teacher is not present.
        entropy: (N, S, T) float64, nats, made comparable as ``evidence.entropy`` is.
        seen: (N,) int64, what the models see at the slot, by number in ``calibration.SEEN``.
    """

    evidence: Evidence
    logsumexp: NDArray[np.float64]
    entropy: NDArray[np.float64]
    seen: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of slots, N."""
        return len(self.evidence)


@dataclass(frozen=True, slots=True)
class FitSample:
    """What ``collect`` kept.

    Attributes:
        batch: all kept slots in one; None where there was no slot.
        slots: slots there were.
        examples: examples there were.
        every: every so many examples one was kept.
    """

    batch: FitBatch | None
    slots: int
    examples: int
    every: int


def collect(batches: Iterable[FitBatch], most: int = MOST_SLOTS) -> FitSample:
    """Keep every 2^j-th example, with the least j that keeps no more than ``most`` slots.

    The batches are read once and may cut the examples anywhere between two of them: the same
    examples are kept. Examples are kept whole, as some features are means over them.

    Args:
        batches: in the order of the set.
        most: slots to keep; the first example is kept whatever it has.
    """
    kept: list[tuple[NDArray[np.int64], FitBatch]] = []
    slots, examples, every = 0, 0, 1
    for batch in batches:
        if not len(batch):
            continue
        number = examples + _ordinals(batch.evidence.example)
        slots, examples = slots + len(batch), int(number[-1]) + 1
        kept.append(_every(number, batch, every))
        while sum(len(one) for _, one in kept) > most and every < examples:
            every *= 2
            kept = [_every(numbers, one, every) for numbers, one in kept]
    parts = [one for _, one in kept if len(one)]
    return FitSample(_joined(parts) if parts else None, slots, examples, every)


def evidence_rows(evidence: Evidence, rows: Array) -> Evidence:
    """The evidence at some slots."""
    return replace(
        evidence, **{one.name: getattr(evidence, one.name)[rows] for one in fields(Evidence)}
    )


def _ordinals(example: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.cumsum(np.diff(example, prepend=example[0]) != 0, dtype=np.int64)


def _every(
    number: NDArray[np.int64], batch: FitBatch, every: int
) -> tuple[NDArray[np.int64], FitBatch]:
    rows = np.flatnonzero(number % every == 0)
    if len(rows) == len(number):
        return number, batch
    thinned = FitBatch(
        evidence=evidence_rows(batch.evidence, rows),
        logsumexp=batch.logsumexp[rows],
        entropy=batch.entropy[rows],
        seen=batch.seen[rows],
    )
    return number[rows], thinned


def _joined(parts: Sequence[FitBatch]) -> FitBatch:
    members = {
        one.name: np.concatenate([getattr(part.evidence, one.name) for part in parts])
        for one in fields(Evidence)
    }
    sizes = [int(part.evidence.unit[-1]) + 1 for part in parts]
    shifts = np.cumsum([0, *sizes[:-1]])
    units = [part.evidence.unit + shift for part, shift in zip(parts, shifts, strict=True)]
    return FitBatch(
        evidence=Evidence(**(members | {"unit": np.concatenate(units)})),
        logsumexp=np.concatenate([part.logsumexp for part in parts]),
        entropy=np.concatenate([part.entropy for part in parts]),
        seen=np.concatenate([part.seen for part in parts]),
    )
