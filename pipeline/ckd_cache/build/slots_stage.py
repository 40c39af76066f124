"""The stage that masks segments: a view of an increment becomes a part."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ckd_cache.build.identity import refuse_change, slots_identity
from ckd_cache.build.profile import library_versions
from ckd_cache.build.recipe import MaskedLm
from ckd_cache.build.session import Session
from ckd_cache.build.stage import Stage
from ckd_cache.corpus.masking import MaskSettings, mask_segments
from ckd_cache.errors import CorpusError
from ckd_cache.fingerprint import fingerprint
from ckd_cache.format.arrow_io import encode_slots, read_segments
from ckd_cache.format.journal import Journal
from ckd_cache.format.manifest import IncrementRecord, PartRecord, SetRecord
from ckd_cache.format.paths import part_name, segments_path, slots_part, slots_path
from ckd_cache.format.spec import shard_count, shard_range
from ckd_cache.format.workspace import ShardFiles
from ckd_cache.settings import parse_settings
from ckd_cache.types import JsonObject
from ckd_cache.wording import counted

__all__ = ["check_slots", "fill_slots", "mask_settings", "objective_of", "slots_part_stage"]


def mask_settings(objective: MaskedLm) -> MaskSettings:
    """The corpus package's settings for a recipe's objective."""
    corruption = objective.corruption
    return MaskSettings(
        fraction=objective.mask_fraction,
        mask=corruption.mask,
        random=corruption.random,
        keep=corruption.keep,
        whole_word=objective.whole_word,
        seed=objective.seed,
    )


def check_slots(set_name: str, record: SetRecord, objective: MaskedLm) -> None:
    """Check that the parts of a set were masked as the objective says.

    Raises:
        MismatchError: one was masked otherwise; names the fields.
    """
    fingerprints = {increment.name: increment.fingerprint for increment in record.increments}
    for part in record.parts:
        wanted = slots_identity(fingerprints[part.increment], objective, part.view)
        refuse_change(f"the masking of {set_name}/{part.name}", part.identity, wanted, named=False)


def fill_slots(session: Session, set_name: str, objective: MaskedLm) -> None:
    """Make the parts that the objective's views lack, one commit each.

    An increment is shown in all views that the set has, also where the objective asks for fewer.

    Raises:
        MismatchError: a part was begun with another masking.
        CorpusError: no part has a slot, so that there is nothing to ask a teacher.
    """
    record = session.record(set_name)
    views = max([objective.views, *(part.view + 1 for part in record.parts)])
    for increment in record.increments:
        for view in range(views):
            _fill_part(session, set_name, objective, increment, view)
    record = session.record(set_name)
    if not any(part.slots for part in record.parts):
        raise CorpusError(_no_slots(session, set_name, objective))


def _no_slots(session: Session, set_name: str, objective: MaskedLm) -> str:
    increments = session.record(set_name).increments
    documents = sum(increment.documents for increment in increments)
    segments = sum(increment.segments for increment in increments)
    tokens = sum(increment.tokens for increment in increments)
    whole_word = ", set `objective.whole_word: false`" if objective.whole_word else ""
    return (
        f"set {set_name} has no slots: its {counted(documents, 'document')} gave "
        f"{counted(segments, 'segment')} with {counted(tokens, 'token')} in all (special tokens "
        f"included), and mask_fraction {objective.mask_fraction} of the ordinary tokens of each "
        f"comes to none. Raise `objective.mask_fraction`{whole_word}, or give the corpus more "
        f"text; then delete {session.writer.path} or build into another folder with --cache."
    )


def _fill_part(
    session: Session, set_name: str, objective: MaskedLm, increment: IncrementRecord, view: int
) -> None:
    record = session.record(set_name)
    name = part_name(view, increment.name)
    if any(part.name == name for part in record.parts):
        return
    stage = slots_part_stage(session, set_name, objective, increment, view)
    journal = session.fill(stage)
    part = PartRecord(
        name=name,
        view=view,
        increment=increment.name,
        fingerprint=fingerprint(stage.identity),
        identity=stage.identity,
        first_example=record.examples,
        examples=increment.segments,
        slots=sum(line.stats["slots"] for line in journal.lines),
    )
    session.commit_set(
        set_name, record.model_copy(update={"parts": [*record.parts, part]}), [journal]
    )


def slots_part_stage(
    session: Session, set_name: str, objective: MaskedLm, increment: IncrementRecord, view: int
) -> Stage:
    """What fills the slots of one part."""
    return Stage(
        key=slots_part(set_name, part_name(view, increment.name)),
        identity=slots_identity(increment.fingerprint, objective, view),
        profile=library_versions(("numpy", "pyarrow")),
        shards=partial(_mask_shards, session, set_name, objective, increment, view),
    )


def objective_of(identity: JsonObject) -> MaskedLm:
    """The objective, with one view, by which slots of an identity were chosen."""
    fields = ("mask_fraction", "corruption", "whole_word", "seed")
    return parse_settings({name: identity[name] for name in fields}, MaskedLm, "the cache")


def _mask_shards(
    session: Session,
    set_name: str,
    objective: MaskedLm,
    increment: IncrementRecord,
    view: int,
    journal: Journal,
) -> Iterator[ShardFiles]:
    record = session.record(set_name)
    support = session.manifest.supports[record.support]
    layout = record.layout(support.size)
    settings = mask_settings(objective)
    offset = _segments_before(record, increment)
    part = part_name(view, increment.name)
    finished = {line.shard for line in journal.lines}
    task = session.progress.task(
        f"masks {part}",
        total=increment.segments,
        unit="segments",
        already=sum(
            stop - start
            for start, stop in (shard_range(n, increment.segments, layout) for n in finished)
        ),
    )
    for shard in range(shard_count(increment.segments, layout)):
        if shard in finished:
            continue
        start, stop = shard_range(shard, increment.segments, layout)
        path = session.writer.path / segments_path(set_name, increment.name, shard)
        segments = read_segments(path, 0, stop - start, layout.chunk_examples)
        slots = mask_segments(segments, offset + start, view, settings, support)
        yield ShardFiles(
            shard=shard,
            files={slots_path(set_name, part, shard): encode_slots(slots, layout)},
            stats={"slots": sum(len(positions) for positions in slots.positions)},
        )
        task.advance(stop - start)
    task.done()


def _segments_before(record: SetRecord, increment: IncrementRecord) -> int:
    index = record.increments.index(increment)
    return sum(earlier.segments for earlier in record.increments[:index])
