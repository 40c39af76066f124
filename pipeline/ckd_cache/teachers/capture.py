"""Run a teacher over examples and keep its distributions at their slots."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ckd_cache.format.spec import Capture
from ckd_cache.teachers.device_topk import DeviceDistributions, distributions, logprobs_at
from ckd_cache.teachers.load import LoadedTeacher
from ckd_cache.teachers.slot_batches import BatchSlots, run_at_slots
from ckd_cache.types import Array, Examples, TeacherArrays, array_names

__all__ = ["capture", "capture_at"]


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

    Args:
        teacher: a resident teacher.
        examples: what it reads; right-padded.
        capture: what to keep.
        batch_tokens: tokens of a batch, padding included; see ``run_at_slots``.
        where: the shard, for messages.
        first_example: number of the first example in its set, for messages.
        on_batch: called with the number of examples done after each batch.

    Raises:
        TeacherError: some logits are NaN or +inf, or a slot has nothing but -inf; names teacher,
            shard and example.
    """
    arrays = _empty(examples, capture, teacher.support_size)

    def keep(logits: Tensor, slots: BatchSlots) -> None:
        gold = torch.from_numpy(slots.gold).to(logits.device)
        found = distributions(logits, gold, capture.k, capture.temperatures)
        _put(arrays, found, slots)

    run_at_slots(teacher, examples, batch_tokens, where, keep, first_example, on_batch)
    return arrays


def capture_at(
    teacher: LoadedTeacher,
    examples: Examples,
    ids: Array,
    batch_tokens: int,
    where: str,
    first_example: int = 0,
    on_batch: Callable[[int], None] | None = None,
) -> Array:
    """Logprobs of a teacher for given ids at the slots of B examples, unquantised.

    The model runs in the batches of ``capture``, so that it gives the same logits.

    Args:
        teacher: a resident teacher.
        examples: what it reads; right-padded.
        ids: (B, M, g) of each slot, below the support's size; -1 where none is wanted.
        batch_tokens: tokens of a batch, padding included; see ``run_at_slots``.
        where: the shard, for messages.
        first_example: number of the first example in its set, for messages.
        on_batch: called with the number of examples done after each batch.

    Returns:
        (B, M, g) float32 at temperature 1, over the whole support; -inf where the probability is
        0, and where no id is wanted.

    Raises:
        TeacherError: as of ``capture``.
    """
    result = np.full(ids.shape, -np.inf, np.float32)

    def keep(logits: Tensor, slots: BatchSlots) -> None:
        at = (slots.examples, slots.numbers)
        wanted = torch.from_numpy(ids[at].astype(np.int64)).to(logits.device)
        result[at] = logprobs_at(logits, wanted).cpu().numpy()

    run_at_slots(teacher, examples, batch_tokens, where, keep, first_example, on_batch)
    return result


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


def _put(arrays: TeacherArrays, found: DeviceDistributions, slots: BatchSlots) -> None:
    for name in array_names(TeacherArrays):
        values: Tensor = getattr(found, name)
        arrays[name][slots.examples, slots.numbers] = values.cpu().numpy()
