"""Merging what a cache holds: the one function by which targets are made, stored or live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from ckd_cache.errors import MergeError
from ckd_cache.format.gathers import gather_for
from ckd_cache.format.reader import CacheReader, SetReader
from ckd_cache.format.spec import Capture
from ckd_cache.merge.lineup import Member, lineup_of
from ckd_cache.merge.merge import check_present, merge_voices
from ckd_cache.merge.rule import TargetRule
from ckd_cache.merge.slots import UsedSlots, slots_of_range
from ckd_cache.merge.voices import Gathered, Voice, voice_of
from ckd_cache.types import TargetArrays, TeacherArrays, array_names, iter_ranges

__all__ = ["MergeSource", "chunk_ranges", "merge_range", "merge_source", "read_voices"]


@dataclass(frozen=True)
class MergeSource:
    """The teachers of a set, ready to be read side by side.

    Attributes:
        cache: the open cache.
        reader: of the set.
        names: of the S teachers, in the order of the weights.
        members: where each of them lies.
    """

    cache: CacheReader
    reader: SetReader
    names: tuple[str, ...]
    members: tuple[Member, ...]

    @property
    def captures(self) -> tuple[Capture, ...]:
        """What was kept of each teacher."""
        return tuple(one.record.capture for one in self.members)

    @property
    def support_size(self) -> int:
        """Size of the set's support."""
        return self.reader.layout.support_size


def merge_source(cache: CacheReader, set_name: str, teachers: Sequence[str]) -> MergeSource:
    """The teachers of these names.

    Raises:
        IncompleteCacheError: there is no such set.
        MergeError: it has no such teacher.
    """
    reader = cache.set(set_name)
    members = lineup_of(cache.manifest, set_name)
    unknown = [name for name in teachers if name not in members]
    if unknown:
        message = (
            f"{cache.path}: set {set_name} has no teacher {', '.join(unknown)}; it has "
            f"{', '.join(members) or 'none'}. Name some of these, or build the teacher first."
        )
        raise MergeError(message)
    return MergeSource(cache, reader, tuple(teachers), tuple(members[name] for name in teachers))


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


def chunk_ranges(reader: SetReader, start: int, stop: int) -> list[tuple[int, int]]:
    """The examples ``start`` to ``stop``, cut where chunks and shards end."""
    ranges = []
    for shard in reader.shards():
        for first, last in iter_ranges(shard.stop - shard.start, reader.layout.chunk_examples):
            low, high = max(start, shard.start + first), min(stop, shard.start + last)
            if low < high:
                ranges.append((low, high))
    return ranges


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
    mask = slots.mask()
    read: dict[str, TeacherArrays] = {}
    for name in source.names:
        read[name] = source.reader.teachers[name].read(start, stop)
        check_present(name, read[name], mask)
    voices = []
    for name, member in zip(source.names, source.members, strict=True):
        gathered = None
        if rule.missing == "exact" and len(source.names) > 1:
            gathered = _gathered(source, name, slots, read, (start, stop))
        voices.append(voice_of(name, read[name], member.record.capture, slots.at, gathered))
    return slots, voices


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
    return Gathered(
        ids=np.where(known, -1, ids),
        logprobs=np.where(known, -np.inf, arrays.logprobs[slots.at].astype(np.float64)),
        step=gather.step,
    )


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
