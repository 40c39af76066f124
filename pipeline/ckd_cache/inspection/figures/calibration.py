"""Calibration curves of teachers at every temperature that they were captured at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ckd_cache.merge.reliability import (
    Reliability,
    add_reliability,
    expected_calibration_error,
    reliability,
)
from ckd_cache.merge.slots import KEPT, MASKED, RANDOM
from ckd_cache.merge.voices import Voice, scalars_at
from ckd_cache.types import JsonObject

__all__ = [
    "BINS",
    "SEEN_NAMES",
    "Curve",
    "CurveKey",
    "add_curves",
    "curve_figures",
    "curves_by_type",
    "teacher_curves",
]

BINS = 15
SEEN_NAMES: Mapping[int, str] = {MASKED: "masked", RANDOM: "random", KEPT: "kept"}
"""What the models see at a slot; calibration differs between them, so they are kept apart."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Confidence against correctness at some slots; those of chunks can be added.

    Attributes:
        reliability: slots by confidence.
        nll: sum of -log p(gold) over the slots where it is finite.
        gold_zero: slots where gold has probability 0.
    """

    reliability: Reliability
    nll: float
    gold_zero: int

    @property
    def slots(self) -> int:
        """How many slots."""
        return int(self.reliability.slots.sum())


@dataclass(frozen=True, slots=True)
class CurveKey:
    """Whose curve it is.

    Attributes:
        temperature: of the distributions.
        seen: what the models see at the slots: a name in ``SEEN_NAMES``.
    """

    temperature: float
    seen: str


def curves_by_type(
    max_logprob: NDArray[np.float64],
    correct: NDArray[np.bool_],
    gold_logprob: NDArray[np.float64],
    seen: NDArray[np.int64],
    temperature: float,
) -> dict[CurveKey, Curve]:
    """One curve for each type of slot.

    Args:
        max_logprob: (N,) logprob of the most probable id at the temperature.
        correct: (N,) whether that id is gold.
        gold_logprob: (N,) at the temperature.
        seen: (N,) number in ``SEEN_NAMES``.
        temperature: of the distributions.
    """
    found = {}
    for number, name in SEEN_NAMES.items():
        there = seen == number
        gold = gold_logprob[there]
        finite = np.isfinite(gold)
        found[CurveKey(temperature, name)] = Curve(
            reliability=reliability(np.exp(max_logprob[there]), correct[there], BINS),
            nll=-float(gold[finite].sum()),
            gold_zero=int((~finite).sum()),
        )
    return found


def teacher_curves(
    voice: Voice, seen: NDArray[np.int64], counted: NDArray[np.bool_]
) -> dict[CurveKey, Curve]:
    """Curves of a teacher at each of its temperatures.

    Args:
        voice: the teacher at N slots.
        seen: (N,) number in ``SEEN_NAMES``.
        counted: (N,) False at slots to leave out.
    """
    used = voice.present & counted
    found: dict[CurveKey, Curve] = {}
    for place, temperature in enumerate(voice.capture.temperatures):
        scalars = scalars_at(voice, np.full(used.shape, place, np.int64))
        found |= curves_by_type(
            scalars.max_logprob[used],
            voice.correct[used],
            scalars.gold_logprob[used],
            seen[used],
            temperature,
        )
    return found


def add_curves(one: Curve, other: Curve) -> Curve:
    """The slots of both."""
    return Curve(
        add_reliability(one.reliability, other.reliability),
        one.nll + other.nll,
        one.gold_zero + other.gold_zero,
    )


def curve_figures(curve: Curve) -> JsonObject:
    """A curve as strict JSON; means are None where there is nothing to take them of."""
    found = curve.reliability
    finite = curve.slots - curve.gold_zero
    return {
        "slots": curve.slots,
        "expected_calibration_error": expected_calibration_error(found) if curve.slots else None,
        "mean_confidence": _mean(float(found.confidence.sum()), curve.slots),
        "accuracy": _mean(float(found.hits.sum()), curve.slots),
        "nll": _mean(curve.nll, finite),
        "gold_zero": curve.gold_zero,
        "bins": [
            {
                "slots": int(slots),
                "confidence": _mean(float(confidence), int(slots)),
                "accuracy": _mean(float(hits), int(slots)),
            }
            for slots, confidence, hits in zip(
                found.slots, found.confidence, found.hits, strict=True
            )
        ],
    }


def _mean(total: float, count: int) -> float | None:
    return total / count if count else None
