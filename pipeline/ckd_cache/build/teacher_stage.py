"""The stage that runs one teacher and keeps its distributions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice

from ckd_cache.build.groups import Group, ShardResult, group_shards, stored_order
from ckd_cache.build.identity import refuse_change, teacher_part_identity
from ckd_cache.build.profile import MODEL_LIBRARIES, library_versions
from ckd_cache.build.session import Session
from ckd_cache.build.stage import Stage
from ckd_cache.fingerprint import fingerprint
from ckd_cache.format.encode import decode_teacher, encode_teacher
from ckd_cache.format.journal import Journal
from ckd_cache.format.manifest import FilledPart, PartRecord, SetRecord, TeacherRecord
from ckd_cache.format.paths import teacher_part
from ckd_cache.format.reader import SetReader
from ckd_cache.format.spec import Capture, teacher_specs
from ckd_cache.format.stats import add_stats, quantising_nats, teacher_stats
from ckd_cache.format.workspace import ShardFiles
from ckd_cache.numerics.narrow import narrow
from ckd_cache.progress import ProgressTask
from ckd_cache.teachers.capture import capture
from ckd_cache.teachers.load import LoadedTeacher
from ckd_cache.types import Array, Examples, JsonObject, TeacherArrays

__all__ = [
    "PlannedTeacher",
    "Resident",
    "check_teacher_record",
    "compute_threads",
    "fill_teacher",
    "profile_of",
    "resident",
    "slot_counter",
    "teacher_part_stage",
]

Resident = Callable[[], LoadedTeacher]
"""Gives the teacher, loading it at the first call."""


@dataclass(frozen=True, slots=True)
class PlannedTeacher:
    """A teacher of the recipe, checked and hashed, not loaded.

    Attributes:
        name: in the recipe.
        model: folder or hub name as the recipe says.
        identity: of what it says and of what is kept of it.
        capture: what is kept.
        device: where it will run.
        batch_tokens: tokens of a batch.
        threads: of torch on a CPU.
        insisted: of ``batch_tokens`` and ``threads``, those that the recipe states; they hold also
            where a part was begun with others.
        load: loads it.
    """

    name: str
    model: str
    identity: JsonObject
    capture: Capture
    device: str
    batch_tokens: int
    threads: int
    insisted: frozenset[str]
    load: Resident

    @property
    def profile(self) -> JsonObject:
        """The execution profile wanted."""
        return {
            "device": self.device,
            "batch_tokens": self.batch_tokens,
            "threads": self.threads,
            **library_versions(MODEL_LIBRARIES),
        }


@contextmanager
def resident(teacher: PlannedTeacher) -> Iterator[Resident]:
    """The teacher, loaded when first asked for, and released at the end: one at a time."""
    from ckd_cache.teachers.load import release_teacher

    loaded: list[LoadedTeacher] = []

    def get() -> LoadedTeacher:
        if not loaded:
            loaded.append(teacher.load())
        return loaded[0]

    try:
        yield get
    finally:
        for one in loaded:
            release_teacher(one)


def check_teacher_record(set_name: str, record: SetRecord, teacher: PlannedTeacher) -> None:
    """Check that a teacher of this name, if the set has one, is this teacher.

    Raises:
        MismatchError: it is another; names the fields.
    """
    stored = record.teachers.get(teacher.name)
    if stored is not None:
        name = f"teacher {teacher.name} of set {set_name}"
        refuse_change(name, stored.identity, teacher.identity)


def fill_teacher(session: Session, set_name: str, teacher: PlannedTeacher, get: Resident) -> None:
    """Run a teacher over every part that lacks it, one commit each.

    Raises:
        MismatchError: a part was begun with another teacher of this name.
        TeacherError: it cannot be loaded, or gives numbers that cannot be stored.
    """
    record = session.record(set_name)
    stored = record.teachers.get(teacher.name)
    for part in record.parts:
        if stored is None or part.name not in stored.parts:
            _fill_part(session, set_name, teacher, get, part)


def teacher_part_stage(
    session: Session, set_name: str, teacher: PlannedTeacher, get: Resident, part: PartRecord
) -> Stage:
    """What fills one part of a teacher."""
    return Stage(
        key=teacher_part(set_name, teacher.name, part.name),
        identity=teacher_part_identity(part.fingerprint, teacher.identity),
        profile=teacher.profile,
        shards=partial(_capture_shards, session, set_name, teacher, get, part),
    )


def _fill_part(
    session: Session, set_name: str, teacher: PlannedTeacher, get: Resident, part: PartRecord
) -> None:
    stage = teacher_part_stage(session, set_name, teacher, get, part)
    journal = session.fill(stage)
    filled = FilledPart(
        fingerprint=fingerprint(stage.identity),
        stats=add_stats([line.stats for line in journal.lines]),
        profile=journal.profile,
    )
    record = session.record(set_name)
    stored = record.teachers.get(teacher.name) or _new_record(teacher)
    updated = stored.model_copy(update={"parts": {**stored.parts, part.name: filled}})
    teachers = {**record.teachers, teacher.name: updated}
    session.commit_set(set_name, record.model_copy(update={"teachers": teachers}), [journal])


def _new_record(teacher: PlannedTeacher) -> TeacherRecord:
    return TeacherRecord(
        model=teacher.model,
        k=teacher.capture.k,
        temperatures=list(teacher.capture.temperatures),
        max_nats=teacher.capture.max_nats,
        step=teacher.capture.step,
        top_p=teacher.capture.top_p,
        identity=teacher.identity,
        parts={},
    )


def _capture_shards(
    session: Session,
    set_name: str,
    teacher: PlannedTeacher,
    get: Resident,
    part: PartRecord,
    journal: Journal,
) -> Iterator[ShardFiles]:
    reader = session.reader(set_name)
    group = Group(
        key=teacher_part(set_name, teacher.name, part.name),
        specs=teacher_specs(teacher.capture, reader.layout.support_size),
        layout=reader.layout,
        part=part,
    )
    task = session.progress.task(
        f"teacher {teacher.name} {part.name}",
        total=part.slots,
        unit="slots",
        already=sum(line.stats.get("slots", 0) for line in journal.lines),
    )
    run = _Run(reader, teacher, get, profile_of(session, teacher, journal), journal.key, task)
    yield from group_shards(
        group,
        journal,
        partial(_capture_shard, run),
        partial(_encode, teacher.capture),
        partial(stored_order, session.writer.path, journal, reader.layout.support_size),
    )
    task.done()


def profile_of(session: Session, teacher: PlannedTeacher, journal: Journal) -> JsonObject:
    """The profile of a part under way: its journal's, but for what the recipe insists on."""
    profile = dict(journal.profile)
    for name in sorted(teacher.insisted):
        begun, wanted = profile[name], teacher.profile[name]
        if begun != wanted and any(line.shard >= 0 for line in journal.lines):
            session.progress.note(
                f"{journal.key}: begun with {name} {begun}, goes on with {wanted}; its bytes may "
                "differ from those of an uninterrupted build"
            )
        profile[name] = wanted
    return profile


