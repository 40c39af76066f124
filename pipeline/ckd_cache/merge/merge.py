"""Teachers' distributions to a target, for the used slots of some examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ckd_cache.errors import MergeError
from ckd_cache.format.spec import Capture
from ckd_cache.merge.mixing import MixPlan, mix_slots
from ckd_cache.merge.rule import TargetRule, check_captures, needs_fit
from ckd_cache.merge.slots import UsedSlots, slots_of_arrays
from ckd_cache.merge.voices import Voice, voice_of
from ckd_cache.merge.weighing import calibrated_indices, matched_weights, plain_indices, weights_of
from ckd_cache.numerics.quantise import step_of
from ckd_cache.types import Array, TargetArrays, TeacherArrays, array_names, iter_ranges

__all__ = ["check_present", "merge_arrays", "merge_voices"]

_CANDIDATES_AT_ONCE = 1 << 20
"""Candidate ids that are worked on at a time: some tens of MB of float64 and int64."""


def merge_arrays(
    teachers: Sequence[TeacherArrays],
    captures: Sequence[Capture],
    gold_ids: NDArray[np.int64],
    slot_mask: NDArray[np.bool_],
    rule: TargetRule,
    support_size: int,
    quantise_max_nats: float,
) -> TargetArrays:
    """Merge teachers that are in memory into a target, not yet rounded for the disk.

    Every example counts as a segment and as a document of its own, all of one genre.

    Args:
        teachers: decoded distributions of the same B examples, in the order of ``rule.teachers``;
            their k may differ.
        captures: what is kept of each of them.
        gold_ids: (B, M).
        slot_mask: (B, M), True on used slots.
        rule: how to merge; with its fit, if it needs one.
        support_size: number of ids of the support.
        quantise_max_nats: ``max_nats`` that the target will be stored with, which ``uncertain``
            accounts for; 0 if it is stored exactly.

    Returns:
        B examples; unused slots are NaN in floating arrays and 0 in the others.

    Raises:
        MergeError: the rule does not fit the captures, a used slot has no distribution, or what
            the rule needs is not there: its fit, or gathered logprobs.
    """
    check_captures(rule, captures)
    for name, arrays in zip(rule.teachers, teachers, strict=True):
        check_present(name, arrays, slot_mask)
    slots = slots_of_arrays(slot_mask, gold_ids)
    voices = [
        voice_of(name, arrays, capture, slots.at)
        for name, arrays, capture in zip(rule.teachers, teachers, captures, strict=True)
    ]
    return merge_voices(slots, voices, rule, support_size, quantise_max_nats)


def merge_voices(
    slots: UsedSlots,
    voices: Sequence[Voice],
    rule: TargetRule,
    support_size: int,
    quantise_max_nats: float,
) -> TargetArrays:
    """Merge teachers at the used slots of some whole examples; see ``merge_arrays``.

    Args:
        slots: the N used slots of B examples.
        voices: the S teachers at these slots, in the order of ``rule.teachers``.
        rule: how to merge; with its fit, if it needs one.
        support_size: number of ids of the set's support.
        quantise_max_nats: as of ``merge_arrays``.

    Raises:
        MergeError: what the rule needs is not there: its fit, or gathered logprobs.
    """
    _check_ready(rule, voices)
    plan = MixPlan(rule, rule.effective_k(support_size), support_size, step_of(quantise_max_nats))
    result = _blank(slots.shape, plan.k, len(voices))
    if not len(slots):
        return result
    weights, evidence = weights_of(slots, voices, rule)
    matched = matched_weights(evidence, rule)
    width = sum(voice.capture.k + 1 for voice in voices)
    for start, stop in iter_ranges(len(slots), max(1, _CANDIDATES_AT_ONCE // width)):
        piece = slots.piece(start, stop)
        said = [voice.piece(start, stop) for voice in voices]
        indices = (
            calibrated_indices(piece, said, rule)
            if rule.calibrate == "target"
            else plain_indices(piece, said, rule.temperature)
        )
        own = None if matched is None else matched[start:stop]
        mixed = mix_slots(piece, said, indices, weights[start:stop], plan, own)
        for name, values in mixed.items():
            result[name][piece.at] = values
    result.weights[slots.at] = weights
    return result


def _check_ready(rule: TargetRule, voices: Sequence[Voice]) -> None:
    """Check that what a rule needs is there, so that nothing is left out silently."""
    if needs_fit(rule) and rule.fit is None:
        message = (
            f"weighting {rule.weighting!r} with prior {rule.prior!r} and calibrate "
            f"{rule.calibrate!r} uses what was learned on the split `fit`, and the rule has no fit:"
            " learn it first (ckd_cache.merge.learning.learn_from_cache)"
        )
        raise MergeError(message)
    lacking = [voice.name for voice in voices if voice.gathered is None]
    if rule.missing == "exact" and len(voices) > 1 and lacking:
        message = (
            f"missing `exact` needs gathered logprobs of every teacher, and {', '.join(lacking)} "
            "has none: read them from a cache whose recipe gathers, or set missing to `bucket`"
        )
        raise MergeError(message)


def check_present(name: str, arrays: TeacherArrays, slot_mask: NDArray[np.bool_]) -> None:
    """Check that a teacher has a distribution at every used slot.

    Args:
        name: of the teacher.
        arrays: decoded, B examples.
        slot_mask: (B, M).

    Raises:
        MergeError: it has other examples, or none at a used slot.
    """
    if arrays.n_valid.shape != slot_mask.shape:
        message = (
            f"teacher {name!r} has distributions of shape {arrays.n_valid.shape}, expected "
            f"{slot_mask.shape} (examples, slots): read the same examples of every teacher"
        )
        raise MergeError(message)
    absent = slot_mask & ((arrays.n_valid == 0) | np.isnan(arrays.gold_logprob))
    if absent.any():
        example, slot = np.argwhere(absent)[0]
        message = (
            f"teacher {name!r} has no distribution at {int(absent.sum())} used slots, the first "
            f"at example {example}, slot {slot} of those read, expected one at every used slot: "
            f"the cache is damaged; restore the files of teacher {name!r} from a copy, or delete "
            "the cache's folder and build it again"
        )
        raise MergeError(message)


def _blank(shape: tuple[int, ...], k: int, n_teachers: int) -> TargetArrays:
    sizes: Mapping[str, tuple[int, ...]] = {
        "ids": (*shape, k),
        "logprobs": (*shape, k),
        "weights": (*shape, n_teachers),
    }
    integers = {"ids", "n_valid"}
    arrays: dict[str, Array] = {
        name: np.zeros(sizes.get(name, shape), dtype=np.int32)
        if name in integers
        else np.full(sizes.get(name, shape), np.nan, dtype=np.float32)
        for name in array_names(TargetArrays)
    }
    return TargetArrays(**arrays)
