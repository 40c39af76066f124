"""Run a teacher over examples and keep its distributions at their slots."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ckd_cache.errors import TeacherError
from ckd_cache.format.spec import Capture
from ckd_cache.modeling.slot_head import plain_slot_logits, slot_logits
from ckd_cache.teachers.device_topk import (
    DeviceDistributions,
    NonFiniteLogitsError,
    distributions,
)
from ckd_cache.teachers.load import LoadedTeacher
from ckd_cache.types import Array, Examples, TeacherArrays, array_names, iter_ranges

__all__ = ["capture"]

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True, slots=True)
class _Slots:
    """The used slots of a batch: (N,) row in the batch, token index, gold and slot number."""

    rows: Array
    positions: Array
    gold: Array
    numbers: Array


def capture(
    teacher: LoadedTeacher,
    examples: Examples,
    capture: Capture,
    batch_tokens: int,
    where: str,
    first_example: int = 0,
    on_batch: Callable[[int], None] | None = None,
) -> TeacherArrays:
    """Distributions of a teacher at the slots of B examples, unquantised.

    The examples run in their order, ``batch_tokens // L`` (at least one) at a time, each batch
    padded to its own longest row.

    Args:
        teacher: a resident teacher.
        examples: what it reads; right-padded.
        capture: what to keep.
        batch_tokens: tokens of a batch, padding included.
        where: the shard, for messages.
        first_example: number of the first example in its set, for messages.
        on_batch: called with the number of examples done after each batch.

    Raises:
        TeacherError: some logits are NaN or +inf, or a slot has nothing but -inf; names teacher,
            shard and example.
    """
    arrays = _empty(examples, capture, teacher.support_size)
    rows = max(1, batch_tokens // max(1, examples.input_ids.shape[1]))
    for start, stop in iter_ranges(len(examples), rows):
        slots = _slots_of(examples, start, stop)
        if slots.rows.size:
            try:
                found = _of_batch(teacher, examples, start, stop, slots, capture)
            except NonFiniteLogitsError as error:
                message = _non_finite(teacher.name, where, first_example + start, slots, error)
                raise TeacherError(message) from error
            _put(arrays, found, start + slots.rows, slots.numbers)
        if on_batch is not None:
            on_batch(stop - start)
    return arrays


@torch.inference_mode()
def _of_batch(
    teacher: LoadedTeacher,
    examples: Examples,
    start: int,
    stop: int,
    slots: _Slots,
    capture: Capture,
) -> DeviceDistributions:
    inputs = _inputs_of(examples, start, stop, teacher.device)
    rows = torch.from_numpy(slots.rows).to(teacher.device)
    positions = torch.from_numpy(slots.positions).to(teacher.device)
    gold = torch.from_numpy(slots.gold).to(teacher.device)
    compute = slot_logits if teacher.uses_slot_head else plain_slot_logits
    logits = compute(teacher.model, inputs, rows, positions)
    return distributions(logits[:, : teacher.support_size], gold, capture.k, capture.temperatures)


def _inputs_of(
    examples: Examples, start: int, stop: int, device: torch.device
) -> dict[str, Tensor]:
    """The model's inputs for some examples, without the columns that are padding in all."""
    used = np.flatnonzero(examples.attention_mask[start:stop].any(axis=0))
    longest = int(used[-1]) + 1 if used.size else 1
    return {
        name: torch.from_numpy(np.ascontiguousarray(examples[name][start:stop, :longest])).to(
            device
        )
        for name in _INPUTS
    }


def _slots_of(examples: Examples, start: int, stop: int) -> _Slots:
    rows, numbers = np.nonzero(examples.slot_mask[start:stop])
    return _Slots(
        rows=rows,
        positions=examples.slot_positions[start:stop][rows, numbers],
        gold=examples.gold_ids[start:stop][rows, numbers],
        numbers=numbers,
    )


def _empty(examples: Examples, capture: Capture, support_size: int) -> TeacherArrays:
    shape = examples.slot_mask.shape
    k, temperatures = min(capture.k, support_size), len(capture.temperatures)
    nothing = np.float32(np.nan)
    return TeacherArrays(
        ids=np.zeros((*shape, k), np.int32),
        logprobs=np.full((*shape, k), nothing),
        n_valid=np.zeros(shape, np.int32),
        tail=np.full((*shape, temperatures), nothing),
        logsumexp=np.full((*shape, temperatures), nothing),
        entropy=np.full((*shape, temperatures), nothing),
        gold_logprob=np.full(shape, nothing),
        gold_rank=np.zeros(shape, np.uint32),
    )


def _put(arrays: TeacherArrays, found: DeviceDistributions, rows: Array, numbers: Array) -> None:
    for name in array_names(TeacherArrays):
        values: Tensor = getattr(found, name)
        arrays[name][rows, numbers] = values.cpu().numpy()


def _non_finite(
    name: str, where: str, first: int, slots: _Slots, error: NonFiniteLogitsError
) -> str:
    slot = error.slots[0]
    return (
        f"teacher {name} gave logits that are no distribution (NaN, +inf or nothing but -inf) in "
        f"{where}, example {first + int(slots.rows[slot])}, at token "
        f"{int(slots.positions[slot])}. Expected "
        f"finite logits. If its dtype is float16, use bfloat16 or float32; else its weights hold "
        f"NaN or infinity."
    )
