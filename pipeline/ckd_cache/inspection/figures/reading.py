"""Reading what the figures of a target are made of, a chunk at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ckd_cache.errors import IncompleteCacheError
from ckd_cache.format.manifest import TargetRecord
from ckd_cache.format.reader import CacheReader, SetReader
from ckd_cache.inspection.figures.chunk import ChunkSlots
from ckd_cache.inspection.figures.merit import why_no_merit
from ckd_cache.merge.lineup import lineup_of
from ckd_cache.merge.live import check_live
from ckd_cache.merge.reading import merge_range, read_coverage, read_voices
from ckd_cache.merge.recorded import recorded_rule
from ckd_cache.merge.rule import TargetRule
from ckd_cache.merge.slots import UsedSlots, slots_of_range
from ckd_cache.merge.source import MergeSource, merge_source
from ckd_cache.merge.voices import Voice
from ckd_cache.types import JsonObject, TargetArrays

__all__ = ["TargetSource", "read_chunks", "target_source"]


@dataclass(frozen=True)
class TargetSource:
    """A target and the teachers that are there.

    Attributes:
        reader: of the set.
        name: of the target.
        record: of the target.
        parts: names of the parts that the target covers.
        voices: its teachers that are in the cache for all of these parts; None if none is.
        rule: by which a target that is not stored is made; None for stored ones.
        all: all its teachers, where it is not stored.
        no_merit: why the likelihood of gold under it is no merit of it; None where it is one.
    """

    reader: SetReader
    name: str
    record: TargetRecord
    parts: frozenset[str]
    voices: MergeSource | None
    rule: TargetRule | None
    all: MergeSource | None
    no_merit: str | None

    @property
    def gone(self) -> list[str]:
        """Teachers of the target that are not in the cache any more."""
        there = () if self.voices is None else self.voices.names
        return [name for name in self.record.teachers if name not in there]


def target_source(cache: CacheReader, set_name: str, target: str) -> TargetSource:
    """Find a target.

    Raises:
        IncompleteCacheError: there is no such set or target, or it covers no part yet; or it is
            not stored, and teachers of it were dropped or lack parts.
        MergeError: it is not stored, and a teacher is another one than that which its rule learned
            from, or the rule does not fit what was captured, learned or gathered.
        DamagedCacheError: what it learned cannot be understood.
    """
    reader = cache.set(set_name)
    record = _record(cache, reader, target)
    members = lineup_of(cache.manifest, set_name)
    every = frozenset(part.name for part in reader.record.parts)
    parts = frozenset(record.parts) if record.stored else every
    if not parts:
        message = (
            f"{cache.path}: target {target!r} of set {set_name!r} covers no part yet. "
            "Run the command that makes it again to go on."
        )
        raise IncompleteCacheError(message)
    if not record.stored:
        check_live(cache, set_name, target)
    there = [
        name
        for name in record.teachers
        if name in members and parts.issubset(members[name].record.parts)
    ]
    return TargetSource(
        reader=reader,
        name=target,
        record=record,
        parts=parts,
        voices=merge_source(cache, set_name, there) if there else None,
        rule=None if record.stored else recorded_rule(record),
        all=None if record.stored else merge_source(cache, set_name, record.teachers),
        no_merit=why_no_merit(cache.manifest, set_name, record),
    )


def read_chunks(source: TargetSource, ranges: tuple[tuple[int, int], ...]) -> Iterator[ChunkSlots]:
    """Read chunks one after the other.

    Args:
        source: what to read.
        ranges: first example and example after the last one of each chunk.

    Raises:
        CkdCacheError: the cache cannot be read.
    """
    for start, stop in ranges:
        slots, voices = _teachers(source, start, stop)
        split = source.reader.examples.splits(start, stop)[slots.at[0]]
        target, coverage = _target(source, start, stop)
        yield ChunkSlots(slots, split, voices, target, coverage)


def _record(cache: CacheReader, reader: SetReader, target: str) -> TargetRecord:
    targets = reader.record.targets
    if target in targets:
        return targets[target]
    known = ", ".join(map(repr, targets)) or "none"
    message = (
        f"No target {target!r} in set {reader.name!r} of {cache.path}; there is {known}. "
        "`ckd-cache merge` adds targets."
    )
    raise IncompleteCacheError(message)


def _teachers(source: TargetSource, start: int, stop: int) -> tuple[UsedSlots, list[Voice]]:
    if source.voices is None:
        return slots_of_range(source.reader, start, stop, documents=False, kinds=True), []
    plain = TargetRule("uniform", 1.0, 1.0, 1, source.voices.names)
    return read_voices(source.voices, plain, start, stop, kinds=True)


def _target(source: TargetSource, start: int, stop: int) -> tuple[TargetArrays, JsonObject | None]:
    """The target, and where it is not stored the coverage that parts would have in their stats."""
    if source.rule is None or source.all is None:
        return source.reader.targets[source.name].read(start, stop), None
    merged = merge_range(source.all, source.rule, start, stop, source.record.max_nats)
    found = read_coverage(source.all, start, stop)
    if not found:
        return merged, None
    return merged, {
        "present": {name: one.present for name, one in found.items()},
        "carried": {name: one.carried for name, one in found.items()},
    }
