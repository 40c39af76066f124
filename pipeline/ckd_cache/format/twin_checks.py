"""What must hold of the columns that only twin sets have (docs/format.md, Twin sets)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ckd_cache.format.arrow_io import Ragged
from ckd_cache.format.example_checks import Broken
from ckd_cache.types import Array

__all__ = ["check_alignment", "check_words"]


def check_alignment(
    columns: Sequence[Ragged], own: Ragged | None, segment_tokens: int
) -> Iterator[Broken]:
    """What does not hold of how B segments of a twin set lie to those of its set.

    Args:
        columns: ``input_ids``, ``first``, ``last`` and ``exact`` of the segments.
        own: tokens of the same segments of the set; None where these cannot be read.
        segment_tokens: most tokens that a segment of the set has.
    """
    ids, first, last, exact = columns
    wrong = _other_lengths(ids, (first, last, exact))
    if wrong.any():
        yield Broken("segments", wrong, "a token without its place in the set, or too many places")
        return
    rows = _rows_of(ids)
    most = np.full(len(wrong), segment_tokens) if own is None else np.diff(own.offsets)
    bad = (first.values > last.values) | (last.values > most[rows])
    falling = _falling(first.values, rows)
    if (bad | falling).any():
        at = int(np.argmax(bad | falling))
        found = (
            f"a token for tokens {first.values[at]} to {last.values[at]} of a segment of the set"
            f" of {most[rows[at]]}, expected ascending ones inside of it"
        )
        yield Broken("segments", _by_row(bad | falling, rows, len(wrong)), found)
    loose = exact.values.astype(np.bool_) & (first.values == last.values)
    if loose.any():
        found = "a token is exact, but has nothing to do with any of the set"
        yield Broken("segments", _by_row(loose, rows, len(wrong)), found)


def check_words(positions: Ragged, columns: Sequence[Ragged]) -> Iterator[Broken]:
    """What does not hold of the words of the slots of B examples of a twin set.

    Args:
        positions: of the slots.
        columns: ``words`` and ``exact`` of the slots.
    """
    words, exact = columns
    wrong = _other_lengths(positions, (words, exact))
    if wrong.any():
        yield Broken("slots", wrong, "a slot without a word, or words without slots")
        return
    rows = _rows_of(words)
    falling = _falling(words.values, rows)
    if falling.any():
        at = int(np.argmax(falling))
        found = f"word {words.values[at]} after {words.values[at - 1]}, expected none that falls"
        yield Broken("slots", _by_row(falling, rows, len(wrong)), found)
        return
    same = np.zeros(len(rows), np.bool_)
    same[1:] = (np.diff(rows) == 0) & (np.diff(words.values.astype(np.int64)) == 0)
    split = same.copy()
    split[1:] &= exact.values[1:] != exact.values[:-1]
    if split.any():
        found = "slots of one word of which only some are exact"
        yield Broken("slots", _by_row(split, rows, len(wrong)), found)


def _other_lengths(like: Ragged, columns: Sequence[Ragged]) -> NDArray[np.bool_]:
    wrong = np.zeros(len(like.offsets) - 1, np.bool_)
    for column in columns:
        wrong |= np.diff(column.offsets) != np.diff(like.offsets)
    return wrong


def _rows_of(rows: Ragged) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(rows.offsets) - 1), np.diff(rows.offsets))


def _falling(values: Array, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which numbers are below the one before them in their row; zeros of special tokens count not.

    Special tokens stand for nothing of the set and have 0.
    """
    there = np.flatnonzero(values > 0)
    falling = np.zeros(len(values), np.bool_)
    steps = np.diff(values[there].astype(np.int64)) < 0
    falling[there[1:]] = steps & (np.diff(rows[there]) == 0)
    return falling


def _by_row(wrong: NDArray[np.bool_], rows: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.bincount(rows[wrong], minlength=count) > 0
    return found