@dataclass(frozen=True, slots=True)
class _Run:
    """What the shards of one part share."""

    reader: SetReader
    teacher: PlannedTeacher
    get: Resident
    profile: JsonObject
    key: str
    task: ProgressTask


def _capture_shard(run: _Run, shard: int, start: int, stop: int) -> TeacherArrays:
    examples = run.reader.examples.read(start, stop)
    kept = run.teacher.capture
    with compute_threads(run.profile["threads"]):
        arrays = capture(
            run.get(),
            examples,
            kept,
            run.profile["batch_tokens"],
            f"{run.key} shard {shard}",
            start,
            slot_counter(examples, run.task),
        )
    return narrow(arrays, kept.top_p, kept.temperatures)


def _encode(kept: Capture, arrays: TeacherArrays, order: Array) -> ShardResult:
    stored = encode_teacher(arrays, kept, order)
    decoded = decode_teacher(stored, kept, order)
    cost = quantising_nats(
        arrays.logprobs, _at_1(arrays.tail, kept), decoded.logprobs, _at_1(decoded.tail, kept)
    )
    figures = teacher_stats(decoded, kept.temperatures)
    return ShardResult(stored, {**figures, "quantising_nats_sum": cost})


def _at_1(values: Array, kept: Capture) -> Array:
    return values[..., kept.temperatures.index(1.0)]


def slot_counter(examples: Examples, task: ProgressTask) -> Callable[[int], None]:
    """What turns numbers of finished examples into progress in slots."""
    remaining = iter(examples.slot_mask.sum(axis=1).tolist())

    def on_batch(count: int) -> None:
        task.advance(sum(islice(remaining, count)))

    return on_batch


@contextmanager
def compute_threads(count: int) -> Iterator[None]:
    """Let torch compute with ``count`` threads; results can depend on how many there are."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
