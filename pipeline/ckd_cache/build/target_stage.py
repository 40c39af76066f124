"""The stage that merges teachers into a target. No model is loaded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from ckd_cache.build.groups import Group, ShardResult, group_shards, stored_order
from ckd_cache.build.identity import refuse_change, target_part_identity
from ckd_cache.build.profile import library_versions
from ckd_cache.build.recipe import NAME_PATTERN
from ckd_cache.build.session import Session
from ckd_cache.build.stage import Stage
from ckd_cache.errors import IncompleteCacheError, MergeError, RecipeError
from ckd_cache.fingerprint import fingerprint
from ckd_cache.format.encode import decode_target, encode_target
from ckd_cache.format.journal import Journal
from ckd_cache.format.manifest import FilledPart, PartRecord, SetRecord, TargetRecord
from ckd_cache.format.paths import target_part
from ckd_cache.format.reader import SetReader
from ckd_cache.format.spec import Capture, capture_of, target_specs
from ckd_cache.format.stats import add_stats, quantising_nats, target_stats
from ckd_cache.format.workspace import ShardFiles
from ckd_cache.merge.merge import merge_arrays
from ckd_cache.merge.rule import TargetRule, check_captures
from ckd_cache.types import Array, JsonObject, TargetArrays

__all__ = ["TargetRequest", "check_target", "fill_target", "request_of", "target_part_stage"]

_NAME = re.compile(NAME_PATTERN)


@dataclass(frozen=True, slots=True)
class TargetRequest:
    """A target as a person asks for it.

    Attributes:
        name: of the target.
        weighting: rule of the prediction weights.
        tau: softness of the rule.
        temperature: of the target.
        top_k: entries kept a slot; None for as many as the first teacher's.
        teachers: names, in order; None for those the target has if it is there, else for all that
            the set has.

    Raises:
        RecipeError: the name cannot be a folder's.
    """

    name: str
    weighting: str
    tau: float = 1.0
    temperature: float = 1.0
    top_k: int | None = None
    teachers: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Check the name, which becomes a folder."""
        if not _NAME.fullmatch(self.name):
            message = (
                f"a target cannot be called {self.name!r}; expected up to 64 letters, digits, "
                "`_` and `-`, beginning with a letter or digit. Give it another name."
            )
            raise RecipeError(message)


@dataclass(frozen=True, slots=True)
class _Merge:
    """A request made precise for one set."""

    name: str
    rule: TargetRule
    captures: tuple[Capture, ...]
    capture: Capture

    @property
    def identity(self) -> JsonObject:
        return {
            "teachers": list(self.rule.teachers),
            "weighting": self.rule.weighting,
            "tau": self.rule.tau,
            "temperature": self.rule.temperature,
            "top_k": self.capture.k,
            "missing": self.rule.missing,
            "max_nats": self.capture.max_nats,
        }


def request_of(name: str, record: TargetRecord) -> TargetRequest:
    """The request that a target in a cache was made by."""
    return TargetRequest(
        name=name,
        weighting=record.weighting,
        tau=1.0 if record.tau is None else record.tau,
        temperature=record.temperature,
        top_k=record.k,
        teachers=tuple(record.teachers),
    )


def check_target(
    set_name: str, record: SetRecord, support_size: int, request: TargetRequest
) -> None:
    """Check that a target of this name, if the set has one, was made by the same rule.

    Raises:
        MismatchError: it was made by another; names the fields.
    """
    stored = record.targets.get(request.name)
    if stored is None:
        return
    wanted = {
        "weighting": request.weighting,
        "tau": request.tau,
        "temperature": request.temperature,
        "teachers": list(request.teachers or stored.teachers),
        "top_k": min(request.top_k or stored.k, support_size),
    }
    found = {name: stored.identity[name] for name in wanted}
    refuse_change(f"target {request.name} of set {set_name}", found, wanted)


def fill_target(session: Session, set_name: str, request: TargetRequest) -> None:
    """Make a target for every part that lacks it, in one commit.

    Raises:
        MergeError: the rule does not fit what was captured, or names an unknown teacher.
        IncompleteCacheError: a teacher does not have every part yet.
        MismatchError: a target of this name was made by another rule.
    """
    record = session.record(set_name)
    size = session.manifest.supports[record.support].size
    merge = _resolve(set_name, record, size, request, _recipe_order(session, record))
    stored = record.targets.get(merge.name)
    if stored is not None:
        refuse_change(f"target {merge.name} of set {set_name}", stored.identity, merge.identity)
    target = stored or _new_record(merge)
    journals = {
        part.name: session.fill(_part_stage(session, set_name, merge, part))
        for part in record.parts
        if part.name not in target.parts
    }
    if not journals:
        return
    parts = {name: _filled(record, merge, name, journal) for name, journal in journals.items()}
    target = target.model_copy(update={"parts": {**target.parts, **parts}})
    update = {"targets": {**record.targets, merge.name: target}}
    session.commit_set(set_name, record.model_copy(update=update), list(journals.values()))


def _recipe_order(session: Session, record: SetRecord) -> tuple[str, ...]:
    """All teachers of a set, those of the recipe first, in its order."""
    named = [teacher["name"] for teacher in session.recipe["teachers"]]
    return tuple(
        dict.fromkeys([n for n in named if n in record.teachers] + sorted(record.teachers))
    )


