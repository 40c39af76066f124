"""Merging what a cache holds: the one function by which targets are made, stored or live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ckd_cache.errors import MergeError
from ckd_cache.format.gathers import gather_for
from ckd_cache.merge.merge import check_present, merge_voices
from ckd_cache.merge.rule import TargetRule
from ckd_cache.merge.slots import UsedSlots, slots_of_range
from ckd_cache.merge.source import MergeSource, chunk_ranges
from ckd_cache.merge.voices import Gathered, Voice, voice_of
from ckd_cache.merge.words import word_logprobs, words_of_range
from ckd_cache.types import TargetArrays, TeacherArrays, array_names

__all__ = ["Coverage", "merge_range", "read_coverage", "read_voices"]


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much a teacher with another tokenizer says at some slots.

    Attributes:
        present: slots at which it has a distribution.
        carried: mass at temperature 1 that is carried over to ids of the set, summed over them.
    """

    present: int
    carried: float


def merge_range(
    source: MergeSource,
    rule: TargetRule,
    start: int,
    stop: int,
    quantise_max_nats: float,
    threads: int = 1,
) -> TargetArrays:
    """Merge teachers at the examples ``start`` to ``stop`` of a set, a chunk at a time.

    The control ``random`` shuffles inside chunks, so it needs whole ones; for all other rules any
    range gives what the whole set would.

    Args:
        source: the teachers, in the order of ``rule.teachers``.
        rule: how to merge; with its fit, if it needs one.
        start: first example.
        stop: example after the last one.
        quantise_max_nats: ``max_nats`` that the target will be stored with; 0 for none.
        threads: chunks that are worked on at the same time; changes no number.

    Raises:
        MergeError: a used slot has no distribution.
        CkdCacheError: the cache cannot be read.
    """
    merge = partial(_merge_chunk, source, rule, quantise_max_nats)
    ranges = chunk_ranges(source.reader, start, stop)
    if threads == 1 or len(ranges) < 2:
        pieces = [merge(one) for one in ranges]
    else:
        with ThreadPoolExecutor(threads) as pool:
            pieces = list(pool.map(merge, ranges))
    if len(pieces) == 1:
        return pieces[0]
    if not pieces:
        return merge((start, start))
    names = array_names(TargetArrays)
    return TargetArrays(**{name: np.concatenate([one[name] for one in pieces]) for name in names})


def read_voices(
    source: MergeSource,
    rule: TargetRule,
    start: int,
    stop: int,
    *,
    documents: bool = False,
    kinds: bool = False,
) -> tuple[UsedSlots, list[Voice]]:
    """The used slots of examples ``start`` to ``stop``, and what each teacher says there.

    Args:
        source: the teachers.
        rule: what they are read for.
        start: first example.
        stop: example after the last one.
        documents: look up the document of each slot, also where the rule does not ask.
        kinds: look up its genre, also where the rule does not ask.

    Raises:
        MergeError: a used slot has no distribution of a teacher that must have one everywhere.
        CkdCacheError: the cache cannot be read.
    """
    slots = slots_of_range(
        source.reader,
        start,
        stop,
        documents=documents or rule.weighting == "segment_loo",
        kinds=kinds or (rule.weighting == "random" and rule.shuffle == "slots"),
    )
    if any(member.twin for member in source.members):
        return _with_twins(source, rule, slots, start, stop)
    read = _read_own(source, slots, start, stop)
    return slots, [
        _own_voice(source, rule, name, slots, read, (start, stop)) for name in source.names
    ]


def read_coverage(source: MergeSource, start: int, stop: int) -> dict[str, Coverage]:
    """What teachers with another tokenizer say at all, by name; empty where there are none.

    Raises:
        CkdCacheError: the cache cannot be read.
    """
    twins = {n: one for n, one in zip(source.names, source.members, strict=True) if one.twin}
    if not twins:
        return {}
    slots = slots_of_range(source.reader, start, stop, documents=False, kinds=False)
    words = words_of_range(source.reader, start, stop)
    found = {}
    for name in twins:
        view = source.twins[name].view(slots, words, start, stop)
        present = view.voice.present
        found[name] = Coverage(int(present.sum()), float(view.carried[present].sum()))
    return found


