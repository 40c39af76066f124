"""What is in a cache, from its manifest and its files table; no array is read.

Means are over used slots, from the sums that every part carries. A slot whose gold has probability
0 has no finite logprob: `mean_gold_logprob` leaves such slots out and `gold_zero` counts them.
Numbers that are not known, or not finite, are None.
"""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path

from ckd_cache.format.manifest import (
    FilledPart,
    GatherRecord,
    IncrementRecord,
    PartRecord,
    SetRecord,
    TargetRecord,
    TeacherRecord,
)
from ckd_cache.format.paths import (
    gather_part,
    segments_part,
    slots_part,
    target_part,
    teacher_part,
)
from ckd_cache.format.presence import refuse_missing_files
from ckd_cache.format.reader import CacheReader, open_cache
from ckd_cache.format.spec import MANIFEST_NAME
from ckd_cache.format.stats import add_stats
from ckd_cache.inspection.figures.merit import why_no_merit
from ckd_cache.inspection.figures.uncertain import (
    cells_sentence,
    coverage_figures,
    uncertain_figures,
)
from ckd_cache.types import JsonObject, JsonValue

__all__ = ["summarise"]

_DEFAULT_SET = "text"
_LARGEST = {"uncertain_max"}


def summarise(path: str | PathLike[str]) -> JsonObject:
    """Summary of a cache as strict JSON: what ``ckd-cache inspect --json`` prints.

    The members of the set ``text`` (or of the only set) stand at the top as well as in ``sets``.

    Raises:
        CacheNotFoundError: there is no cache at ``path``.
        FormatVersionError: a newer version wrote it.
        DamagedCacheError: its manifest or its files table is not what was written, or a file is
            missing or has another size.
    """
    reader = open_cache(Path(path).absolute())
    refuse_missing_files(reader)
    manifest = reader.manifest
    sets = {name: _set(reader, name, record) for name, record in manifest.sets.items()}
    first = sets.get(_DEFAULT_SET) or next(iter(sets.values()), {})
    return {
        "path": str(reader.path),
        "format_version": manifest.format_version,
        "generation": manifest.generation,
        "complete": manifest.complete,
        "bytes": _total_bytes(reader),
        **first,
        "sets": sets,
    }


def _set(reader: CacheReader, name: str, record: SetRecord) -> JsonObject:
    increments = {increment.name: increment for increment in record.increments}
    splits, genres = Counter[str](), Counter[str]()
    for part in record.parts:
        splits.update(increments[part.increment].splits)
    for increment in record.increments:
        genres.update(increment.genres)
    slots = sum(part.slots for part in record.parts)
    examples_bytes = _bytes(reader, (segments_part(name, one) for one in increments)) + _bytes(
        reader, (slots_part(name, part.name) for part in record.parts)
    )
    support = reader.manifest.supports[record.support].size
    return {
        "kind": record.kind,
        "twin_of": record.twin_of,
        "support": support,
        "segment_tokens": record.segment_tokens,
        "slots_per_example": record.slots_per_example,
        "shard_examples": record.shard_examples,
        "chunk_examples": record.chunk_examples,
        "examples": record.examples,
        "slots": slots,
        "examples_bytes": examples_bytes,
        "segments": sum(one.segments for one in record.increments),
        "tokens": sum(one.tokens for one in record.increments),
        "documents": sum(one.documents for one in record.increments),
        "cut": sum(one.cut for one in record.increments),
        "duplicates": sum(one.duplicates for one in record.increments),
        "skipped": sum(one.skipped for one in record.increments),
        "splits": dict(splits),
        "genres": dict(genres),
        "increments": [_increment(one) for one in record.increments],
        "parts": [_part(part) for part in record.parts],
        "teachers": {
            teacher: _teacher(reader, name, teacher, one, support)
            for teacher, one in record.teachers.items()
        },
        "targets": {
            target: _target(reader, name, target, one) for target, one in record.targets.items()
        },
        "gathers": {
            gather: _gather(reader, name, gather, one) for gather, one in record.gathers.items()
        },
    }


def _increment(increment: IncrementRecord) -> JsonObject:
    return {
        "name": increment.name,
        "sources": increment.identity.get("source_order"),
        "segments": increment.segments,
        "tokens": increment.tokens,
        "documents": increment.documents,
        "duplicates": increment.duplicates,
        "skipped": increment.skipped,
    }


def _part(part: PartRecord) -> JsonObject:
    return {
        "name": part.name,
        "view": part.view,
        "increment": part.increment,
        "examples": part.examples,
        "slots": part.slots,
    }


