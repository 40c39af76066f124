"""Running a teacher over examples in batches that depend on nothing but the examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from ckd_cache.errors import TeacherError
from ckd_cache.modeling.slot_head import plain_slot_logits, slot_logits
from ckd_cache.teachers.device_topk import NonFiniteLogitsError
from ckd_cache.teachers.load import LoadedTeacher
from ckd_cache.types import Array, Examples, iter_ranges

__all__ = ["BatchSlots", "UseLogits", "run_at_slots"]

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True, slots=True)
class BatchSlots:
    """The N used slots of a batch.

    Attributes:
        examples: (N,) the example of each, counted in the examples that are run.
        rows: (N,) the same, counted in the batch.
        positions: (N,) token index.
        gold: (N,) id.
        numbers: (N,) number of the slot in its example.
    """

    examples: Array
    rows: Array
    positions: Array
    gold: Array
    numbers: Array


UseLogits: TypeAlias = Callable[[Tensor, BatchSlots], None]
"""Takes (N, V) logits over the support, on the teacher's device, and the slots that they are of."""


def run_at_slots(
    teacher: LoadedTeacher,
    examples: Examples,
    batch_tokens: int,
    where: str,
    use: UseLogits,
    first_example: int = 0,
    on_batch: Callable[[int], None] | None = None,
) -> None:
    """Logits of a teacher at the slots of B examples, a batch at a time.

    The examples run in their order, ``batch_tokens // L`` (at least one) at a time, each batch
    padded to its own longest row.

    Args:
        teacher: a resident teacher.
        examples: what it reads; right-padded.
        batch_tokens: tokens of a batch, padding included.
        where: the shard, for messages.
        use: called with the logits of each batch that has slots.
        first_example: number of the first example in its set, for messages.
        on_batch: called with the number of examples done after each batch.

    Raises:
        TeacherError: ``use`` found logits that are NaN or +inf, or a slot with nothing but -inf;
            names teacher, shard and example.
    """
    rows = max(1, batch_tokens // max(1, examples.input_ids.shape[1]))
    for start, stop in iter_ranges(len(examples), rows):
        slots = _slots_of(examples, start, stop)
        if slots.rows.size:
            try:
                _run_batch(teacher, examples, start, stop, slots, use)
            except NonFiniteLogitsError as error:
                message = _non_finite(teacher.name, where, first_example, slots, error)
                raise TeacherError(message) from error
        if on_batch is not None:
            on_batch(stop - start)


@torch.inference_mode()
def _run_batch(
    teacher: LoadedTeacher,
    examples: Examples,
    start: int,
    stop: int,
    slots: BatchSlots,
    use: UseLogits,
) -> None:
    inputs = _inputs_of(examples, start, stop, teacher.device)
    rows = torch.from_numpy(slots.rows).to(teacher.device)
    positions = torch.from_numpy(slots.positions).to(teacher.device)
    compute = slot_logits if teacher.uses_slot_head else plain_slot_logits
    logits = compute(teacher.model, inputs, rows, positions)
    use(logits[:, : teacher.support_size], slots)


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


def _slots_of(examples: Examples, start: int, stop: int) -> BatchSlots:
    rows, numbers = np.nonzero(examples.slot_mask[start:stop])
    return BatchSlots(
        examples=start + rows,
        rows=rows,
        positions=examples.slot_positions[start:stop][rows, numbers],
        gold=examples.gold_ids[start:stop][rows, numbers],
        numbers=numbers,
    )


def _non_finite(
    name: str, where: str, first: int, slots: BatchSlots, error: NonFiniteLogitsError
) -> str:
    slot = error.slots[0]
    return (
        f"teacher {name} gave logits that are no distribution (NaN, +inf or nothing but -inf) in "
        f"{where}, example {first + int(slots.examples[slot])}, at token "
        f"{int(slots.positions[slot])}. Expected "
        f"finite logits. If its dtype is float16, use bfloat16 or float32; else its weights hold "
        f"NaN or infinity."
    )
