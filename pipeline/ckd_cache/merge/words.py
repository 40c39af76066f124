"""The masked words that the slots of some examples belong to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ckd_cache.format.arrow_io import Ragged
from ckd_cache.format.reader import SetReader

__all__ = ["Words", "word_logprobs", "words_of", "words_of_range"]


@dataclass(frozen=True, slots=True)
class Words:
    """The words of the N used slots of B consecutive examples, in the order of the set.

    Attributes:
        example: (N,) int64, number of the example among the B.
        number: (N,) int64, number of the slot's word among the masked words of its example.
        unit: (N,) int64, ascending number of the word among all of these.
        begins: (N,) bool, the slot is the first of its word.
        slots: (N,) int64, slots that its word has.
    """

    example: NDArray[np.int64]
    number: NDArray[np.int64]
    unit: NDArray[np.int64]
    begins: NDArray[np.bool_]
    slots: NDArray[np.int64]


def words_of_range(reader: SetReader, start: int, stop: int) -> Words:
    """The words of the slots of examples ``start`` to ``stop`` of a set.

    Raises:
        CkdCacheError: the range is not one of the set's, or a file is missing or damaged.
    """
    (starts,) = reader.examples.segment_columns(["word_starts"], start, stop)
    (positions,) = reader.examples.slot_columns(["positions"], start, stop)
    return words_of(starts, positions)


def words_of(word_starts: Ragged, positions: Ragged) -> Words:
    """The words of the slots of B examples.

    Args:
        word_starts: bool for each token of their segments.
        positions: of their slots.
    """
    counts = np.diff(positions.offsets)
    example = np.repeat(np.arange(len(counts)), counts)
    # No word goes on from one segment to the next, so that words can be counted over all.
    begins_word = word_starts.values.astype(np.bool_)
    begins_word[word_starts.offsets[:-1][np.diff(word_starts.offsets) > 0]] = True
    word = np.cumsum(begins_word)
    found = word[word_starts.offsets[example] + positions.values.astype(np.int64)]
    begins = np.diff(found, prepend=-1) != 0
    unit = np.cumsum(begins) - 1
    of_example = np.flatnonzero(np.diff(example, prepend=-1) != 0)
    number = unit - np.repeat(unit[of_example], counts[counts > 0])
    return Words(example, number, unit, begins, np.bincount(unit, minlength=1)[unit])


def word_logprobs(gold_logprob: NDArray[np.float64], words: Words) -> NDArray[np.float64]:
    """Log-probability of each word, all of whose tokens are masked: the sum over its tokens.

    It is a pseudo-likelihood: no token is predicted from the others of the word.

    Args:
        gold_logprob: (N,) of the slots.
        words: of the slots.

    Returns:
        (N,) at the first slot of each word, NaN at the others.
    """
    if not words.unit.size:
        return gold_logprob
    sums = np.add.reduceat(gold_logprob, np.flatnonzero(words.begins))
    result: NDArray[np.float64] = np.where(words.begins, sums[words.unit], np.nan)
    return result
