"""The records that flow through the project, with their shapes.

Letters: B examples of one read, L tokens of the longest segment, M slots of an example, k kept
entries of a slot, T temperatures, S teachers of a target. Unused slots come last in an example.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Array",
    "Examples",
    "GatherArrays",
    "JsonObject",
    "JsonValue",
    "TargetArrays",
    "TeacherArrays",
    "array_names",
    "iter_ranges",
]

JsonValue: TypeAlias = Any
"""What ``json.loads`` gives: None, bool, int, float, str, list or dict of these."""
JsonObject: TypeAlias = dict[str, JsonValue]
Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Examples:
    """What every teacher and every student sees, for B examples.

    Attributes:
        input_ids: (B, L) int64, the corrupted token ids; padding beyond the segment.
        attention_mask: (B, L) int64, 1 on the segment's tokens (specials included), 0 on padding.
        token_type_ids: (B, L) int64, all 0 for masked-LM sets.
        slot_positions: (B, M) int64, the token index of each slot, ascending; 0 where unused.
        slot_mask: (B, M) bool, True on used slots.
        gold_ids: (B, M) int64, the token that was there before the corruption; 0 where unused.
    """

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    token_type_ids: NDArray[np.int64]
    slot_positions: NDArray[np.int64]
    slot_mask: NDArray[np.bool_]
    gold_ids: NDArray[np.int64]

    def keys(self) -> tuple[str, ...]:
        """Names of the arrays, so that ``np.savez(file, **examples)`` works."""
        return array_names(type(self))

    def __getitem__(self, name: str) -> Array:
        """The array called ``name``; KeyError if there is none."""
        return _member(self, name)

    def __len__(self) -> int:
        """Number of examples, B."""
        return int(self.input_ids.shape[0])


@dataclass(frozen=True, slots=True)
class TeacherArrays:
    """Distributions of one teacher at the slots of B examples, decoded.

    Floating arrays are NaN and integer arrays 0 at unused slots. Rank r of a slot holds something
    only where r < n_valid; beyond, ``ids`` is 0 and ``logprobs`` is -inf.

    Attributes:
        ids: (B, M, k) int32, token ids by rank (probability descending, ties by id ascending).
        logprobs: (B, M, k) float32, natural logs of probabilities at temperature 1.
        n_valid: (B, M) int32, number of kept entries: at most k, fewer where fewer have a
            probability or hold the mass that was asked for; 0 at unused slots.
        tail: (B, M, T) float32, log of the mass outside the kept entries at each temperature.
        logsumexp: (B, M, T) float32, log-sum-exp of logits / temperature over the support.
        entropy: (B, M, T) float32, nats, over the whole support.
        gold_logprob: (B, M) float32, log-probability of gold at temperature 1.
        gold_rank: (B, M) uint32, how many tokens stand before gold in the order of ``ids``.
    """

    ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    n_valid: NDArray[np.int32]
    tail: NDArray[np.float32]
    logsumexp: NDArray[np.float32]
    entropy: NDArray[np.float32]
    gold_logprob: NDArray[np.float32]
    gold_rank: NDArray[np.uint32]

    def keys(self) -> tuple[str, ...]:
        """Names of the arrays, so that ``np.savez(file, **arrays)`` works."""
        return array_names(type(self))

    def __getitem__(self, name: str) -> Array:
        """The array called ``name``; KeyError if there is none."""
        return _member(self, name)

    def __len__(self) -> int:
        """Number of examples, B."""
        return int(self.n_valid.shape[0])


@dataclass(frozen=True, slots=True)
class TargetArrays:
    """A merged distribution at the slots of B examples, decoded, at one temperature.

    Attributes:
        ids: (B, M, k) int32, token ids by rank.
        logprobs: (B, M, k) float32, logs of the mixture's probabilities.
        n_valid: (B, M) int32, number of entries of non-zero probability among the k.
        tail: (B, M) float32, log of the mixture's mass outside the kept ids.
        weights: (B, M, S) float32, prediction weights, in the order of the target's ``teachers``.
        uncertain: (B, M) float32, bound on the total variation between this target and the true
            mixture on the cells {kept ids, tail}.
        gold_logprob: (B, M) float32, log-probability of gold under the mixture.
    """

    ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    n_valid: NDArray[np.int32]
    tail: NDArray[np.float32]
    weights: NDArray[np.float32]
    uncertain: NDArray[np.float32]
    gold_logprob: NDArray[np.float32]

    def keys(self) -> tuple[str, ...]:
        """Names of the arrays, so that ``np.savez(file, **arrays)`` works."""
        return array_names(type(self))

    def __getitem__(self, name: str) -> Array:
        """The array called ``name``; KeyError if there is none."""
        return _member(self, name)

    def __len__(self) -> int:
        """Number of examples, B."""
        return int(self.n_valid.shape[0])


@dataclass(frozen=True, slots=True)
class GatherArrays:
    """Logprobs of a teacher at ids that others of its group keep and it does not, decoded.

    Entry g of a slot holds something only where g < n_valid.

    Attributes:
        ids: (B, M, width) int32, ascending; -1 beyond.
        logprobs: (B, M, width) float32, natural logs of probabilities at temperature 1; -inf where
            the probability is 0, and beyond.
        n_valid: (B, M) int32, number of entries; 0 at unused slots, and where the others keep
            nothing else.
    """

    ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    n_valid: NDArray[np.int32]

    def keys(self) -> tuple[str, ...]:
        """Names of the arrays, so that ``np.savez(file, **arrays)`` works."""
        return array_names(type(self))

    def __getitem__(self, name: str) -> Array:
        """The array called ``name``; KeyError if there is none."""
        return _member(self, name)

    def __len__(self) -> int:
        """Number of examples, B."""
        return int(self.n_valid.shape[0])


def array_names(record: type[Any]) -> tuple[str, ...]:
    """Names of the arrays that a record type holds, in their order on disk."""
    return tuple(field.name for field in fields(record))


def _member(record: Any, name: str) -> Array:
    if name not in array_names(type(record)):
        raise KeyError(name)
    array: Array = getattr(record, name)
    return array


def iter_ranges(total: int, step: int) -> Iterator[tuple[int, int]]:
    """Consecutive half-open ranges of at most ``step`` that cover 0 … ``total``."""
    for start in range(0, total, step):
        yield start, min(start + step, total)
