"""The stage that runs one teacher again and keeps its logprobs at ids that others keep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from ckd_cache.build.gather_requests import GatherRequest
from ckd_cache.build.session import Session
from ckd_cache.build.stage import Stage
from ckd_cache.build.teacher_stage import (
    PlannedTeacher,
    Resident,
    compute_threads,
    profile_of,
    slot_counter,
)
from ckd_cache.fingerprint import fingerprint
from ckd_cache.format.gathers import decode_gather, encode_gather, gather_width, implied_ids
from ckd_cache.format.identities import gather_identity, gather_part_identity
from ckd_cache.format.journal import Journal
from ckd_cache.format.manifest import FilledPart, GatherRecord, PartRecord
from ckd_cache.format.paths import gather_part
from ckd_cache.format.reader import SetReader
from ckd_cache.format.spec import WHOLE_PART, gather_specs, shard_count, shard_range
from ckd_cache.format.stats import add_stats, gather_stats
from ckd_cache.format.workspace import ShardFiles
from ckd_cache.format.zarr_io import describe, encode_shard
from ckd_cache.progress import ProgressTask
from ckd_cache.teachers.capture import capture_at
from ckd_cache.types import Array, GatherArrays, JsonObject

__all__ = ["fill_gathers", "gather_part_stage"]


def fill_gathers(
    session: Session,
    set_name: str,
    teacher: PlannedTeacher,
    get: Resident,
    requests: Sequence[GatherRequest],
) -> None:
    """Gather logprobs of a teacher for every part that lacks them, one commit each.

    Args:
        session: on the cache.
        set_name: the set.
        teacher: whose logprobs are gathered.
        get: gives it, loading it at the first call.
        requests: of all teachers; those of others are left alone.

    Raises:
        MismatchError: a part was begun for other teachers of these names.
        TeacherError: it cannot be loaded, or gives numbers that cannot be stored.
    """
    for request in requests:
        if request.teacher != teacher.name:
            continue
        for part in session.record(set_name).parts:
            stored = session.record(set_name).gathers.get(request.name)
            if stored is None or part.name not in stored.parts:
                _fill_part(session, set_name, teacher, get, request, part)


def gather_part_stage(
    session: Session,
    set_name: str,
    teacher: PlannedTeacher,
    get: Resident,
    request: GatherRequest,
    part: PartRecord,
) -> Stage:
    """What fills one part of a gather, in the batches in which its teacher was captured."""
    teachers = session.record(set_name).teachers
    captured = teachers[teacher.name].parts[part.name].profile
    same: JsonObject = {
        name: captured[name] for name in ("batch_tokens", "threads") if name in captured
    }
    fingerprints = [teachers[name].parts[part.name].fingerprint for name in request.group]
    return Stage(
        key=gather_part(set_name, request.name, part.name),
        identity=gather_part_identity(
            fingerprints, gather_identity(request.teacher, request.group)
        ),
        profile={**teacher.profile, **same},
        shards=partial(_gather_shards, session, set_name, teacher, get, request, part),
    )


def _fill_part(
    session: Session,
    set_name: str,
    teacher: PlannedTeacher,
    get: Resident,
    request: GatherRequest,
    part: PartRecord,
) -> None:
    stage = gather_part_stage(session, set_name, teacher, get, request, part)
    journal = session.fill(stage)
    filled = FilledPart(
        fingerprint=fingerprint(stage.identity),
        stats=add_stats([line.stats for line in journal.lines if line.shard != WHOLE_PART]),
        profile=journal.profile,
    )
    record = session.record(set_name)
    stored = record.gathers.get(request.name) or _new_record(session, set_name, request)
    updated = stored.model_copy(update={"parts": {**stored.parts, part.name: filled}})
    gathers = {**record.gathers, request.name: updated}
    session.commit_set(set_name, record.model_copy(update={"gathers": gathers}), [journal])


def _new_record(session: Session, set_name: str, request: GatherRequest) -> GatherRecord:
    record = session.record(set_name)
    kept = {name: record.teachers[name].k for name in request.group}
    size = session.manifest.supports[record.support].size
    return GatherRecord(
        teacher=request.teacher,
        group=list(request.group),
        width=gather_width(request.teacher, kept, size),
        step=record.teachers[request.teacher].step,
        identity=gather_identity(request.teacher, request.group),
        parts={},
    )


@dataclass(frozen=True, slots=True)
class _Run:
    """What the shards of one part share."""

    reader: SetReader
    record: GatherRecord
    teacher: PlannedTeacher
    get: Resident
    profile: JsonObject
    key: str
    task: ProgressTask


def _gather_shards(
    session: Session,
    set_name: str,
    teacher: PlannedTeacher,
    get: Resident,
    request: GatherRequest,
    part: PartRecord,
    journal: Journal,
) -> Iterator[ShardFiles]:
    reader = session.reader(set_name)
    record = _new_record(session, set_name, request)
    task = session.progress.task(
        f"gather {teacher.name} {part.name}",
        total=part.slots,
        unit="slots",
        already=sum(line.stats.get("slots", 0) for line in journal.lines),
    )
    profile = profile_of(session, teacher, journal)
    run = _Run(reader, record, teacher, get, profile, journal.key, task)
    specs = gather_specs(record.width, record.step)
    finished = {line.shard for line in journal.lines}
    if WHOLE_PART not in finished:
        documents = describe(journal.key, specs, reader.layout, part.examples, None)
        yield ShardFiles(WHOLE_PART, documents, {})
    for shard in range(shard_count(part.examples, reader.layout)):
        if shard not in finished:
            first, stop = shard_range(shard, part.examples, reader.layout)
            stored, stats = _gather_shard(
                run, shard, part.first_example + first, part.first_example + stop
            )
            files = encode_shard(journal.key, specs, reader.layout, part.examples, shard, stored)
            yield ShardFiles(shard, files, stats)
    task.done()


def _gather_shard(
    run: _Run, shard: int, start: int, stop: int
) -> tuple[dict[str, Array], JsonObject]:
    """Stored arrays and figures of a shard, given its examples (half-open, over the set)."""
    kept = {name: run.reader.teachers[name].read(start, stop) for name in run.record.group}
    used = kept[run.record.teacher].n_valid > 0
    ids, n_valid = implied_ids(run.record, kept)
    del kept
    examples = run.reader.examples.read(start, stop)
    with compute_threads(run.profile["threads"]):
        logprobs = capture_at(
            run.get(),
            examples,
            ids,
            run.profile["batch_tokens"],
            f"{run.key} shard {shard}",
            start,
            slot_counter(examples, run.task),
        )
    stored = encode_gather(logprobs, n_valid, run.record.step)
    decoded = decode_gather(stored["logprobs"], n_valid, run.record.step)
    return stored, gather_stats(GatherArrays(ids, decoded, n_valid), used)
