"""The stage that runs one teacher and keeps its distributions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice

from ckd_cache.build.groups import Group, ShardResult, add_stats, group_shards
from ckd_cache.build.identity import refuse_change, teacher_part_identity
from ckd_cache.build.profile import MODEL_LIBRARIES, library_versions
from ckd_cache.build.session import Session
from ckd_cache.build.stage import Stage
from ckd_cache.fingerprint import fingerprint
from ckd_cache.format.encode import decode_teacher, encode_teacher
from ckd_cache.format.journal import Journal
from ckd_cache.format.manifest import FilledPart, PartRecord, TeacherRecord
from ckd_cache.format.paths import teacher_part
from ckd_cache.format.reader import SetReader
from ckd_cache.format.spec import Capture, teacher_specs
from ckd_cache.format.stats import teacher_stats
from ckd_cache.format.workspace import ShardFiles
from ckd_cache.progress import ProgressTask
from ckd_cache.teachers.capture import capture
from ckd_cache.teachers.load import LoadedTeacher
from ckd_cache.types import Examples, JsonObject

__all__ = ["PlannedTeacher", "fill_teacher", "resident"]

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
        load: loads it.
    """

    name: str
    model: str
    identity: JsonObject
    capture: Capture
    device: str
    batch_tokens: int
    threads: int
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


def fill_teacher(session: Session, set_name: str, teacher: PlannedTeacher, get: Resident) -> None:
    """Run a teacher over every part that lacks it, one commit each.

    Raises:
        MismatchError: the cache has another teacher of this name.
        TeacherError: it cannot be loaded, or gives numbers that cannot be stored.
    """
    record = session.record(set_name)
    stored = record.teachers.get(teacher.name)
    if stored is not None:
        refuse_change(
            f"teacher {teacher.name} of set {set_name}", stored.identity, teacher.identity
        )
    for part in record.parts:
        if stored is None or part.name not in stored.parts:
            _fill_part(session, set_name, teacher, get, part)


def _fill_part(
    session: Session, set_name: str, teacher: PlannedTeacher, get: Resident, part: PartRecord
) -> None:
    identity = teacher_part_identity(part.fingerprint, teacher.identity)
    stage = Stage(
        key=teacher_part(set_name, teacher.name, part.name),
        identity=identity,
        profile=teacher.profile,
        shards=partial(_capture_shards, session, set_name, teacher, get, part),
    )
    journal = session.fill(stage)
    filled = FilledPart(
        fingerprint=fingerprint(identity),
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
    run = _Run(reader, teacher, get, journal, task)
    yield from group_shards(group, journal, partial(_capture_shard, run))
    task.done()


@dataclass(frozen=True, slots=True)
class _Run:
    """What the shards of one part share."""

    reader: SetReader
    teacher: PlannedTeacher
    get: Resident
    journal: Journal
    task: ProgressTask


def _capture_shard(run: _Run, shard: int, start: int, stop: int) -> ShardResult:
    examples = run.reader.examples.read(start, stop)
    profile, kept = run.journal.profile, run.teacher.capture
    with compute_threads(profile["threads"]):
        arrays = capture(
            run.get(),
            examples,
            kept,
            profile["batch_tokens"],
            f"{run.journal.key} shard {shard}",
            start,
            _slot_counter(examples, run.task),
        )
    order = run.reader.support.files.order
    stored = encode_teacher(arrays, kept, order)
    decoded = decode_teacher(stored, kept, order)
    return ShardResult(stored, teacher_stats(decoded, kept.temperatures))


def _slot_counter(examples: Examples, task: ProgressTask) -> Callable[[int], None]:
    """Turns numbers of finished examples into progress in slots."""
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
