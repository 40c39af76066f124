"""What a rule learns from a cache: the scalars of the split ``fit``, read once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ckd_cache.format.spec import SPLIT_NAMES
from ckd_cache.merge.fit import Fit
from ckd_cache.merge.learn import FitBatch, learn
from ckd_cache.merge.reading import read_voices
from ckd_cache.merge.rule import TargetRule
from ckd_cache.merge.slots import UsedSlots
from ckd_cache.merge.source import MergeSource, chunk_ranges
from ckd_cache.merge.voices import Voice
from ckd_cache.merge.weighing import evidence_of, plain_indices
from ckd_cache.progress import SILENT, Progress
from ckd_cache.types import JsonObject

__all__ = ["common_temperatures", "fit_batches", "learn_from_cache"]

SPLIT = "fit"


def learn_from_cache(source: MergeSource, rule: TargetRule, progress: Progress = SILENT) -> Fit:
    """Learn what a rule needs on the split ``fit`` of a set.

    Args:
        source: the teachers, in the order of ``rule.teachers``.
        rule: a rule that needs a fit, without one.
        progress: who listens.

    Raises:
        MergeError: the split has no slot, or the teachers have no temperature in common but 1
            that calibration could choose from.
        CkdCacheError: the cache cannot be read.
    """
    temperatures = common_temperatures(source)
    batches = fit_batches(source, rule, temperatures, progress)
    return learn(batches, rule, temperatures, source.names, on_what(source))


def common_temperatures(source: MergeSource) -> tuple[float, ...]:
    """Temperatures that all teachers were captured at, ascending."""
    shared = set.intersection(*(set(one.temperatures) for one in source.captures))
    return tuple(sorted(shared))


def on_what(source: MergeSource) -> JsonObject:
    """What the fit stands on, for the manifest: the split and the teachers' parts."""
    return {
        "split": SPLIT,
        "teacher_parts": {
            name: {part: filled.fingerprint for part, filled in member.record.parts.items()}
            for name, member in zip(source.names, source.members, strict=True)
        },
    }


def fit_batches(
    source: MergeSource,
    rule: TargetRule,
    temperatures: tuple[float, ...],
    progress: Progress = SILENT,
    split: str = SPLIT,
) -> Iterator[FitBatch]:
    """The scalars of all teachers at the slots of a split, a chunk at a time.

    Args:
        source: the teachers.
        rule: whose teachers they are.
        temperatures: common to all teachers.
        progress: told how many chunks were read.
        split: ``train``, ``fit`` or ``test``.
    """
    number = SPLIT_NAMES.index(split)
    examples = source.reader.examples
    ranges = chunk_ranges(source.reader, 0, source.reader.n_examples)
    task = progress.task(f"scalars of split {split}", total=len(ranges), unit="chunks")
    for start, stop in ranges:
        chosen = examples.splits(start, stop) == number
        if chosen.any():
            slots, voices = read_voices(source, rule, start, stop, documents=True)
            inside = np.flatnonzero(chosen[slots.at[0]])
            if inside.size:
                yield _batch(slots.only(inside), [one.only(inside) for one in voices], temperatures)
        task.advance()
    task.done()


def _batch(slots: UsedSlots, voices: list[Voice], temperatures: tuple[float, ...]) -> FitBatch:
    return FitBatch(
        evidence=evidence_of(slots, voices, plain_indices(slots, voices, 1.0)),
        logsumexp=_at(voices, temperatures, [one.logsumexp for one in voices]),
        entropy=_at(voices, temperatures, [one.entropy for one in voices]),
        seen=slots.seen,
    )


def _at(
    voices: list[Voice], temperatures: tuple[float, ...], values: list[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """(N, S, T) of (N, T_t) each, at the common temperatures."""
    columns = [[voice.capture.temperatures.index(one) for one in temperatures] for voice in voices]
    return np.stack([own[:, column] for own, column in zip(values, columns, strict=True)], axis=1)
