"""Whether a manifest contradicts itself, told from its records alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ckd_cache.format.manifest import GatherRecord, Manifest, SetRecord, SupportRecord

__all__ = ["inconsistency"]


def inconsistency(manifest: Manifest) -> str | None:
    """What contradicts itself in a manifest, or None."""
    rows = None if manifest.files is None else manifest.files.rows
    shards = sum(_shards(record) for record in manifest.sets.values())
    # So that nothing is counted or allocated for files that cannot be there.
    if rows is not None and shards > rows:
        return f"it speaks of {shards} shards, but its files table has {rows} rows"
    for name, record in manifest.sets.items():
        problem = _set_inconsistency(record, manifest.supports)
        if problem is not None:
            return f"set {name}: {problem}"
        problem = _twin_inconsistency(name, record, manifest)
        if problem is not None:
            return f"set {name}, a twin of {record.twin_of}: {problem}"
    return None


def _shards(record: SetRecord) -> int:
    numbers = [one.segments for one in record.increments] + [one.examples for one in record.parts]
    return sum(-(-number // record.shard_examples) for number in numbers)


def _set_inconsistency(record: SetRecord, supports: dict[str, SupportRecord]) -> str | None:
    if record.support not in supports:
        return f"support {record.support} is not listed"
    if record.shard_examples % record.chunk_examples:
        return f"shards of {record.shard_examples} examples, chunks of {record.chunk_examples}"
    segments = {increment.name: increment.segments for increment in record.increments}
    first = 0
    for part in record.parts:
        if part.first_example != first or part.examples != segments.get(part.increment):
            return f"part {part.name} does not fit the parts before it or its increment"
        first += part.examples
    return _filled_inconsistency(record)


def _twin_inconsistency(name: str, record: SetRecord, manifest: Manifest) -> str | None:
    """What a twin set says otherwise than the set whose examples it has; it may lack the last."""
    if record.twin_of is None:
        return None
    own = manifest.sets.get(record.twin_of)
    if own is None or own.twin_of is not None or not name.startswith(f"{record.twin_of}."):
        return "there is no such set, or its name does not begin with that of its set"
    if (own.chunk_examples, own.shard_examples) != (record.chunk_examples, record.shard_examples):
        return "its chunks or shards have another number of examples than those of its set"
    segments = [(one.name, one.segments) for one in record.increments]
    if segments != [(one.name, one.segments) for one in own.increments][: len(segments)]:
        return "its increments are not those of its set"
    parts = [(one.name, one.examples) for one in record.parts]
    if parts != [(one.name, one.examples) for one in own.parts][: len(parts)]:
        return "its parts are not those of its set"
    return None


def _filled_inconsistency(record: SetRecord) -> str | None:
    parts = {part.name for part in record.parts}
    if len(parts) != len(record.parts):
        return "two parts have the same name"
    for name, teacher in record.teachers.items():
        if not parts.issuperset(teacher.parts) or 1.0 not in teacher.temperatures:
            return f"teacher {name} has unknown parts or no temperature 1"
    for name, target in record.targets.items():
        if not parts.issuperset(target.parts) or not target.teachers:
            return f"target {name} has unknown parts or no teachers"
    for name, gather in record.gathers.items():
        problem = _gather_inconsistency(record, gather)
        if problem is not None:
            return f"gather {name} {problem}"
    return None


def _gather_inconsistency(record: SetRecord, gather: GatherRecord) -> str | None:
    if gather.teacher not in gather.group or not set(gather.group).issubset(record.teachers):
        return "is of teachers that the set does not have"
    if not all(set(gather.parts).issubset(record.teachers[one].parts) for one in gather.group):
        return "has parts that not all of its teachers have"
    if gather.step != record.teachers[gather.teacher].step:
        return "has another step than its teacher"
    others = [record.teachers[one].k for one in gather.group if one != gather.teacher]
    if gather.group != sorted(set(gather.group)) or gather.width > sum(others):
        return "has a group that is not sorted, or is wider than what its teachers keep"
    return None