def _resolve(
    set_name: str,
    record: SetRecord,
    support_size: int,
    request: TargetRequest,
    everyone: tuple[str, ...],
) -> _Merge:
    stored = record.targets.get(request.name)
    names = request.teachers or (tuple(stored.teachers) if stored else everyone)
    unknown = [name for name in names if name not in record.teachers]
    if unknown or not names:
        raise MergeError(_no_teacher(set_name, record, request.name, unknown))
    for name in names:
        _check_whole(set_name, record, name)
    captures = tuple(record.teachers[name].capture for name in names)
    rule = TargetRule(
        weighting=request.weighting,
        tau=request.tau,
        temperature=request.temperature,
        top_k=request.top_k or captures[0].k,
        teachers=names,
    )
    check_captures(rule, captures)
    k = rule.effective_k(support_size)
    capture = capture_of(k, (rule.temperature,), max(c.max_nats for c in captures))
    return _Merge(request.name, rule, captures, capture)


def _no_teacher(set_name: str, record: SetRecord, target: str, unknown: Sequence[str]) -> str:
    if not record.teachers:
        return (
            f"target {target}: set {set_name} has no teacher at all, so there is nothing to mix. "
            "Capture teachers first: run `ckd-cache build` with a recipe that names them."
        )
    return (
        f"target {target}: set {set_name} has no teacher {', '.join(unknown)}; it has "
        f"{', '.join(record.teachers)}. Name some of these, or build the teacher first."
    )


def _check_whole(set_name: str, record: SetRecord, teacher: str) -> None:
    missing = [
        part.name for part in record.parts if part.name not in record.teachers[teacher].parts
    ]
    if missing:
        message = (
            f"teacher {teacher} of set {set_name} lacks {', '.join(missing)}; a target needs every "
            "part of its teachers. Run the build again with a recipe that names the teacher."
        )
        raise IncompleteCacheError(message)


def target_part_stage(session: Session, set_name: str, name: str, part: PartRecord) -> Stage:
    """What fills one part of a target that is in the cache.

    Raises:
        IncompleteCacheError: one of its teachers does not have every part.
        MergeError: one of its teachers is not there any more.
    """
    record = session.record(set_name)
    size = session.manifest.supports[record.support].size
    request = request_of(name, record.targets[name])
    return _part_stage(session, set_name, _resolve(set_name, record, size, request, ()), part)


def _part_stage(session: Session, set_name: str, merge: _Merge, part: PartRecord) -> Stage:
    record = session.record(set_name)
    return Stage(
        key=target_part(set_name, merge.name, part.name),
        identity=_part_identity(record, merge, part.name),
        profile=library_versions(("numpy", "zarr")),
        shards=partial(_merge_shards, session, set_name, merge, part),
    )


def _part_identity(record: SetRecord, merge: _Merge, part: str) -> JsonObject:
    fingerprints = [record.teachers[t].parts[part].fingerprint for t in merge.rule.teachers]
    return target_part_identity(fingerprints, merge.identity)


def _filled(record: SetRecord, merge: _Merge, part: str, journal: Journal) -> FilledPart:
    return FilledPart(
        fingerprint=fingerprint(_part_identity(record, merge, part)),
        stats=add_stats([line.stats for line in journal.lines]),
        profile=journal.profile,
    )


def _new_record(merge: _Merge) -> TargetRecord:
    return TargetRecord(
        weighting=merge.rule.weighting,
        tau=merge.rule.tau,
        temperature=merge.rule.temperature,
        k=merge.capture.k,
        step=merge.capture.step,
        max_nats=merge.capture.max_nats,
        teachers=list(merge.rule.teachers),
        missing=merge.rule.missing,
        identity=merge.identity,
        parts={},
    )


def _merge_shards(
    session: Session, set_name: str, merge: _Merge, part: PartRecord, journal: Journal
) -> Iterator[ShardFiles]:
    reader = session.reader(set_name)
    group = Group(
        key=target_part(set_name, merge.name, part.name),
        specs=target_specs(merge.capture, reader.layout.support_size, len(merge.rule.teachers)),
        layout=reader.layout,
        part=part,
    )
    task = session.progress.task(
        f"target {merge.name} {part.name}",
        total=part.slots,
        unit="slots",
        already=sum(line.stats.get("slots", 0) for line in journal.lines),
    )
    shards = group_shards(
        group,
        journal,
        partial(_merge_shard, reader, merge),
        partial(_encode, merge),
        partial(stored_order, session.writer.path, journal, reader.layout.support_size),
    )
    for files in shards:
        yield files
        task.advance(files.stats.get("slots", 0))
    task.done()


def _merge_shard(
    reader: SetReader, merge: _Merge, shard: int, start: int, stop: int
) -> TargetArrays:
    del shard
    examples = reader.examples.read(start, stop)
    return merge_arrays(
        [reader.teachers[name].read(start, stop) for name in merge.rule.teachers],
        merge.captures,
        examples.gold_ids,
        examples.slot_mask,
        merge.rule,
        reader.layout.support_size,
        merge.capture.max_nats,
    )


def _encode(merge: _Merge, merged: TargetArrays, order: Array) -> ShardResult:
    stored = encode_target(merged, merge.capture, order)
    decoded = decode_target(stored, merge.capture, order)
    cost = quantising_nats(merged.logprobs, merged.tail, decoded.logprobs, decoded.tail)
    figures = target_stats(decoded, merge.rule.teachers)
    return ShardResult(stored, {**figures, "quantising_nats_sum": cost})
