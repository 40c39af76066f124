"""Prediction weights by group of slots: by confidence, by kind of text, by place in the corpus."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ckd_cache.format.manifest import SetRecord

__all__ = [
    "CONFIDENCE_BINS",
    "POSITION_RANGES",
    "WeightSums",
    "add_weights",
    "confidence_bins",
    "mean_weights",
    "position_ranges",
    "segment_count",
    "segment_numbers",
    "weight_sums",
]

CONFIDENCE_BINS = 10
"""Bins of equal width that the confidence of a teacher, its largest probability, falls into."""
POSITION_RANGES = 20
"""Ranges of equal length that the segments of a set are divided into."""


@dataclass(frozen=True, slots=True)
class WeightSums:
    """Weights of S teachers summed over G groups of slots; those of chunks can be added.

    Attributes:
        slots: (G, S) int64, slots of the group that count for the teacher.
        weights: (G, S) float64, sums of its weights there.
    """

    slots: NDArray[np.int64]
    weights: NDArray[np.float64]


def weight_sums(weights: NDArray[np.float64], group: NDArray[np.int64], groups: int) -> WeightSums:
    """Sum weights over groups of slots.

    Args:
        weights: (N, S).
        group: (N, S) number of the group, or -1 where the slot does not count for the teacher.
        groups: how many there are, G.
    """
    teachers = weights.shape[1]
    counted = group >= 0
    cell = (group * teachers + np.arange(teachers))[counted]
    size = groups * teachers
    return WeightSums(
        slots=np.bincount(cell, minlength=size).reshape(groups, teachers).astype(np.int64),
        weights=np.bincount(cell, weights[counted], size)
        .reshape(groups, teachers)
        .astype(np.float64),
    )


def add_weights(one: WeightSums, other: WeightSums) -> WeightSums:
    """The slots of both, in the same groups."""
    return WeightSums(one.slots + other.slots, one.weights + other.weights)


def mean_weights(sums: WeightSums) -> list[list[float | None]]:
    """(G, S) mean weights; None where no slot counts."""
    return [
        [float(total / count) if count else None for total, count in zip(*row, strict=True)]
        for row in zip(sums.weights, sums.slots, strict=True)
    ]


def confidence_bins(
    max_logprob: NDArray[np.float64], present: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """The bin of a teacher's confidence at each slot.

    A confidence on the border of two bins belongs to the upper one, 1 to the last.

    Args:
        max_logprob: (N,) or (N, S) logprob of the most probable id.
        present: of the same shape; False where the teacher has no distribution.

    Returns:
        Of the same shape; -1 where the teacher has no distribution.
    """
    confidence = np.exp(np.where(present, max_logprob, 0.0))
    # Probabilities may be a rounding error above 1.
    number = np.minimum((confidence * CONFIDENCE_BINS).astype(np.int64), CONFIDENCE_BINS - 1)
    return np.where(present, number, -1)


def segment_count(record: SetRecord) -> int:
    """Segments of all increments of a set."""
    return sum(one.segments for one in record.increments)


def segment_numbers(record: SetRecord, example: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the segment of each example, counted through all increments.

    All views of a segment have its number, so that positions mean the text and not the view.

    Args:
        record: of the set.
        example: (N,) numbers in the set.
    """
    first, total = {}, 0
    for one in record.increments:
        first[one.name] = total
        total += one.segments
    starts = np.array([part.first_example for part in record.parts], np.int64)
    shifts = np.array([first[part.increment] for part in record.parts], np.int64) - starts
    number: NDArray[np.int64] = example + shifts[starts.searchsorted(example, side="right") - 1]
    return number


def position_ranges(segments: int) -> list[tuple[int, int]]:
    """First segment and segment after the last one of each range; fewer where segments are few.

    Args:
        segments: of the set.
    """
    ranges = min(POSITION_RANGES, segments)
    # Segment n falls into range n * ranges // segments.
    borders = [-(-one * segments // ranges) for one in range(ranges + 1)] if ranges else [0]
    return list(pairwise(borders))
