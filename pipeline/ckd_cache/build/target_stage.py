"""The stage that merges teachers into a target. No model is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ckd_cache.build.groups import Group, ShardResult, group_shards, stored_order
from ckd_cache.build.identity import refuse_change, target_part_identity
from ckd_cache.build.profile import library_versions, threads
from ckd_cache.build.session import Session
from ckd_cache.build.stage import Stage
from ckd_cache.build.target_request import (
    TargetRequest,
    request_of,
    rule_identity,
    rule_of,
)
from ckd_cache.errors import IncompleteCacheError, MergeError
from ckd_cache.fingerprint import fingerprint
from ckd_cache.format.encode import decode_target, encode_target
from ckd_cache.format.journal import Journal
from ckd_cache.format.manifest import FilledPart, PartRecord, SetRecord, TargetRecord
from ckd_cache.format.paths import target_part
from ckd_cache.format.reader import open_cache
from ckd_cache.format.spec import Capture, capture_of, target_specs
from ckd_cache.format.stats import add_stats, quantising_nats, target_stats
from ckd_cache.format.workspace import ShardFiles
from ckd_cache.merge.fit import fit_to_json
from ckd_cache.merge.learning import learn_from_cache
from ckd_cache.merge.lineup import Member, lineup_of
from ckd_cache.merge.reading import merge_range, read_coverage
from ckd_cache.merge.recorded import recorded_rule, rule_settings
from ckd_cache.merge.rule import TargetRule, check_captures, needs_fit
from ckd_cache.merge.source import MergeSource, chunk_ranges, merge_source
from ckd_cache.types import Array, JsonObject, TargetArrays

__all__ = ["check_target", "fill_target", "target_part_stage"]


@dataclass(frozen=True, slots=True)
class _Merge:
    """A request made precise for one set.

    Attributes:
        name: of the target.
        rule: with its fit, if it needs one.
        members: where each of its teachers lies.
        capture: what is kept of each mixture.
        fit: what was learned, as it stands in the manifest.
        stored: False if the rule is only recorded.
    """

    name: str
    rule: TargetRule
    members: tuple[Member, ...]
    capture: Capture
    fit: JsonObject | None
    stored: bool

    @property
    def identity(self) -> JsonObject:
        return rule_identity(self.rule, self.capture.k, self.capture.max_nats, self.fit)


def check_target(
    set_name: str, record: SetRecord, support_size: int, request: TargetRequest
) -> None:
    """Check that a target of this name, if the set has one, was made by the same rule.

    Raises:
        MismatchError: it was made by another; names the fields.
        MergeError: the fields of the request do not go together.
    """
    stored = record.targets.get(request.name)
    if stored is None:
        return
    teachers = tuple(request.teachers or stored.teachers)
    k = min(request.top_k or stored.k, support_size)
    rule = rule_of(request, teachers, k)
    wanted = {**rule_identity(rule, k, stored.max_nats, None), "stored": request.stored}
    found = {**stored.identity, "stored": stored.stored}
    found.pop("fit", None)
    refuse_change(f"target {request.name} of set {set_name}", found, wanted)


def fill_target(session: Session, set_name: str, request: TargetRequest) -> None:
    """Make a target for every part that lacks it, in one commit; or record its rule.

    Raises:
        MergeError: the rule does not fit what was captured, or names an unknown teacher; or it
            learns on the split ``fit``, which is empty.
        IncompleteCacheError: a teacher does not have every part yet.
        MismatchError: a target of this name was made by another rule.
    """
    record = session.record(set_name)
    size = session.manifest.supports[record.support].size
    check_target(set_name, record, size, request)
    stored = record.targets.get(request.name)
    if stored is not None and _is_whole(record, stored):
        return
    merge = _learned(session, set_name, _resolve(session, set_name, request), stored)
    # What stands in the way is found before a part is begun, so that nothing is left behind.
    merge_range(_source(session, set_name, merge), merge.rule, 0, 0, 0.0)
    target = stored or _new_record(merge)
    journals = {
        part.name: session.fill(_part_stage(session, set_name, merge, part))
        for part in record.parts
        if merge.stored and part.name not in target.parts
    }
    parts = {name: _filled(merge, name, journal) for name, journal in journals.items()}
    target = target.model_copy(update={"parts": {**target.parts, **parts}})
    update = {"targets": {**record.targets, merge.name: target}}
    session.commit_set(set_name, record.model_copy(update=update), list(journals.values()))


def _is_whole(record: SetRecord, target: TargetRecord) -> bool:
    """Whether nothing is due of a target: its teachers need not be there then."""
    return not target.stored or all(part.name in target.parts for part in record.parts)


def _recipe_order(session: Session, set_name: str) -> tuple[str, ...]:
    """All teachers of a set, those of the recipe first, in its order."""
    members = lineup_of(session.manifest, set_name)
    named = [teacher["name"] for teacher in session.recipe.get("teachers", [])]
    return tuple(dict.fromkeys([n for n in named if n in members] + sorted(members)))


def _resolve(session: Session, set_name: str, request: TargetRequest) -> _Merge:
    """The request made precise; what was learned is that of the target in the cache, if any."""
    record = session.record(set_name)
    stored = record.targets.get(request.name)
    members = lineup_of(session.manifest, set_name)
    everyone = tuple(stored.teachers) if stored else _recipe_order(session, set_name)
    names = request.teachers or everyone
    unknown = [name for name in names if name not in members]
    if unknown or not names:
        raise MergeError(_no_teacher(set_name, list(members), request.name, unknown))
    for name in names:
        _check_whole(set_name, record, name, members[name])
    captures = tuple(members[name].record.capture for name in names)
    fit = None if stored is None else stored.fit
    learned = None if stored is None else recorded_rule(stored).fit
    rule = rule_of(request, names, request.top_k or captures[0].k, learned)
    check_captures(rule, captures)
    k = rule.effective_k(session.manifest.supports[record.support].size)
    capture = capture_of(k, (rule.temperature,), max(c.max_nats for c in captures))
    return _Merge(
        request.name, rule, tuple(members[name] for name in names), capture, fit, request.stored
    )


def _learned(session: Session, set_name: str, merge: _Merge, stored: TargetRecord | None) -> _Merge:
    """The merge with what its rule learns on the split ``fit``, once and for all parts."""
    if stored is not None or not needs_fit(merge.rule):
        return merge
    source = _source(session, set_name, merge)
    fit = learn_from_cache(source, merge.rule, session.progress)
    return replace(merge, rule=replace(merge.rule, fit=fit), fit=fit_to_json(fit))


def _source(session: Session, set_name: str, merge: _Merge) -> MergeSource:
    return merge_source(open_cache(session.writer.path), set_name, merge.rule.teachers)


def _no_teacher(set_name: str, known: Sequence[str], target: str, unknown: Sequence[str]) -> str:
    if not known:
        return (
            f"target {target}: set {set_name} has no teacher at all, so there is nothing to mix. "
            "Capture teachers first: run `ckd-cache build` with a recipe that names them."
        )
    return (
        f"target {target}: set {set_name} has no teacher {', '.join(unknown)}; it has "
        f"{', '.join(known)}. Name some of these, or build the teacher first."
    )


def _check_whole(set_name: str, record: SetRecord, teacher: str, member: Member) -> None:
    missing = [part.name for part in record.parts if part.name not in member.record.parts]
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
    request = request_of(name, session.record(set_name).targets[name])
    return _part_stage(session, set_name, _resolve(session, set_name, request), part)


def _part_stage(session: Session, set_name: str, merge: _Merge, part: PartRecord) -> Stage:
    return Stage(
        key=target_part(set_name, merge.name, part.name),
        identity=_part_identity(merge, part.name),
        profile=library_versions(("numpy", "zarr")),
        shards=partial(_merge_shards, session, set_name, merge, part),
    )


def _part_identity(merge: _Merge, part: str) -> JsonObject:
    fingerprints = [member.record.parts[part].fingerprint for member in merge.members]
    return target_part_identity(fingerprints, merge.identity)


def _filled(merge: _Merge, part: str, journal: Journal) -> FilledPart:
    return FilledPart(
        fingerprint=fingerprint(_part_identity(merge, part)),
        stats=add_stats([line.stats for line in journal.lines]),
        profile=journal.profile,
    )


def _new_record(merge: _Merge) -> TargetRecord:
    rule = merge.rule
    return TargetRecord(
        weighting=rule.weighting,
        tau=rule.tau,
        temperature=rule.temperature,
        k=merge.capture.k,
        step=merge.capture.step,
        max_nats=merge.capture.max_nats,
        teachers=list(rule.teachers),
        missing=rule.missing,
        mixture=rule.mixture,
        calibrate=rule.calibrate,
        settings=rule_settings(rule),
        fit=merge.fit,
        stored=merge.stored,
        identity=merge.identity,
        parts={},
    )


def _merge_shards(
    session: Session, set_name: str, merge: _Merge, part: PartRecord, journal: Journal
) -> Iterator[ShardFiles]:
    source = _source(session, set_name, merge)
    layout = source.reader.layout
    group = Group(
        key=target_part(set_name, merge.name, part.name),
        specs=target_specs(merge.capture, layout.support_size, len(merge.rule.teachers)),
        layout=layout,
        part=part,
    )
    task = session.progress.task(
        f"target {merge.name} {part.name}",
        total=part.slots,
        unit="slots",
        already=sum(line.stats.get("slots", 0) for line in journal.lines),
    )
    run = _Run(source, merge, threads(session.threads))
    shards = group_shards(
        group,
        journal,
        run.merged,
        run.encoded,
        partial(stored_order, session.writer.path, journal, layout.support_size),
    )
    for files in shards:
        yield files
        task.advance(files.stats.get("slots", 0))
    task.done()


@dataclass(slots=True)
class _Run:
    """What the shards of one part share; a shard is encoded before the next one is merged."""

    source: MergeSource
    merge: _Merge
    threads: int
    coverage: JsonObject | None = None

    def merged(self, shard: int, start: int, stop: int) -> TargetArrays:
        del shard
        self.coverage = _coverage(self.source, start, stop)
        max_nats = self.merge.capture.max_nats
        return merge_range(self.source, self.merge.rule, start, stop, max_nats, self.threads)

    def encoded(self, merged: TargetArrays, order: Array) -> ShardResult:
        kept = self.merge.capture
        stored = encode_target(merged, kept, order)
        decoded = decode_target(stored, kept, order)
        cost = quantising_nats(merged.logprobs, merged.tail, decoded.logprobs, decoded.tail)
        figures = target_stats(decoded, self.merge.rule.teachers, self.coverage)
        return ShardResult(stored, {**figures, "quantising_nats_sum": cost})


def _coverage(source: MergeSource, start: int, stop: int) -> JsonObject | None:
    """What teachers with another tokenizer say of a shard; None where there are none."""
    if not source.twins:
        return None
    present, carried = dict.fromkeys(source.twins, 0), dict.fromkeys(source.twins, 0.0)
    for first, last in chunk_ranges(source.reader, start, stop):
        for name, one in read_coverage(source, first, last).items():
            present[name] += one.present
            carried[name] += one.carried
    return {"present": present, "carried": carried}
