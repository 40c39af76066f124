"""The used slots of some examples, flat, with where each comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ckd_cache.format.arrow_io import Span
from ckd_cache.format.reader import SetReader
from ckd_cache.types import Array, Examples

__all__ = [
    "KEPT",
    "MASKED",
    "RANDOM",
    "UNKNOWN",
    "UsedSlots",
    "slots_of_arrays",
    "slots_of_range",
]

UNKNOWN = -1
"""Document and kind where they were not asked for."""
MASKED, RANDOM, KEPT = 0, 1, 2
"""What the models see at a slot: the mask token, another token than gold, gold itself."""


@dataclass(frozen=True, slots=True)
class UsedSlots:
    """The N used slots of B consecutive examples, in the order of the set.

    Attributes:
        shape: (B, M).
        at: rows and columns of the slots in arrays of that shape.
        example: (N,) number of the example in the set.
        gold: (N,) id of gold.
        seen: (N,) what the models see there: ``MASKED``, ``RANDOM`` or ``KEPT``.
        document: (N,) number of the document; ``UNKNOWN`` where it was not asked for.
        kind: (N,) number of the genre, counted in the sorted names of the set's genres;
            ``UNKNOWN`` where it was not asked for.
        unit: (N,) ascending number of the slot's unit of text: the slot itself, or the word where
            a teacher with another tokenizer takes part.
        units_are_slots: whether units are the slots themselves.
    """

    shape: tuple[int, int]
    at: tuple[Array, Array]
    example: NDArray[np.int64]
    gold: NDArray[np.int64]
    seen: NDArray[np.int64]
    document: NDArray[np.int64]
    kind: NDArray[np.int64]
    unit: NDArray[np.int64]
    units_are_slots: bool = True

    def __len__(self) -> int:
        """Number of used slots, N."""
        return int(self.example.shape[0])

    def mask(self) -> NDArray[np.bool_]:
        """(B, M), True on used slots."""
        mask = np.zeros(self.shape, np.bool_)
        mask[self.at] = True
        return mask

    @property
    def masked(self) -> NDArray[np.bool_]:
        """(N,) whether the models see the mask token."""
        found: NDArray[np.bool_] = self.seen == MASKED
        return found

    def piece(self, start: int, stop: int) -> UsedSlots:
        """The slots ``start`` to ``stop`` of these."""
        return self.only(slice(start, stop))

    def only(self, chosen: slice | NDArray[np.int64]) -> UsedSlots:
        """Some of these slots, in the same order."""
        return UsedSlots(
            shape=self.shape,
            at=(self.at[0][chosen], self.at[1][chosen]),
            example=self.example[chosen],
            gold=self.gold[chosen],
            seen=self.seen[chosen],
            document=self.document[chosen],
            kind=self.kind[chosen],
            unit=self.unit[chosen],
            units_are_slots=self.units_are_slots,
        )


def slots_of_arrays(
    slot_mask: NDArray[np.bool_],
    gold_ids: NDArray[np.int64],
    first_example: int = 0,
    seen: NDArray[np.int64] | None = None,
) -> UsedSlots:
    """Used slots of examples that are in memory; every example is a document of its own.

    Args:
        slot_mask: (B, M), True on used slots.
        gold_ids: (B, M).
        first_example: number of the first of them in the set.
        seen: (B, M), what the models see; None for the mask token everywhere.
    """
    rows, columns = np.nonzero(slot_mask)
    example = first_example + rows.astype(np.int64)
    return UsedSlots(
        shape=(slot_mask.shape[0], slot_mask.shape[1]),
        at=(rows, columns),
        example=example,
        gold=gold_ids[rows, columns].astype(np.int64),
        seen=np.full(rows.size, MASKED, np.int64) if seen is None else seen[rows, columns],
        document=example,
        kind=np.zeros(rows.size, np.int64),
        unit=np.arange(rows.size, dtype=np.int64),
    )


def slots_of_range(
    reader: SetReader, start: int, stop: int, *, documents: bool, kinds: bool
) -> UsedSlots:
    """Used slots of examples ``start`` to ``stop`` of a set.

    Args:
        reader: of the set.
        start: first example.
        stop: example after the last one.
        documents: look up the document of each slot.
        kinds: look up its genre.

    Raises:
        CkdCacheError: the range is not one of the set's, or a file is missing or damaged.
    """
    examples = reader.examples.read(start, stop)
    seen = _seen(examples, reader.support.record.mask_id)
    found = slots_of_arrays(examples.slot_mask, examples.gold_ids, start, seen)
    unknown = np.full(len(found), UNKNOWN, np.int64)
    document, kind = unknown, unknown
    if documents or kinds:
        positions = examples.slot_positions[found.at]
        document = _documents(reader, start, stop, found.at[0], positions)
    if kinds:
        kind = _kinds(reader, document)
    return replace(found, document=document, kind=kind)


def _seen(examples: Examples, mask_id: int | None) -> NDArray[np.int64]:
    inputs = np.take_along_axis(examples.input_ids, examples.slot_positions, axis=1)
    other = np.where(inputs == examples.gold_ids, KEPT, RANDOM)
    return np.where(inputs == mask_id, MASKED, other)


def _documents(
    reader: SetReader, start: int, stop: int, rows: Array, positions: Array
) -> NDArray[np.int64]:
    """The document of the token at each position: of the last span that begins at or before it."""
    spans = reader.examples.segments(start, stop).spans
    counts = np.array([len(one) for one in spans], dtype=np.int64)
    flat: Sequence[Span] = [span for one in spans for span in one]
    # Spans are ordered by example and token, so one search over (example, token) finds them all.
    width = reader.record.segment_tokens + 1
    keys = np.repeat(np.arange(len(spans)), counts) * width
    keys += np.array([span.token_start for span in flat], dtype=np.int64)
    numbers = np.array([span.document for span in flat], dtype=np.int64)
    after = np.searchsorted(keys, rows * width + positions, side="right")
    found: NDArray[np.int64] = numbers[after - 1] if numbers.size else numbers
    return found


def _kinds(reader: SetReader, document: NDArray[np.int64]) -> NDArray[np.int64]:
    names = sorted({genre for one in reader.record.increments for genre in one.genres})
    number = {genre: at for at, genre in enumerate(names)}
    distinct, inverse = np.unique(document, return_inverse=True)
    rows = reader.examples.documents(distinct.tolist())
    kinds = np.array([number.get(rows[one].genre, UNKNOWN) for one in distinct.tolist()], np.int64)
    found: NDArray[np.int64] = kinds[inverse] if kinds.size else kinds
    return found
