"""Figures of one target: what `ckd-cache inspect --target` prints and reports draw."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from os import PathLike
from pathlib import Path

from ckd_cache.format.reader import CacheReader, open_cache
from ckd_cache.format.stats import add_stats
from ckd_cache.inspection.figures.calibration import SEEN_NAMES, CurveKey, curve_figures
from ckd_cache.inspection.figures.chunk import (
    ChunkFigures,
    add_chunks,
    chunk_figures,
    genres_of,
)
from ckd_cache.inspection.figures.reading import TargetSource, read_chunks, target_source
from ckd_cache.inspection.figures.sample import Sample, sample_chunks
from ckd_cache.inspection.figures.uncertain import (
    cells_sentence,
    coverage_figures,
    uncertain_figures,
)
from ckd_cache.inspection.figures.weights import (
    CONFIDENCE_BINS,
    WeightSums,
    mean_weights,
    position_ranges,
    segment_count,
)
from ckd_cache.merge.calibration import choose_temperatures
from ckd_cache.merge.weightings import WEIGHTINGS
from ckd_cache.progress import SILENT, Progress
from ckd_cache.types import JsonObject, JsonValue

__all__ = ["MOST_SLOTS", "figures_of", "target_figures"]

MOST_SLOTS = 200_000
"""Slots that are read where nothing else is asked for."""
_NO_GENRE = None


def target_figures(
    path: str | PathLike[str],
    set_name: str,
    target: str,
    most_slots: int = MOST_SLOTS,
    progress: Progress = SILENT,
) -> JsonObject:
    """Figures of a target as strict JSON; docs/cli.md says what they mean.

    Args:
        path: the cache.
        set_name: the set.
        target: its name; one that is only recorded is computed.
        most_slots: about how many slots to read, in evenly spaced chunks.
        progress: who listens.

    Raises:
        CacheNotFoundError: there is no cache at ``path``.
        IncompleteCacheError: there is no such set or target, or it covers no part yet.
        CkdCacheError: the cache cannot be read, or the target cannot be computed.
    """
    return figures_of(open_cache(Path(path).absolute()), set_name, target, most_slots, progress)


def figures_of(
    cache: CacheReader, set_name: str, target: str, most_slots: int, progress: Progress = SILENT
) -> JsonObject:
    """As `target_figures`, of an open cache."""
    source = target_source(cache, set_name, target)
    sample = sample_chunks(source.reader, source.parts, most_slots)
    found = _totals(source, sample, progress)
    return {
        "path": str(cache.path),
        "set": set_name,
        "target": target,
        **_rule(source),
        "sample": {
            "slots": 0 if found is None else found.slots,
            "of_slots": sample.slots,
            "chunks": len(sample.ranges),
            "of_chunks": sample.chunks,
            "every": sample.every,
        },
        "weights": None if found is None else _weights(source, found),
        "agreement": [] if found is None else _agreement(found),
        "calibration": None if found is None else _calibration(source, found),
        "uncertain": _uncertain(source, found),
        "coverage": coverage_figures(
            _stored_stats(source) if source.record.stored or found is None else found.stats
        ),
    }


def _totals(source: TargetSource, sample: Sample, progress: Progress) -> ChunkFigures | None:
    total = sum(stop - start for start, stop in sample.ranges)
    task = progress.task(f"figures of target {source.name}", total=total, unit="examples")

    def each() -> Iterable[ChunkFigures]:
        for chunk, (start, stop) in zip(
            read_chunks(source, sample.ranges), sample.ranges, strict=True
        ):
            yield chunk_figures(chunk, source.reader.record, source.record)
            task.advance(stop - start)

    figures = iter(each())
    first = next(figures, None)
    found = None if first is None else reduce(add_chunks, figures, first)
    task.done()
    return found


def _rule(source: TargetSource) -> JsonObject:
    record = source.record
    known = WEIGHTINGS.get(record.weighting)
    return {
        "weighting": record.weighting,
        "tau": record.tau,
        "temperature": record.temperature,
        "missing": record.missing,
        "mixture": record.mixture,
        "calibrate": record.calibrate,
        "settings": record.settings,
        "k": record.k,
        "stored": record.stored,
        "uses_gold": None if known is None else known.uses_gold,
        "no_merit": source.no_merit,
        "teachers": list(record.teachers),
        "gone": source.gone,
    }


def _weights(source: TargetSource, found: ChunkFigures) -> JsonObject:
    names = source.record.teachers
    totals = found.by_kind.weights.sum(axis=0)
    return {
        "mean": {
            name: float(total / found.slots) if found.slots else None
            for name, total in zip(names, totals, strict=True)
        },
        "by_confidence": {
            "edges": [one / CONFIDENCE_BINS for one in range(CONFIDENCE_BINS + 1)],
            "teachers": {
                name: one
                for name, one in _by_teacher(names, found.by_confidence).items()
                if name not in source.gone
            },
        },
        "by_kind": _groups(
            names,
            found.by_kind,
            [{"genre": genre} for genre in [*genres_of(source.reader.record), _NO_GENRE]],
        ),
        "by_position": _groups(
            names,
            found.by_position,
            [
                {"first_segment": first, "last_segment": after - 1}
                for first, after in position_ranges(segment_count(source.reader.record))
            ],
        ),
    }


def _by_teacher(names: list[str], sums: WeightSums) -> dict[str, JsonObject]:
    means = mean_weights(sums)
    return {
        name: {
            "slots": sums.slots[:, column].tolist(),
            "mean_weight": [row[column] for row in means],
        }
        for column, name in enumerate(names)
    }


def _groups(names: list[str], sums: WeightSums, labels: list[JsonObject]) -> list[JsonObject]:
    """Groups that have slots; every slot counts for all teachers."""
    return [
        {**label, "slots": int(count), "mean_weight": dict(zip(names, row, strict=True))}
        for label, count, row in zip(labels, sums.slots[:, 0], mean_weights(sums), strict=True)
        if count
    ]


def _agreement(found: ChunkFigures) -> list[JsonObject]:
    return [
        {
            "teachers": list(names),
            "slots": pair.slots,
            "same_top1": pair.same / pair.slots if pair.slots else None,
            "total_variation": pair.distance / pair.slots if pair.slots else None,
            "uncertain": pair.doubt / pair.slots if pair.slots else None,
        }
        for names, pair in found.pairs.items()
    ]


def _calibration(source: TargetSource, found: ChunkFigures) -> JsonObject:
    origin, chosen = _temperatures(source, found)
    curves: list[JsonObject] = []
    for name, own in found.curves.items():
        for seen in SEEN_NAMES.values():
            kind = "masked" if seen == "masked" else "shown"
            stages = {"captured": 1.0}
            if name in chosen:
                stages["calibrated"] = chosen[name][kind]
            for stage, temperature in stages.items():
                curve = curve_figures(own[CurveKey(temperature, seen)])
                curves.append(_curve(name, stage, temperature, seen, curve))
    for key, one in found.mixed.items():
        curve = curve_figures(one)
        if source.no_merit is not None:
            # It depends on gold: its log-likelihood would say little but that.
            curve["nll"] = None
        curves.append(_curve(source.name, "mixed", key.temperature, key.seen, curve))
    return {"left_out": "fit", "chosen_by": origin, "temperatures": chosen, "curves": curves}


def _curve(name: str, stage: str, temperature: float, seen: str, figures: JsonObject) -> JsonObject:
    return {"of": name, "stage": stage, "temperature": temperature, "seen": seen, **figures}


def _temperatures(
    source: TargetSource, found: ChunkFigures
) -> tuple[str | None, dict[str, Mapping[str, float]]]:
    """Temperatures by teacher and type of slot, and who chose them."""
    learned: JsonValue = (source.record.fit or {}).get("temperatures")
    if learned is not None and source.record.calibrate != "none":
        return "target", {name: learned[name] for name in found.curves if name in learned}
    chosen = {}
    for name, sums in found.fit.items():
        temperatures = sorted({key.temperature for key in found.curves[name]})
        if len(temperatures) > 1 and sums.slots.sum():
            ordered = _capture_order(source, name)
            chosen[name] = choose_temperatures(sums, ordered)
    return ("fit split" if chosen else None), chosen


def _capture_order(source: TargetSource, name: str) -> list[float]:
    """Temperatures of a teacher, in the order of its arrays."""
    assert source.voices is not None
    place = source.voices.names.index(name)
    return list(source.voices.captures[place].temperatures)


def _uncertain(source: TargetSource, found: ChunkFigures | None) -> JsonObject:
    stored = uncertain_figures(_stored_stats(source))
    whole = stored["p99"] is not None
    read = {} if found is None else found.stats
    return {
        **(stored if whole else uncertain_figures(read)),
        "over": "all slots" if whole else "slots read",
        "cells": cells_sentence(
            source.record.missing, source.record.mixture, quantised=source.record.max_nats > 0
        ),
    }


def _stored_stats(source: TargetSource) -> JsonObject:
    return add_stats(part.stats for part in source.record.parts.values())
