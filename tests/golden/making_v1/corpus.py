"""Text and slots of the golden caches, the same every time, and what a reader must see of them.

Packing, splits and keys are done here by the rules of docs/format.md and not by ``ckd_cache``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ckd_cache.format.arrow_io import DocumentRow, SegmentRows, SlotRows, Span
from ckd_cache.types import Array

SPECIAL = {"mask": 3, "pad": 1, "cls": 2, "sep": 4, "unk": 0, "bos": None, "eos": None}
FIRST_WORD = 5
SEGMENT_TOKENS = 12
ROOM = SEGMENT_TOKENS - 2
FIT, TEST = 0.25, 0.25
GENRES = ("fiction", "technical")


@dataclass(frozen=True, slots=True)
class Increment:
    """An addition to the corpus: rows of its files, in one block."""

    source: str
    documents: list[DocumentRow]
    segments: SegmentRows


def token_names(size: int) -> list[str]:
    """Tokens by id; they are not ASCII, so that characters are no bytes."""
    return ["[UNK]", "[PAD]", "[CLS]", "[MASK]", "[SEP]", *(f"é{n}" for n in range(5, size))]


def make_increment(number: int, words: Sequence[int], support_size: int, first: int) -> Increment:
    """Documents of so many words each, packed into segments.

    Args:
        number: of the increment.
        words: of each document.
        support_size: ids are below it.
        first: number of the first document.
    """
    rng = np.random.default_rng([support_size, number])
    source = f"source-{number}"
    ids = [rng.integers(FIRST_WORD, support_size, count) for count in words]
    documents = [
        _document(first + n, f"{source}:{n}", source, tokens) for n, tokens in enumerate(ids)
    ]
    rows = [row for split in range(3) for row in _pack(documents, ids, split)]
    starts = [np.concatenate(([True], rng.random(len(r[0]) - 2) < 0.7, [True])) for r in rows]
    segments = SegmentRows(
        [tokens for tokens, _, _ in rows],
        starts,
        [spans for _, spans, _ in rows],
        np.array([split for _, _, split in rows], np.uint8),
    )
    return Increment(source, documents, segments)


def _document(number: int, name: str, source: str, tokens: Array) -> DocumentRow:
    text = " ".join(f"é{token}" for token in tokens)
    digest = hashlib.sha256(text.encode()).digest()
    return DocumentRow(
        number, name, source, GENRES[number % 2], _split(name), len(text), digest[:16]
    )


def _split(name: str) -> int:
    u = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
    return 2 if u < TEST else 1 if u < TEST + FIT else 0


def _pack(
    documents: Sequence[DocumentRow], ids: Sequence[Array], split: int
) -> list[tuple[Array, list[Span], int]]:
    """Token ids and spans of the segments of one split."""
    places = [
        (row.number, n, len(" ".join(f"é{t}" for t in tokens[:n])) + (n > 0), token)
        for row, tokens in zip(documents, ids, strict=True)
        if row.split == split
        for n, token in enumerate(tokens)
    ]
    return [_segment(places[start : start + ROOM], split) for start in range(0, len(places), ROOM)]


def _segment(places: list[tuple[int, int, int, int]], split: int) -> tuple[Array, list[Span], int]:
    tokens = [token for _, _, _, token in places]
    spans = []
    for number in dict.fromkeys(document for document, _, _, _ in places):
        at = [n for n, place in enumerate(places) if place[0] == number]
        last = places[at[-1]]
        end = last[2] + len(f"é{last[3]}")
        spans.append(Span(number, at[0] + 1, at[-1] + 2, places[at[0]][2], end))
    return np.array([SPECIAL["cls"], *tokens, SPECIAL["sep"]]), spans, split


def expected_examples(
    parts: Sequence[tuple[SegmentRows, SlotRows]], slots: int
) -> dict[str, Array]:
    """What the models see of all examples of a set, padded, and the split of each."""
    count = sum(len(segments) for segments, _ in parts)
    seen = np.full((count, SEGMENT_TOKENS), SPECIAL["pad"], np.int64)
    mask = np.zeros((count, SEGMENT_TOKENS), np.int64)
    places, gold = np.zeros((2, count, slots), np.int64)
    used = np.zeros((count, slots), np.bool_)
    row = 0
    for segments, masked in parts:
        every = zip(segments.input_ids, masked.positions, masked.inputs, masked.gold, strict=True)
        for ids, where, inputs, was in every:
            seen[row, : len(ids)] = ids
            seen[row, where] = inputs
            mask[row, : len(ids)] = 1
            places[row, : len(where)] = where
            gold[row, : len(where)] = was
            used[row, : len(where)] = True
            row += 1
    return {
        "examples.input_ids": seen,
        "examples.attention_mask": mask,
        "examples.slot_positions": places,
        "examples.slot_mask": used,
        "examples.gold_ids": gold,
        "examples.splits": np.concatenate([segments.splits for segments, _ in parts]),
    }


def expected_segments(parts: Sequence[SegmentRows]) -> dict[str, Array]:
    """Segments end to end, and their spans with the number of the segment before them."""
    ids = [row for segments in parts for row in segments.input_ids]
    spans = [row for segments in parts for row in segments.spans]
    return {
        "segments.lengths": np.array([len(row) for row in ids]),
        "segments.input_ids": np.concatenate(ids),
        "segments.word_starts": np.concatenate([r for part in parts for r in part.word_starts]),
        "segments.spans": np.array(
            [
                [n, s.document, s.token_start, s.token_end, s.char_start, s.char_end]
                for n, row in enumerate(spans)
                for s in row
            ]
        ),
    }


def expected_documents(rows: Sequence[DocumentRow]) -> dict[str, Array]:
    """Documents, a column each."""
    return {
        "documents.number": np.array([row.number for row in rows]),
        "documents.id": np.array([row.id for row in rows]),
        "documents.source": np.array([row.source for row in rows]),
        "documents.genre": np.array([row.genre for row in rows]),
        "documents.split": np.array([row.split for row in rows]),
        "documents.characters": np.array([row.characters for row in rows]),
        "documents.key": np.array([row.key.hex() for row in rows]),
    }
