"""How well a masked LM predicts at the slots of a split: gold nats, top-1, top-5, by genre."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from ckd_cache.errors import StudentError
from ckd_cache.modeling.slot_head import agrees, plain_slot_logits, slot_logits
from ckd_cache.types import Array, JsonObject
from ckd_student.failures import MODEL_REFUSALS, brief
from ckd_student.genres import GenreLookup
from ckd_student.losses import cell_forward_kl, hard_cross_entropy
from ckd_student.stream import ExampleStream
from ckd_student.torch_data import Collator

__all__ = [
    "HeldOut",
    "Scores",
    "SlotBatch",
    "Tally",
    "evaluate_held_out",
    "merged",
    "slot_batch",
    "works_at_slots",
]

_TOP = 5
_PROBE_EXAMPLES = 4


@dataclass(frozen=True, slots=True)
class Scores:
    """What was measured at some slots.

    Attributes:
        slots: how many.
        loss: mean -log probability of gold, nats a slot.
        top1: share of slots where gold is the most probable token.
        top5: share of slots where gold is among the five most probable tokens.
        kl: mean KL(target || student) on the target's cells, nats a slot; None without a target.
    """

    slots: int
    loss: float
    top1: float
    top5: float
    kl: float | None

    def to_json(self) -> JsonObject:
        """The fields by name."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The examples that a student is measured on.

    Attributes:
        stream: of them, in any order.
        genres: finds the genre of a slot.
        support_size: entries of the support; further logits of a model are cut off.
        pad_id: fills batches.
    """

    stream: ExampleStream
    genres: GenreLookup
    support_size: int
    pad_id: int


@dataclass(slots=True)
class Tally:
    """Sums over slots, by genre; sums of several processes can be added.

    Attributes:
        sums: by genre (5,) float64: slots, nats, top-1, top-5, KL.
        has_target: whether the KL was measured.
    """

    has_target: bool
    sums: dict[str, Array] = field(default_factory=dict)

    def add(self, genres: Sequence[str], measured: Array) -> None:
        """Add the slots of a batch.

        Args:
            genres: of each slot.
            measured: (N, 4) nats, top-1, top-5, KL.
        """
        named = np.array(genres, dtype=object)
        for genre in dict.fromkeys(genres):
            rows = measured[named == genre]
            total = np.concatenate([[rows.shape[0]], rows.sum(axis=0, dtype=np.float64)])
            self.sums[genre] = self.sums.get(genre, 0.0) + total

    def scores(self) -> Scores:
        """Means over all slots."""
        return self._scores(np.sum(list(self.sums.values()), axis=0))

    def by_genre(self) -> dict[str, Scores]:
        """Means over the slots of each genre."""
        return {genre: self._scores(sums) for genre, sums in sorted(self.sums.items())}

    def _scores(self, sums: Array) -> Scores:
        slots = int(sums[0])
        nats, top1, top5, kl = (float(value) / slots for value in sums[1:])
        return Scores(slots, nats, top1, top5, kl if self.has_target else None)


def merged(tallies: Sequence[Tally]) -> Tally:
    """The sums of several processes, each of which measured its share."""
    total = Tally(tallies[0].has_target)
    for tally in tallies:
        for genre, sums in tally.sums.items():
            total.sums[genre] = total.sums.get(genre, 0.0) + sums
    return total


@dataclass(frozen=True, slots=True)
class SlotBatch:
    """The used slots of a batch, flat.

    Attributes:
        rows: (N,) int64, row of each slot in the batch.
        positions: (N,) int64, its token index.
        gold: (N,) int64.
        target: ids, logprobs, n_valid and tail of the cached target, (N, …); None without one.
    """

    rows: Tensor
    positions: Tensor
    gold: Tensor
    target: tuple[Tensor, Tensor, Tensor, Tensor] | None


def slot_batch(batch: dict[str, Tensor]) -> SlotBatch:
    """The used slots of a batch that a `Collator` made."""
    labels = batch["labels"]
    rows, slots = torch.nonzero(labels >= 0, as_tuple=True)
    target = None
    if "target_ids" in batch:
        target = (
            batch["target_ids"][rows, slots],
            batch["target_logprobs"][rows, slots],
            batch["target_n_valid"][rows, slots],
            batch["target_tail"][rows, slots],
        )
    return SlotBatch(rows, batch["slot_positions"][rows, slots], labels[rows, slots], target)


def works_at_slots(model: nn.Module, stream: ExampleStream, pad_id: int) -> bool:
    """Whether a model gives the same logits when its head works at slots only.

    Args:
        model: a masked LM; its modes are put back.
        stream: of examples to try; a few of its first chunk are taken.
        pad_id: fills the batch.

    Raises:
        StudentError: the model does not run on them at all.
    """
    numbers = stream.chunks[0].examples()[:_PROBE_EXAMPLES].tolist()
    device = next(model.parameters()).device
    batch = Collator(pad_id)([stream.source.example(number) for number in numbers])
    batch = {name: tensor.to(device) for name, tensor in batch.items()}
    slots = slot_batch(batch)
    try:
        return agrees(model, batch, slots.rows, slots.positions)
    except torch.OutOfMemoryError:
        raise
    except MODEL_REFUSALS as error:
        message = f"the model does not run on the examples of the cache: {brief(error)}"
        raise StudentError(message) from error


def evaluate_held_out(
    model: nn.Module,
    held_out: HeldOut,
    *,
    batch_size: int,
    temperature: float = 1.0,
    at_slots: bool = True,
    share: tuple[int, int] = (0, 1),
    on_examples: Callable[[int], None] = lambda _: None,
) -> Tally:
    """Measure a model at all slots of held-out examples.

    Args:
        model: a masked LM; its modes are put back.
        held_out: the examples; with a target, the KL to it is measured, too.
        batch_size: examples of a forward.
        temperature: of the target.
        at_slots: compute logits at slots only (see `ckd_cache.modeling.slot_head.agrees`).
        share: (i, n): take only every n-th example from the i-th on.
        on_examples: told how many examples have been measured since the last call.
    """
    stream, collate = held_out.stream, Collator(held_out.pad_id)
    tally = Tally(has_target=stream.source.target is not None)
    numbers = islice(stream.numbers(), share[0], None, share[1])
    device = next(model.parameters()).device
    forward = slot_logits if at_slots else plain_slot_logits
    with _evaluating(model), torch.inference_mode():
        while batch_numbers := list(islice(numbers, batch_size)):
            batch = collate([stream.source.example(number) for number in batch_numbers])
            batch = {name: tensor.to(device) for name, tensor in batch.items()}
            slots = slot_batch(batch)
            logits = forward(model, batch, slots.rows, slots.positions)[
                :, : held_out.support_size
            ].float()
            measured = _measure(logits, slots, temperature).cpu().numpy()
            tally.add(_genres_of(slots, batch_numbers, held_out.genres), measured)
            on_examples(len(batch_numbers))
    return tally


def _measure(logits: Tensor, slots: SlotBatch, temperature: float) -> Tensor:
    """(N, 4) float64: nats, top-1, top-5, KL (0 without a target)."""
    own = logits.gather(1, slots.gold[:, None])
    ids = torch.arange(logits.shape[1], device=logits.device)
    before = (logits > own) | ((logits == own) & (ids < slots.gold[:, None]))
    rank = before.sum(dim=1)
    nats = hard_cross_entropy(logits, slots.gold)
    kl = torch.zeros_like(nats)
    if slots.target is not None:
        kl = cell_forward_kl(logits, *slots.target, temperature)
    columns = [nats, (rank < 1).to(nats.dtype), (rank < _TOP).to(nats.dtype), kl]
    return torch.stack(columns, dim=1).double()


def _genres_of(slots: SlotBatch, numbers: Sequence[int], genres: GenreLookup) -> list[str]:
    pairs = zip(slots.rows.tolist(), slots.positions.tolist(), strict=True)
    return [genres.of(numbers[row], position) for row, position in pairs]


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