def _with_twins(
    source: MergeSource, rule: TargetRule, slots: UsedSlots, start: int, stop: int
) -> tuple[UsedSlots, list[Voice]]:
    """As ``read_voices``, where some teachers have another tokenizer: units of text are words."""
    if rule.missing == "exact":
        raise MergeError(_never_gathered(source))
    words = words_of_range(source.reader, start, stop)
    read = _read_own(source, slots, start, stop)
    voices = []
    for name, member in zip(source.names, source.members, strict=True):
        if member.twin:
            voices.append(source.twins[name].view(slots, words, start, stop).voice)
        else:
            voice = _own_voice(source, rule, name, slots, read, (start, stop))
            voices.append(replace(voice, unit_logprob=word_logprobs(voice.gold_logprob, words)))
    return replace(slots, unit=words.unit, units_are_slots=False), voices


def _read_own(
    source: MergeSource, slots: UsedSlots, start: int, stop: int
) -> dict[str, TeacherArrays]:
    """Distributions of the teachers that share the set's tokenizer, by name."""
    mask = slots.mask()
    read: dict[str, TeacherArrays] = {}
    for name, member in zip(source.names, source.members, strict=True):
        if not member.twin:
            read[name] = source.reader.teachers[name].read(start, stop)
            check_present(name, read[name], mask)
    return read


def _own_voice(
    source: MergeSource,
    rule: TargetRule,
    name: str,
    slots: UsedSlots,
    read: Mapping[str, TeacherArrays],
    examples: tuple[int, int],
) -> Voice:
    gathered = None
    if rule.missing == "exact" and len(source.names) > 1:
        gathered = _gathered(source, name, slots, read, examples)
    capture = source.reader.teachers[name].record.capture
    return voice_of(name, read[name], capture, slots.at, gathered)


def _gathered(
    source: MergeSource,
    name: str,
    slots: UsedSlots,
    read: Mapping[str, TeacherArrays],
    examples: tuple[int, int],
) -> Gathered:
    """Logprobs of a teacher at ids that others keep and it does not; gold is known without."""
    gather = gather_for(source.reader, name, source.names)
    if gather is None:
        raise MergeError(_nothing_gathered(source, name))
    arrays = gather.read(*examples, kept=read)
    ids = arrays.ids[slots.at].astype(np.int64)
    known = ids == slots.gold[:, None]
    if set(gather.record.group) != set(source.names):
        known |= ~_kept_by_others(ids, [read[one] for one in source.names], slots)
    return Gathered(
        ids=np.where(known, -1, ids),
        logprobs=np.where(known, -np.inf, arrays.logprobs[slots.at].astype(np.float64)),
        step=gather.step,
    )


def _never_gathered(source: MergeSource) -> str:
    pairs = zip(source.names, source.members, strict=True)
    named = ", ".join(name for name, member in pairs if member.twin)
    return (
        f"{source.cache.path}: {named} has another tokenizer than set {source.reader.name}, so that"
        " logprobs of the ids which the others keep cannot be gathered, as `missing: exact` needs."
        " Set missing to `bucket` or `spread`, or leave this teacher out."
    )


def _kept_by_others(
    ids: NDArray[np.int64], teachers: Sequence[TeacherArrays], slots: UsedSlots
) -> NDArray[np.bool_]:
    """Which gathered ids some of the teachers keep: those that only others keep are not asked for.

    So a target does not depend on how large the groups are that the cache has gathered for.

    Args:
        ids: (N, g), -1 where nothing is.
        teachers: of the target.
        slots: the N used slots.
    """
    row = np.arange(len(slots))[:, None]
    width = 1 + max(int(ids.max(initial=0)), *(int(one.ids.max(initial=0)) for one in teachers))
    asked = []
    for one in teachers:
        kept = np.arange(one.ids.shape[-1]) < one.n_valid[slots.at][:, None]
        asked.append((row * width + one.ids[slots.at])[kept])
    found: NDArray[np.bool_] = np.isin(row * width + ids, np.concatenate(asked)) & (ids >= 0)
    return found


def _nothing_gathered(source: MergeSource, name: str) -> str:
    group = ", ".join(source.names)
    return (
        f"{source.cache.path}: set {source.reader.name} has no gathered logprobs of teacher {name}"
        f" for the group {group}, which `missing: exact` needs. Add `gather: [[{group}]]` to the"
        " recipe and run `ckd-cache build` again (each teacher runs once more), or set missing to"
        " `bucket` or `spread`."
    )


def _merge_chunk(
    source: MergeSource, rule: TargetRule, max_nats: float, examples: tuple[int, int]
) -> TargetArrays:
    slots, voices = read_voices(source, rule, *examples)
    return merge_voices(slots, voices, rule, source.support_size, max_nats)
