"""What the rules of prediction weights know of the teachers at some slots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Evidence"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """S teachers at the N used slots of consecutive whole examples, in the order of the set.

    Floating arrays are NaN where a teacher has no distribution at a slot (``present`` is False),
    as teachers with another tokenizer do at words of several pieces.

    Attributes:
        gold_logprob: (N, S) float64, log-probability of gold at temperature 1; -inf is
            probability 0. With calibration, at the temperature of (teacher, slot).
        max_logprob: (N, S) float64, log-probability of the most probable id, same temperature.
        entropy: (N, S) float64, nats, same temperature; of a teacher with another support
            multiplied by log(size of the set's support) / log(size of its own), so that no two
            supports are compared raw.
        correct: (N, S) bool, gold is the most probable id.
        present: (N, S) bool, the teacher has a distribution at the slot; every slot has one.
        unit_logprob: (N, S) float64, log-probability of the unit of text that the slot begins: of
            gold itself where units are slots, of the whole word where they are words; NaN at the
            other slots of a word, and where a teacher does not see the word.
        example: (N,) int64, number of the slot's example in the set, ascending.
        slot: (N,) int64, number of the slot in its example.
        unit: (N,) int64, ascending number of the slot's unit (slot or word) among these N slots.
        document: (N,) int64, number of the document that the slot's token comes from.
        kind: (N,) int64, number of the document's genre, the same for all slots of one genre.
        masked: (N,) bool, the models see the mask token there.
    """

    gold_logprob: NDArray[np.float64]
    max_logprob: NDArray[np.float64]
    entropy: NDArray[np.float64]
    correct: NDArray[np.bool_]
    present: NDArray[np.bool_]
    unit_logprob: NDArray[np.float64]
    example: NDArray[np.int64]
    slot: NDArray[np.int64]
    unit: NDArray[np.int64]
    document: NDArray[np.int64]
    kind: NDArray[np.int64]
    masked: NDArray[np.bool_]

    def __len__(self) -> int:
        """Number of slots, N."""
        return int(self.example.shape[0])

    @property
    def teachers(self) -> int:
        """Number of teachers, S."""
        return int(self.gold_logprob.shape[1])