def _teacher(
    reader: CacheReader, set_name: str, name: str, record: TeacherRecord, support: int
) -> JsonObject:
    stats = _sums(record.parts.values())
    slots = stats.get("slots", 0)
    used = _bytes(reader, (teacher_part(set_name, name, part) for part in record.parts))
    return {
        "model": record.model,
        "dtype": record.identity.get("dtype"),
        "k": record.k,
        "support": support,
        "temperatures": list(record.temperatures),
        "step": record.step,
        "max_nats": record.max_nats,
        "quantising_nats": _ratio(stats.get("quantising_nats_sum"), slots),
        "top_p": record.top_p,
        "parts": list(record.parts),
        "slots": slots,
        "bytes": used,
        "bytes_per_slot": _ratio(used, slots),
        "mean_entropy": _ratio(stats.get("entropy_sum"), slots),
        **_gold(stats, slots),
        "top1_accuracy": _ratio(stats.get("top1_hits"), slots),
        "mean_tail_mass": _ratio(stats.get("tail_mass_sum"), slots),
        "mean_valid": _ratio(stats.get("valid_sum"), slots),
    }


def _gather(reader: CacheReader, set_name: str, name: str, record: GatherRecord) -> JsonObject:
    stats = _sums(record.parts.values())
    slots = stats.get("slots", 0)
    used = _bytes(reader, (gather_part(set_name, name, part) for part in record.parts))
    return {
        "teacher": record.teacher,
        "group": list(record.group),
        "width": record.width,
        "step": record.step,
        "parts": list(record.parts),
        "slots": slots,
        "bytes": used,
        "bytes_per_slot": _ratio(used, slots),
        "mean_gathered": _ratio(stats.get("gathered_sum"), slots),
        "mean_mass": _ratio(stats.get("mass_sum"), slots),
    }


def _target(reader: CacheReader, set_name: str, name: str, record: TargetRecord) -> JsonObject:
    stats = _sums(record.parts.values())
    added = add_stats(part.stats for part in record.parts.values())
    slots = stats.get("slots", 0)
    used = _bytes(reader, (target_part(set_name, name, part) for part in record.parts))
    return {
        "weighting": record.weighting,
        "tau": record.tau,
        "temperature": record.temperature,
        "missing": record.missing,
        "mixture": record.mixture,
        "calibrate": record.calibrate,
        "stored": record.stored,
        "teachers": list(record.teachers),
        "k": record.k,
        "step": record.step,
        "max_nats": record.max_nats,
        "quantising_nats": _ratio(stats.get("quantising_nats_sum"), slots),
        "parts": list(record.parts),
        "slots": slots,
        "bytes": used,
        "bytes_per_slot": _ratio(used, slots),
        **_gold(stats, slots),
        "no_merit": why_no_merit(reader.manifest, set_name, record),
        "mean_tail_mass": _ratio(stats.get("tail_mass_sum"), slots),
        "mean_weights": {
            teacher: _ratio(stats.get(f"weights_sum.{teacher}"), slots)
            for teacher in record.teachers
        },
        "mean_uncertain": _ratio(stats.get("uncertain_sum"), slots),
        "max_uncertain": _finite(stats.get("uncertain_max")),
        "uncertain": {
            **uncertain_figures(added),
            "cells": cells_sentence(record.missing, record.mixture, quantised=record.max_nats > 0),
        },
        "coverage": coverage_figures(added),
    }


def _gold(stats: Mapping[str, float], slots: float) -> JsonObject:
    zero = stats.get("gold_zero", 0)
    return {
        "mean_gold_logprob": _ratio(stats.get("gold_logprob_sum"), slots - zero),
        "gold_zero": zero,
    }


def _sums(parts: Iterable[FilledPart]) -> dict[str, float]:
    """Stats of all parts, flat: all add but those that keep the largest."""
    totals: dict[str, float] = {}
    for part in parts:
        for name, value in _flat(part.stats):
            join: Callable[[float, float], float] = max if name in _LARGEST else operator.add
            totals[name] = join(totals[name], value) if name in totals else value
    return totals


def _flat(stats: Mapping[str, JsonValue], prefix: str = "") -> Iterable[tuple[str, float]]:
    for name, value in stats.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", value


def _ratio(total: float | None, count: float) -> float | None:
    return _finite(total / count) if total is not None and count > 0 else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _bytes(reader: CacheReader, parts: Iterable[str]) -> int:
    return sum(reader.files.bytes_of(part) for part in parts)


def _total_bytes(reader: CacheReader) -> int:
    files = reader.manifest.files
    table = 0 if files is None else files.bytes + _bytes(reader, reader.files.parts)
    return table + (reader.path / MANIFEST_NAME).stat().st_size
