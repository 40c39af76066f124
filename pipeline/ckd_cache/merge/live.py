"""Live targets: made when they are read, by a rule that the manifest records.

A live target is what ``merge_range`` gives before quantising: the numbers that a target stored by
the same rule holds where ``max_nats`` is 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ckd_cache.errors import IncompleteCacheError, MergeError
from ckd_cache.format.gathers import gather_for
from ckd_cache.format.manifest import FilledPart, TargetRecord
from ckd_cache.format.reader import CacheReader, SetReader
from ckd_cache.merge.lineup import Member, lineup_of
from ckd_cache.merge.reading import merge_range
from ckd_cache.merge.recorded import recorded_rule
from ckd_cache.merge.rule import TargetRule, check_captures, needs_fit
from ckd_cache.merge.source import MergeSource, merge_source
from ckd_cache.types import JsonObject, TargetArrays

__all__ = ["LiveTarget", "check_live", "live_identity", "live_target"]


@dataclass(frozen=True)
class LiveTarget:
    """A target that is made when it is read.

    Attributes:
        source: its teachers.
        rule: with what it learned, if it learns.
    """

    source: MergeSource
    rule: TargetRule

    def read(self, start: int, stop: int) -> TargetArrays:
        """The target of the examples ``start`` to ``stop``, not rounded, made in one thread.

        The control ``random`` shuffles inside chunks, so it needs whole ones.

        Raises:
            MergeError: a used slot has no distribution, or what the rule needs was not gathered.
            CkdCacheError: the cache cannot be read.
        """
        return merge_range(self.source, self.rule, start, stop, quantise_max_nats=0.0)


def live_target(cache: CacheReader, set_name: str, target: str) -> LiveTarget:
    """The target that a recorded rule makes; ``check_live`` says whether it does so everywhere.

    Args:
        cache: an open cache.
        set_name: the set.
        target: name of a target that the set has, stored or not.

    Raises:
        MergeError: a teacher is not there, or the rule does not fit what was captured or learned.
        DamagedCacheError: what it learned cannot be understood.
    """
    rule = recorded_rule(cache.set(set_name).record.targets[target])
    if needs_fit(rule) and rule.fit is None:
        raise MergeError(_not_learned(cache, set_name, target))
    source = merge_source(cache, set_name, rule.teachers)
    check_captures(rule, source.captures)
    return LiveTarget(source, rule)


def check_live(cache: CacheReader, set_name: str, target: str) -> None:
    """Check that a recorded rule can make its target at every example of a set.

    Args:
        cache: an open cache.
        set_name: the set.
        target: name of a target that the set has, stored or not.

    Raises:
        IncompleteCacheError: teachers were dropped or lack parts; lists them all.
        MergeError: a teacher is another one than that which the rule learned from, or the rule
            does not fit what was captured, learned or gathered.
        DamagedCacheError: what it learned cannot be understood.
    """
    reader = cache.set(set_name)
    record = reader.record.targets[target]
    members = lineup_of(cache.manifest, set_name)
    lacking = list(_lacking(reader, record, members))
    if lacking:
        raise IncompleteCacheError(_incomplete(cache, reader, target, lacking))
    others = [name for name in record.teachers if _is_another(record, name, members[name])]
    if others:
        raise MergeError(_learned_of_others(cache, set_name, target, others))
    # Merging nothing opens all that merging needs.
    live_target(cache, set_name, target).read(0, 0)


def live_identity(cache: CacheReader, set_name: str, target: str) -> JsonObject:
    """What the numbers of a live target depend on: the rule, and what it merges.

    Args:
        cache: an open cache.
        set_name: the set.
        target: name of a target that ``check_live`` allows.

    Returns:
        ``rule``, its identity with what it learned; ``teachers`` and, where the rule needs them,
        ``gathers``: fingerprints by name and part.
    """
    reader = cache.set(set_name)
    record = reader.record.targets[target]
    members = lineup_of(cache.manifest, set_name)
    identity: JsonObject = {
        "rule": record.identity,
        "teachers": {name: _fingerprints(members[name].record.parts) for name in record.teachers},
    }
    if record.missing == "exact":
        found = [gather_for(reader, name, record.teachers) for name in record.teachers]
        identity["gathers"] = {
            one.name: _fingerprints(one.record.parts) for one in found if one is not None
        }
    return identity


def _fingerprints(parts: Mapping[str, FilledPart]) -> dict[str, str]:
    return {part: filled.fingerprint for part, filled in parts.items()}


def _lacking(
    reader: SetReader, record: TargetRecord, members: Mapping[str, Member]
) -> Iterator[str]:
    """What is not there of the teachers of a target, a clause each."""
    for name in record.teachers:
        if name not in members:
            yield f"teacher {name} is not in the cache"
            continue
        filled = members[name].record.parts
        missing = [part.name for part in reader.record.parts if part.name not in filled]
        if missing:
            yield f"teacher {name} lacks {', '.join(missing)}"


def _is_another(record: TargetRecord, name: str, member: Member) -> bool:
    """Whether a rule learned from another teacher of this name, which was dropped since."""
    learned_on = {} if record.fit is None else record.fit.get("on", {})
    before = learned_on.get("teacher_parts", {}).get(name, {})
    now = _fingerprints(member.record.parts)
    return any(now.get(part, found) != found for part, found in before.items())


def _incomplete(cache: CacheReader, reader: SetReader, target: str, lacking: list[str]) -> str:
    record = reader.record.targets[target]
    parts = {part.name for part in reader.record.parts}
    stored = record.stored and parts.issubset(record.parts)
    way = f"; or use what is stored of it: --target {target}" if stored else ""
    return (
        f"{cache.path}: live:{target} merges {', '.join(record.teachers)} of the set "
        f"{reader.name!r} at load time and needs every part of them, but {'; '.join(lacking)}. "
        f"Build them with `ckd-cache build RECIPE --cache {cache.path}` and a recipe that names "
        f"them{way}."
    )


def _learned_of_others(cache: CacheReader, set_name: str, target: str, others: list[str]) -> str:
    return (
        f"{cache.path}: target {target!r} of the set {set_name!r} learned from another teacher "
        f"{' and '.join(others)} than the one that is there now. Drop the target with `ckd-cache "
        f"drop {cache.path} --target {target}`, and merge it again."
    )


def _not_learned(cache: CacheReader, set_name: str, target: str) -> str:
    record = cache.set(set_name).record.targets[target]
    return (
        f"{cache.path}: the rule of target {target!r} of the set {set_name!r} (weighting "
        f"{record.weighting}, calibrate {record.calibrate}) learns on the split `fit`, but the "
        "manifest has nothing that it learned: it was written by another program. Drop the target "
        f"with `ckd-cache drop {cache.path} --target {target}`, and merge it again."
    )
