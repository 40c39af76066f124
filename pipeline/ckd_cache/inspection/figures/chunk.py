"""All figures of a target at the slots of one chunk, and their sum with those of another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ckd_cache.format.manifest import SetRecord, TargetRecord
from ckd_cache.format.spec import SPLIT_NAMES
from ckd_cache.format.stats import add_stats, target_stats
from ckd_cache.inspection.figures.agreement import Pair, PairSums, add_pairs, pairs_of
from ckd_cache.inspection.figures.calibration import (
    Curve,
    CurveKey,
    add_curves,
    curves_by_type,
    teacher_curves,
)
from ckd_cache.inspection.figures.weights import (
    CONFIDENCE_BINS,
    WeightSums,
    add_weights,
    confidence_bins,
    position_ranges,
    segment_count,
    segment_numbers,
    weight_sums,
)
from ckd_cache.merge.calibration import NllSums, add_sums, nll_sums
from ckd_cache.merge.slots import UsedSlots
from ckd_cache.merge.voices import Voice
from ckd_cache.types import JsonObject, TargetArrays

__all__ = ["ChunkFigures", "ChunkSlots", "add_chunks", "chunk_figures", "genres_of"]

_FIT = SPLIT_NAMES.index("fit")
Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class ChunkSlots:
    """What is read of a chunk.

    Attributes:
        slots: its N used slots, with their kinds.
        split: (N,) number of the split of each slot's example.
        voices: of the teachers that are in the cache.
        target: the target at its B examples.
        coverage: of teachers with another tokenizer, as ``target_stats`` takes it; None where it
            is not asked for.
    """

    slots: UsedSlots
    split: NDArray[np.uint8]
    voices: Sequence[Voice]
    target: TargetArrays
    coverage: JsonObject | None


@dataclass(frozen=True, slots=True)
class ChunkFigures:
    """Sums over slots; those of chunks can be added.

    Attributes:
        slots: how many.
        by_confidence: weights by the confidence of the teacher itself.
        by_kind: weights by genre, those of ``genres_of`` and then slots of no known one.
        by_position: weights by range of segments.
        pairs: agreement of teachers.
        curves: of each teacher, outside the split ``fit``.
        mixed: curves of the target, there too.
        fit: of each teacher, what choosing a temperature on the split ``fit`` needs.
        stats: of the target, as parts have them.
    """

    slots: int
    by_confidence: WeightSums
    by_kind: WeightSums
    by_position: WeightSums
    pairs: Mapping[Pair, PairSums]
    curves: Mapping[str, Mapping[CurveKey, Curve]]
    mixed: Mapping[CurveKey, Curve]
    fit: Mapping[str, NllSums]
    stats: JsonObject


def genres_of(record: SetRecord) -> list[str]:
    """Genres of a set, in the order of the kinds of slots."""
    return sorted({genre for one in record.increments for genre in one.genres})


def chunk_figures(chunk: ChunkSlots, record: SetRecord, target: TargetRecord) -> ChunkFigures:
    """The figures of one chunk.

    Args:
        chunk: what was read.
        record: of the set.
        target: its record.
    """
    slots, voices = chunk.slots, chunk.voices
    weights = chunk.target.weights[slots.at].astype(np.float64)
    outside = chunk.split != _FIT
    inside = np.flatnonzero(~outside)
    return ChunkFigures(
        slots=len(slots),
        by_confidence=_by_confidence(weights, voices, target.teachers),
        by_kind=_by_kind(weights, slots, record),
        by_position=_by_position(weights, slots, record),
        pairs=pairs_of(voices),
        curves={voice.name: teacher_curves(voice, slots.seen, outside) for voice in voices},
        mixed=_mixed(chunk, outside, target.temperature),
        fit={
            voice.name: nll_sums(
                np.where(voice.present, voice.gold_logprob, np.nan)[inside],
                voice.logsumexp[inside],
                voice.capture.temperatures,
                slots.seen[inside],
            )
            for voice in voices
        },
        stats=target_stats(chunk.target, target.teachers, chunk.coverage),
    )


def add_chunks(one: ChunkFigures, other: ChunkFigures) -> ChunkFigures:
    """The slots of both."""
    return ChunkFigures(
        slots=one.slots + other.slots,
        by_confidence=add_weights(one.by_confidence, other.by_confidence),
        by_kind=add_weights(one.by_kind, other.by_kind),
        by_position=add_weights(one.by_position, other.by_position),
        pairs=_each(add_pairs, one.pairs, other.pairs),
        curves={
            name: _each(add_curves, curves, other.curves[name])
            for name, curves in one.curves.items()
        },
        mixed=_each(add_curves, one.mixed, other.mixed),
        fit=_each(add_sums, one.fit, other.fit),
        stats=add_stats([one.stats, other.stats]),
    )


def _each(
    add: Callable[[Value, Value], Value], one: Mapping[Key, Value], other: Mapping[Key, Value]
) -> dict[Key, Value]:
    return {key: add(value, other[key]) for key, value in one.items()}


def _by_confidence(
    weights: NDArray[np.float64], voices: Sequence[Voice], teachers: Sequence[str]
) -> WeightSums:
    group = np.full(weights.shape, -1, np.int64)
    for voice in voices:
        column = teachers.index(voice.name)
        group[:, column] = confidence_bins(voice.logprobs[:, 0].astype(np.float64), voice.present)
    return weight_sums(weights, group, CONFIDENCE_BINS)


def _by_kind(weights: NDArray[np.float64], slots: UsedSlots, record: SetRecord) -> WeightSums:
    unknown = len(genres_of(record))
    kind = np.where(slots.kind < 0, unknown, slots.kind)
    return weight_sums(weights, _for_all(kind, weights), unknown + 1)


def _by_position(weights: NDArray[np.float64], slots: UsedSlots, record: SetRecord) -> WeightSums:
    segments = segment_count(record)
    ranges = len(position_ranges(segments))
    number = segment_numbers(record, slots.example) * ranges // max(segments, 1)
    return weight_sums(weights, _for_all(number, weights), ranges)


def _for_all(group: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.broadcast_to(group[:, None], weights.shape)


def _mixed(
    chunk: ChunkSlots, counted: NDArray[np.bool_], temperature: float
) -> dict[CurveKey, Curve]:
    target, slots = chunk.target, chunk.slots
    top = target.ids[slots.at][:, 0] == slots.gold
    return curves_by_type(
        target.logprobs[slots.at][counted, 0].astype(np.float64),
        top[counted],
        target.gold_logprob[slots.at][counted].astype(np.float64),
        slots.seen[counted],
        temperature,
    )
