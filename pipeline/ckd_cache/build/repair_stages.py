"""The stages by which damaged shards are computed again, from a recipe or from the cache alone."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from ckd_cache.build.gather_requests import GatherRequest
from ckd_cache.build.gather_stage import gather_part_stage
from ckd_cache.build.groups import stored_order
from ckd_cache.build.increments import held_increment
from ckd_cache.build.repair_inputs import RepairInputs
from ckd_cache.build.segments_stage import increment_stage
from ckd_cache.build.session import Session
from ckd_cache.build.slots_stage import objective_of, slots_part_stage
from ckd_cache.build.stage import Stage
from ckd_cache.build.support_stage import support_stage
from ckd_cache.build.target_stage import target_part_stage
from ckd_cache.build.teacher_stage import resident, teacher_part_stage
from ckd_cache.build.twin_slots_stage import twin_slots_stage
from ckd_cache.build.twin_stage import twin_segments_stage
from ckd_cache.errors import IncompleteCacheError
from ckd_cache.format.inventory import PartFiles
from ckd_cache.format.journal import Journal, ShardLine
from ckd_cache.format.manifest import PartRecord, SetRecord
from ckd_cache.format.paths import order_path
from ckd_cache.format.reader import open_cache
from ckd_cache.format.spec import WHOLE_PART
from ckd_cache.format.workspace import ShardFiles
from ckd_cache.format.zarr_io import ZARR_JSON, describe

__all__ = ["repairing_stage"]


@contextmanager
def repairing_stage(
    session: Session, inputs: RepairInputs | None, part: PartFiles, damaged: AbstractSet[str]
) -> Iterator[Stage]:
    """The stage that made a part; a teacher that it needs is loaded when first asked for.

    Args:
        session: on the cache.
        inputs: of the recipe; None where there is none.
        part: what is damaged.
        damaged: its damaged files.

    Raises:
        IncompleteCacheError: something that it needs is not there.
    """
    if part.artefact == "support":
        yield support_stage(_needed(inputs).tokenizer_of(part.folder.rpartition("/")[2]))
    elif part.artefact == "segments":
        yield _segments_stage(session, _needed(inputs), part)
    elif part.artefact == "slots":
        yield _slots_stage(session, part)
    elif all(path.endswith(f"/{ZARR_JSON}") for path in damaged):
        yield Stage(part.folder, {}, {}, partial(_documents, session, part))
    elif part.artefact == "teacher":
        teacher = _needed(inputs).teacher(part.set_name, part.owner)
        with resident(teacher) as get:
            made = teacher_part_stage(session, part.set_name, teacher, get, _record(session, part))
            yield _keeping_order(session, part, _with_profile(session, part, made), damaged)
    elif part.artefact == "gather":
        record = _set(session, part).gathers[part.owner]
        teacher = _needed(inputs).teacher(part.set_name, record.teacher)
        with resident(teacher) as get:
            request = GatherRequest(record.teacher, tuple(record.group))
            made = gather_part_stage(
                session, part.set_name, teacher, get, request, _record(session, part)
            )
            yield _with_profile(session, part, made)
    else:
        made = target_part_stage(session, part.set_name, part.owner, _record(session, part))
        yield _keeping_order(session, part, _with_profile(session, part, made), damaged)


def _needed(inputs: RepairInputs | None) -> RepairInputs:
    if inputs is None:
        message = (
            "it is made of a source, a tokenizer or a teacher; name the recipe that says where"
            " they are with --recipe."
        )
        raise IncompleteCacheError(message)
    return inputs


def _set(session: Session, part: PartFiles) -> SetRecord:
    return session.record(part.set_name)


def _record(session: Session, part: PartFiles) -> PartRecord:
    return next(one for one in _set(session, part).parts if one.name == part.name)


def _segments_stage(session: Session, inputs: RepairInputs, part: PartFiles) -> Stage:
    source = _set(session, part).twin_of
    if source is None:
        increment = held_increment(_set(session, part), part.name)
        return increment_stage(session, inputs.cut(part.set_name), increment)
    own = next(one for one in session.record(source).increments if one.name == part.name)
    return twin_segments_stage(session, inputs.twin(part.set_name, source), own)


def _slots_stage(session: Session, part: PartFiles) -> Stage:
    source = _set(session, part).twin_of
    if source is not None:
        own = next(one for one in session.record(source).parts if one.name == part.name)
        return twin_slots_stage(session, part.set_name, own)
    record = _record(session, part)
    increment = next(one for one in _set(session, part).increments if one.name == record.increment)
    objective = objective_of(record.identity)
    return slots_part_stage(session, part.set_name, objective, increment, record.view)


def _with_profile(session: Session, part: PartFiles, stage: Stage) -> Stage:
    """The stage under the profile of the part, by which the same bytes come out."""
    owners = getattr(_set(session, part), f"{part.artefact}s")
    profile = owners[part.owner].parts[part.name].profile
    return replace(stage, profile={**stage.profile, **profile})


def _keeping_order(
    session: Session, part: PartFiles, stage: Stage, damaged: AbstractSet[str]
) -> Stage:
    """The stage, writing metadata documents anew for an order of ids that is not damaged."""
    if order_path(part.folder) in damaged:
        return stage
    return replace(stage, shards=partial(_shards_keeping_order, session, part, stage))


def _shards_keeping_order(
    session: Session, part: PartFiles, stage: Stage, journal: Journal
) -> Iterator[ShardFiles]:
    if any(line.shard == WHOLE_PART for line in journal.lines):
        yield from stage.shards(journal)
        return
    yield from _documents(session, part, journal)
    whole = _with_whole_part(session, part, journal)
    yield from stage.shards(whole)


def _documents(session: Session, part: PartFiles, journal: Journal) -> Iterator[ShardFiles]:
    """The metadata documents of a group whose order of ids is there, if it has one."""
    one_set = session.reader(part.set_name)
    specs = getattr(one_set, f"{part.artefact}s")[part.owner].stored.specs
    order = None
    if part.artefact != "gather":
        whole = _with_whole_part(session, part, journal)
        order = stored_order(session.writer.path, whole, one_set.layout.support_size)
    documents = describe(part.folder, specs, one_set.layout, part.rows, order)
    yield ShardFiles(WHOLE_PART, documents, {})


def _with_whole_part(session: Session, part: PartFiles, journal: Journal) -> Journal:
    """The journal, listing what belongs to the whole part too."""
    rows = open_cache(session.writer.path).files.of_part(part.folder)
    whole = ShardLine(WHOLE_PART, [row for row in rows if row.shard == WHOLE_PART], {})
    others = [line for line in journal.lines if line.shard != WHOLE_PART]
    return Journal(journal.path, journal.key, journal.profile, [whole, *others])
