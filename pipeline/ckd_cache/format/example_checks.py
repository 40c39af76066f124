"""What must hold of decoded segments, documents and slots (docs/format.md, Segments and Slots)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ckd_cache.format.arrow_io import DocumentRow, Ragged, SegmentRows
from ckd_cache.format.findings import Problem
from ckd_cache.format.manifest import SetRecord, SupportRecord
from ckd_cache.format.spec import SPLIT_NAMES
from ckd_cache.types import Array

__all__ = [
    "Broken",
    "Documents",
    "SlotTruth",
    "check_documents",
    "check_segments",
    "check_slots",
    "slot_truth",
]


@dataclass(frozen=True, slots=True)
class Broken:
    """Something that does not hold.

    Attributes:
        problem: what.
        rows: (B,) bool, the examples where it does not hold.
        detail: what was found in the first of them and what was expected.
        array: name of the array that says so, of distributions.
    """

    problem: Problem
    rows: NDArray[np.bool_]
    detail: str
    array: str = ""


@dataclass(frozen=True, slots=True)
class SlotTruth:
    """What slots say of B examples: (B, M) which are used, and gold, 0 where unused."""

    mask: NDArray[np.bool_]
    gold: NDArray[np.int64]


@dataclass(frozen=True)
class Documents:
    """What segments have to fit: the documents of a set.

    Attributes:
        numbers: ascending.
        characters: of each.
        splits: of each.
        whole: whether all of them are known; if not, spans may name others.
    """

    numbers: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    characters: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    splits: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))
    whole: bool = True

    @classmethod
    def of(cls, rows: Sequence[DocumentRow]) -> Documents:
        """Those of some rows."""
        return cls(
            np.array([row.number for row in rows], np.uint64),
            np.array([row.characters for row in rows], np.uint64),
            np.array([row.split for row in rows], np.uint8),
        )

    @classmethod
    def together(cls, pieces: Iterable[Documents], *, whole: bool) -> Documents:
        """Those of pieces in ascending order."""
        pieces = [cls(), *pieces]
        return cls(
            np.concatenate([piece.numbers for piece in pieces]),
            np.concatenate([piece.characters for piece in pieces]),
            np.concatenate([piece.splits for piece in pieces]),
            whole,
        )


def check_documents(rows: Sequence[DocumentRow]) -> str | None:
    """What is wrong with the rows of one file of documents, or None."""
    for before, row in enumerate(rows, rows[0].number if rows else 0):
        if row.number != before:
            return f"document {row.number} stands where document {before} must"
        if row.split >= len(SPLIT_NAMES):
            return f"document {row.number} is of split {row.split}, there are {len(SPLIT_NAMES)}"
    return None


def check_segments(
    rows: SegmentRows, record: SetRecord, support: SupportRecord, documents: Documents
) -> Iterator[Broken]:
    """What does not hold of segments, the most basic first."""
    lengths = np.array([len(ids) for ids in rows.input_ids])
    words = np.array([len(starts) for starts in rows.word_starts])
    wrong = (lengths < 1) | (lengths > record.segment_tokens) | (words != lengths)
    if wrong.any():
        first = int(np.argmax(wrong))
        yield Broken(
            "segments",
            wrong,
            f"{lengths[first]} tokens with {words[first]} word starts, expected as many of both,"
            f" from 1 to {record.segment_tokens}",
        )
        return
    splits = rows.splits >= len(SPLIT_NAMES)
    if splits.any():
        found = f"split {rows.splits[splits][0]}, there are {len(SPLIT_NAMES)}"
        yield Broken("segments", splits, found)
    largest = np.array([int(ids.max()) for ids in rows.input_ids])
    if (largest >= support.size).any():
        yield _ids_outside(largest >= support.size, largest, support.size)
    yield from _check_spans(rows, lengths, documents)


def check_slots(
    tokens: Ragged, slots: Sequence[Ragged], record: SetRecord, support: SupportRecord
) -> Iterator[Broken]:
    """What does not hold of the slots of B examples, the most basic first.

    Args:
        tokens: ids of their segments.
        slots: positions of the slots, what the models see there, and gold.
        record: of the set.
        support: of the set.
    """
    positions, inputs, gold = slots
    counts = [np.diff(column.offsets) for column in slots]
    wrong = (counts[0] != counts[1]) | (counts[0] != counts[2])
    wrong |= counts[0] > record.slots_per_example
    if wrong.any():
        found = [int(count[np.argmax(wrong)]) for count in counts]
        yield Broken(
            "slots",
            wrong,
            f"{found[0]} positions, {found[1]} inputs and {found[2]} gold ids, expected as many of"
            f" each, at most {record.slots_per_example}",
        )
        return
    rows = np.repeat(np.arange(len(counts[0])), counts[0])
    yield from _check_positions(tokens, positions, rows)
    largest = np.maximum(inputs.values, gold.values).astype(np.int64)
    bad = largest >= support.size
    if bad.any():
        yield _ids_outside(_rows(bad, rows, len(counts[0])), largest[bad][:1], support.size)
    yield from _check_gold(tokens, positions, gold, support, rows)


def slot_truth(gold: Ragged, slots: int) -> SlotTruth:
    """The slots of examples that ``check_slots`` found nothing wrong with."""
    mask = np.arange(slots) < np.diff(gold.offsets)[:, None]
    padded = np.zeros(mask.shape, np.int64)
    padded[mask] = gold.values
    return SlotTruth(mask, padded)


def _check_positions(tokens: Ragged, positions: Ragged, rows: Array) -> Iterator[Broken]:
    places = positions.values.astype(np.int64)
    lengths = np.diff(tokens.offsets)
    beyond = places >= lengths[rows]
    if beyond.any():
        at = int(np.argmax(beyond))
        found = f"position {places[at]} in a segment of {lengths[rows[at]]} tokens"
        yield Broken("slots", _rows(beyond, rows, len(lengths)), found)
        return
    falling = np.zeros(places.shape, np.bool_)
    falling[1:] = (np.diff(places) <= 0) & (np.diff(rows) == 0)
    if falling.any():
        at = int(np.argmax(falling))
        found = f"position {places[at]} after {places[at - 1]}, expected ascending ones"
        yield Broken("slots", _rows(falling, rows, len(lengths)), found)


def _check_gold(
    tokens: Ragged, positions: Ragged, gold: Ragged, support: SupportRecord, rows: Array
) -> Iterator[Broken]:
    flat = tokens.offsets[rows] + positions.values
    # Positions beyond the segment have been reported.
    inside = flat < tokens.offsets[rows + 1]
    there = np.where(inside, tokens.values[np.where(inside, flat, 0)], gold.values)
    wrong = there != gold.values
    if wrong.any():
        at = int(np.argmax(wrong))
        found = f"gold is {gold.values[at]} where the segment has {there[at]}"
        yield Broken("gold", _rows(wrong, rows, len(tokens.offsets) - 1), found)
    special = [number for number in support.special.values() if number is not None]
    masked = np.isin(gold.values, special)
    if masked.any():
        found = f"a slot at the special token {gold.values[np.argmax(masked)]}, which has none"
        yield Broken("slots", _rows(masked, rows, len(tokens.offsets) - 1), found)


def _check_spans(segments: SegmentRows, lengths: Array, documents: Documents) -> Iterator[Broken]:
    counts = np.array([len(spans) for spans in segments.spans])
    rows = np.repeat(np.arange(len(counts)), counts)
    flat = [span for spans in segments.spans for span in spans]
    document = np.array([span.document for span in flat], np.uint64)
    start = np.array([span.token_start for span in flat], np.int64)
    end = np.array([span.token_end for span in flat], np.int64)
    first = np.array([span.char_start for span in flat], np.uint64)
    last = np.array([span.char_end for span in flat], np.uint64)
    before = np.zeros(len(flat), np.int64)
    before[1:] = np.where(np.diff(rows) == 0, end[:-1], 0)
    wrong = (start < before) | (start >= end) | (end > lengths[rows]) | (first > last)
    if wrong.any():
        at = int(np.argmax(wrong))
        found = (
            f"tokens {start[at]} to {end[at]}, characters {first[at]} to {last[at]} in a segment"
            f" of {lengths[rows[at]]} tokens"
        )
        yield Broken("spans", _rows(wrong, rows, len(counts)), found)
        return
    index = np.searchsorted(documents.numbers, document)
    known = index < len(documents.numbers)
    index = np.where(known, index, 0)
    if len(documents.numbers):
        known &= documents.numbers[index] == document
    if documents.whole and not known.all():
        found = f"a span of document {document[np.argmin(known)]}, which is listed nowhere"
        yield Broken("spans", _rows(~known, rows, len(counts)), found)
    if not known.any():
        return
    yield from _check_documents_of(segments, documents, rows, last, np.where(known, index, -1))


def _check_documents_of(
    segments: SegmentRows, documents: Documents, rows: Array, last: Array, index: Array
) -> Iterator[Broken]:
    """Compare spans with their documents; ``index`` is -1 where a document is not known."""
    known = index >= 0
    beyond = known & (last > documents.characters[index])
    if beyond.any():
        at = int(np.argmax(beyond))
        found = f"character {last[at]} of a document of {documents.characters[index[at]]}"
        yield Broken("spans", _rows(beyond, rows, len(segments)), found)
    other = known & (segments.splits[rows] != documents.splits[index])
    if other.any():
        at = int(np.argmax(other))
        found = (
            f"a segment of split {segments.splits[rows[at]]} with a document of split"
            f" {documents.splits[index[at]]}"
        )
        yield Broken("segments", _rows(other, rows, len(segments)), found)


def _ids_outside(rows: NDArray[np.bool_], largest: Array, size: int) -> Broken:
    found = f"token id {largest.max()}, the support has {size} entries"
    return Broken("token ids", rows, found)


def _rows(wrong: NDArray[np.bool_], rows: Array, count: int) -> NDArray[np.bool_]:
    """Which of ``count`` rows have a wrong entry."""
    result: NDArray[np.bool_] = np.bincount(rows[wrong], minlength=count) > 0
    return result
