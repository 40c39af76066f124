"""From teachers at some slots to their prediction weights there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ckd_cache.merge.evidence import Evidence
from ckd_cache.merge.fit import SLOT_TYPES
from ckd_cache.merge.rule import TargetRule
from ckd_cache.merge.slots import UsedSlots
from ckd_cache.merge.softmax import softmax_weights
from ckd_cache.merge.voices import Voice, indices_of, scalars_at
from ckd_cache.merge.weightings import WEIGHTINGS

__all__ = ["calibrated_indices", "evidence_of", "matched_weights", "plain_indices", "weights_of"]


def evidence_of(
    slots: UsedSlots, voices: Sequence[Voice], indices: Sequence[NDArray[np.int64]]
) -> Evidence:
    """What the rules may look at.

    Args:
        slots: the N used slots of some examples.
        voices: the S teachers, in the order of the weights.
        indices: of each teacher, (N,) into its temperatures: where its scalars are taken.
    """
    scalars = [scalars_at(voice, index) for voice, index in zip(voices, indices, strict=True)]
    return Evidence(
        gold_logprob=_columns([one.gold_logprob for one in scalars]),
        max_logprob=_columns([one.max_logprob for one in scalars]),
        entropy=_columns([one.entropy for one in scalars]),
        correct=np.stack([voice.correct for voice in voices], axis=1),
        present=np.stack([voice.present for voice in voices], axis=1),
        unit_logprob=_columns(
            [
                one.gold_logprob if slots.units_are_slots else voice.unit_logprob
                for one, voice in zip(scalars, voices, strict=True)
            ]
        ),
        example=slots.example,
        slot=slots.at[1].astype(np.int64),
        unit=slots.unit,
        document=slots.document,
        kind=slots.kind,
        masked=slots.masked,
    )


def weights_of(
    slots: UsedSlots, voices: Sequence[Voice], rule: TargetRule
) -> tuple[NDArray[np.float64], Evidence]:
    """Prediction weights (N, S) of a rule, and the evidence that they were computed from.

    Weights are computed at temperature 1, or at the fitted temperatures of a calibrated rule.

    Args:
        slots: the N used slots of some examples.
        voices: the S teachers, in the order of ``rule.teachers``.
        rule: with its fit, if it needs one.
    """
    indices = (
        plain_indices(slots, voices, 1.0)
        if rule.calibrate == "none"
        else calibrated_indices(slots, voices, rule)
    )
    evidence = evidence_of(slots, voices, indices)
    return WEIGHTINGS[rule.weighting].weigh(evidence, rule), evidence


def matched_weights(evidence: Evidence, rule: TargetRule) -> NDArray[np.float64] | None:
    """Gold's weights (N, S), whose mass on gold a sharpened target is to match; else None."""
    if not WEIGHTINGS[rule.weighting].sharpened:
        return None
    return softmax_weights(evidence.gold_logprob, rule.tau, evidence.present)


def plain_indices(
    slots: UsedSlots, voices: Sequence[Voice], temperature: float
) -> list[NDArray[np.int64]]:
    """Of each teacher, (N,) the index of one temperature that all were captured at."""
    return [
        np.full(len(slots), voice.capture.temperatures.index(temperature), np.int64)
        for voice in voices
    ]


def calibrated_indices(
    slots: UsedSlots, voices: Sequence[Voice], rule: TargetRule
) -> list[NDArray[np.int64]]:
    """Of each teacher, (N,) the index of the temperature that was fitted for the type of slot."""
    fitted = None if rule.fit is None else rule.fit.temperatures
    if fitted is None:
        return plain_indices(slots, voices, 1.0)
    kind = np.where(slots.masked, 0, 1)
    return [
        indices_of(voice.capture, [fitted[voice.name][one] for one in SLOT_TYPES])[kind]
        for voice in voices
    ]


def _columns(values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.stack(values, axis=1)
