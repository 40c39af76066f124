"""Teachers' distributions to a target, for the examples of one read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ckd_cache.errors import MergeError
from ckd_cache.format.spec import Capture
from ckd_cache.merge.rule import TargetRule, check_captures
from ckd_cache.merge.weights import WEIGHTINGS
from ckd_cache.numerics.bounds import rounding_at, uncertain
from ckd_cache.numerics.logspace import log_probability, logsumexp
from ckd_cache.numerics.mixture import Component, mix, temper, temper_scalar
from ckd_cache.numerics.quantise import float_up, step_of
from ckd_cache.types import Array, TargetArrays, TeacherArrays, array_names, iter_ranges

__all__ = ["merge_arrays"]

_CANDIDATES_AT_ONCE = 1 << 18
"""Candidate ids that are worked on at a time: about 30 MB of float64 and int64."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is the same for all slots of a merge."""

    rule: TargetRule
    captures: tuple[Capture, ...]
    k: int
    step: float


def merge_arrays(
    teachers: Sequence[TeacherArrays],
    captures: Sequence[Capture],
    gold_ids: NDArray[np.int64],
    slot_mask: NDArray[np.bool_],
    rule: TargetRule,
    support_size: int,
    quantise_max_nats: float,
) -> TargetArrays:
    """Merge teachers into a target, not yet rounded for the disk.

    Args:
        teachers: decoded distributions of the same B examples, in the order of ``rule.teachers``;
            their k may differ.
        captures: what is kept of each of them.
        gold_ids: (B, M).
        slot_mask: (B, M), True on used slots.
        rule: how to merge.
        support_size: number of ids of the support.
        quantise_max_nats: ``max_nats`` that the target will be stored with, which ``uncertain``
            accounts for; 0 if it is stored exactly.

    Returns:
        B examples; unused slots are NaN in floating arrays and 0 in the others.

    Raises:
        MergeError: the rule does not fit the captures, or a used slot has no distribution.
    """
    check_captures(rule, captures)
    for name, arrays in zip(rule.teachers, teachers, strict=True):
        _check_present(name, arrays, slot_mask)
    plan = _Plan(rule, tuple(captures), rule.effective_k(support_size), step_of(quantise_max_nats))
    result = _blank(slot_mask.shape, plan.k, len(captures))
    rows, columns = np.nonzero(slot_mask)
    width = sum(capture.k + 1 for capture in captures)
    for start, stop in iter_ranges(rows.size, max(1, _CANDIDATES_AT_ONCE // width)):
        slots = (rows[start:stop], columns[start:stop])
        merged = _merge_slots(
            [_Flat.of(arrays, slots) for arrays in teachers], gold_ids[slots], plan
        )
        for name, values in merged.items():
            result[name][slots] = values
    return result


@dataclass(frozen=True, slots=True)
class _Flat:
    """One teacher at N slots; float64 and int64."""

    ids: NDArray[np.int64]
    logprobs: NDArray[np.float64]
    n_valid: NDArray[np.int64]
    tail: NDArray[np.float64]
    logsumexp: NDArray[np.float64]
    gold_logprob: NDArray[np.float64]

    @classmethod
    def of(cls, arrays: TeacherArrays, slots: tuple[Array, Array]) -> _Flat:
        return cls(
            ids=arrays.ids[slots].astype(np.int64),
            logprobs=arrays.logprobs[slots].astype(np.float64),
            n_valid=arrays.n_valid[slots].astype(np.int64),
            tail=arrays.tail[slots].astype(np.float64),
            logsumexp=arrays.logsumexp[slots].astype(np.float64),
            gold_logprob=arrays.gold_logprob[slots].astype(np.float64),
        )


def _merge_slots(
    flats: Sequence[_Flat], gold_ids: NDArray[np.int64], plan: _Plan
) -> dict[str, Array]:
    temperature = plan.rule.temperature
    scalars = np.stack([flat.gold_logprob for flat in flats], axis=1)
    weights = WEIGHTINGS[plan.rule.weighting](scalars, plan.rule.tau)
    golds = [
        _tempered_gold(flat, capture, temperature)
        for flat, capture in zip(flats, plan.captures, strict=True)
    ]
    components = [
        _component(flat, capture, gold, temperature)
        for flat, capture, gold in zip(flats, plan.captures, golds, strict=True)
    ]
    mixture = mix(components, weights, gold_ids, plan.k)
    roundings = [rounding_at(capture.step, temperature) for capture in plan.captures]
    bound = uncertain(components, weights, mixture, roundings, rounding_at(plan.step, 1.0))
    # Sorted, so that the order of teachers changes no bit.
    gold_parts = np.sort(log_probability(weights) + np.stack(golds, axis=1), axis=1)
    return {
        "ids": mixture.ids,
        "logprobs": mixture.logprobs,
        "n_valid": mixture.n_valid,
        "tail": np.minimum(log_probability(mixture.tail), 0.0),
        "weights": weights,
        "uncertain": float_up(bound),
        "gold_logprob": np.minimum(logsumexp(gold_parts), 0.0),
    }


def _tempered_gold(flat: _Flat, capture: Capture, temperature: float) -> NDArray[np.float64]:
    lse_one = flat.logsumexp[:, capture.temperatures.index(1.0)]
    lse = flat.logsumexp[:, capture.temperatures.index(temperature)]
    return temper_scalar(flat.gold_logprob, lse_one, lse, temperature)


def _component(
    flat: _Flat, capture: Capture, gold: NDArray[np.float64], temperature: float
) -> Component:
    tail = flat.tail[:, capture.temperatures.index(temperature)]
    return Component(
        ids=flat.ids,
        kept=temper(flat.logprobs, flat.n_valid, tail, temperature),
        n_valid=flat.n_valid,
        tail=np.exp(tail),
        gold=np.exp(gold),
    )


def _check_present(name: str, arrays: TeacherArrays, slot_mask: NDArray[np.bool_]) -> None:
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
    sizes: dict[str, tuple[int, ...]] = {
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
