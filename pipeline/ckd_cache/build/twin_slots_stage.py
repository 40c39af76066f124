"""The stage that masks a twin set: the words that are masked in its set."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ckd_cache.build.profile import library_versions
from ckd_cache.build.session import Session
from ckd_cache.build.stage import Stage
from ckd_cache.corpus.twins import Aligned, TwinSlots, twin_slots
from ckd_cache.errors import CorpusError
from ckd_cache.fingerprint import fingerprint
from ckd_cache.format.arrow_io import SlotRows, read_ragged
from ckd_cache.format.journal import Journal
from ckd_cache.format.manifest import PartRecord
from ckd_cache.format.paths import segments_path, slots_part, slots_path
from ckd_cache.format.reader import SetReader
from ckd_cache.format.spec import shard_count, shard_range
from ckd_cache.format.twin_io import SlotWords, encode_twin_slots, read_alignment
from ckd_cache.format.workspace import ShardFiles
from ckd_cache.types import Array, JsonObject

__all__ = ["fill_twin_slots", "twin_slots_stage"]


def fill_twin_slots(session: Session, set_name: str) -> None:
    """Make the parts that a twin set lacks of its set, one commit each.

    Raises:
        MismatchError: a part was begun otherwise.
        DamagedCacheError: a file of the set is missing or damaged.
    """
    source = session.record(set_name).twin_of
    if source is None:
        return
    held = {part.name for part in session.record(set_name).parts}
    for part in session.record(source).parts:
        if part.name in held:
            continue
        stage = twin_slots_stage(session, set_name, part)
        journal = session.fill(stage)
        made = part.model_copy(
            update={
                "fingerprint": fingerprint(stage.identity),
                "identity": stage.identity,
                "slots": sum(line.stats["slots"] for line in journal.lines),
            }
        )
        record = session.record(set_name)
        grown = record.model_copy(update={"parts": [*record.parts, made]})
        session.commit_set(set_name, grown, [journal])


def twin_slots_stage(session: Session, set_name: str, part: PartRecord) -> Stage:
    """What fills one part of a twin set; it needs nothing but the cache.

    Args:
        session: the build.
        set_name: the twin set.
        part: the part of its set.
    """
    return Stage(
        key=slots_part(set_name, part.name),
        identity=_identity(session, set_name, part),
        profile=library_versions(("numpy", "pyarrow")),
        shards=partial(_mask_shards, session, set_name, part),
    )


def _identity(session: Session, set_name: str, part: PartRecord) -> JsonObject:
    record = session.record(set_name)
    segments = next(one for one in record.increments if one.name == part.increment)
    return {
        "twin_of": part.fingerprint,
        "segments": segments.fingerprint,
        "slots_per_example": record.slots_per_example,
    }


def _mask_shards(
    session: Session, set_name: str, part: PartRecord, journal: Journal
) -> Iterator[ShardFiles]:
    twin = session.reader(set_name)
    own = session.reader(session.record(set_name).twin_of or "")
    mask_id = twin.support.record.mask_id
    if mask_id is None:
        message = f"The tokenizer of set {set_name} has no mask token, expected one."
        raise CorpusError(message)
    finished = {line.shard for line in journal.lines}
    shards = range(shard_count(part.examples, twin.layout))
    ranges = {shard: shard_range(shard, part.examples, twin.layout) for shard in shards}
    task = session.progress.task(
        f"masks {set_name} {part.name}",
        total=part.examples,
        unit="segments",
        already=sum(ranges[shard][1] - ranges[shard][0] for shard in finished),
    )
    for shard, (start, stop) in ranges.items():
        if shard in finished:
            continue
        found = list(_slots_of(own, twin, part, shard, stop - start))
        yield ShardFiles(
            shard=shard,
            files={slots_path(set_name, part.name, shard): _encoded(found, twin, mask_id)},
            stats={"slots": sum(len(one.positions) for one in found)},
        )
        task.advance(stop - start)
    task.done()


def _slots_of(
    own: SetReader, twin: SetReader, part: PartRecord, shard: int, count: int
) -> Iterator[TwinSlots]:
    access = own.examples.access
    segments = segments_path(own.name, part.increment, shard)
    slots = slots_path(own.name, part.name, shard)
    twins = segments_path(twin.name, part.increment, shard)
    with access.reading(segments):
        (starts,) = read_ragged(access.verified(segments), ["word_starts"], 0, count)
    with access.reading(slots):
        (positions,) = read_ragged(access.verified(slots), ["positions"], 0, count)
    with twin.examples.access.reading(twins):
        columns = read_alignment(twin.examples.access.verified(twins), 0, count)
    ids, first, last, exact = (column.rows() for column in columns)
    special = _special(twin)
    for row, (word_starts, places) in enumerate(zip(starts.rows(), positions.rows(), strict=True)):
        aligned = Aligned(
            ids[row], first[row].astype(np.int64), last[row].astype(np.int64), exact[row]
        )
        most = twin.layout.slots
        yield twin_slots(word_starts, places.astype(np.int64), aligned, special, most)


def _special(twin: SetReader) -> NDArray[np.int64]:
    found = [one for one in twin.support.record.special.values() if one is not None]
    return np.array(sorted(set(found)), dtype=np.int64)


def _encoded(found: list[TwinSlots], twin: SetReader, mask_id: int) -> bytes:
    gold: list[Array] = [one.gold for one in found]
    rows = SlotRows(
        [one.positions for one in found], [np.full_like(one, mask_id) for one in gold], gold
    )
    words = SlotWords([one.words for one in found], [one.exact for one in found])
    return encode_twin_slots(rows, words, twin.layout)
