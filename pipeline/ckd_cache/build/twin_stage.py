"""The stages of a twin set: its segments, and the slots of its views."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from ckd_cache.build.increments import layout_identity
from ckd_cache.build.profile import CORPUS_LIBRARIES, library_versions
from ckd_cache.build.session import Session
from ckd_cache.build.stage import Stage
from ckd_cache.build.support_stage import fill_support
from ckd_cache.build.twin_planning import TwinCut, twin_segments_identity
from ckd_cache.corpus.pack import KeptDocument, Segment, Template, blocks, pack_block
from ckd_cache.corpus.readings import reading_of
from ckd_cache.corpus.reread import reread
from ckd_cache.corpus.twins import TwinSegment, twin_segments
from ckd_cache.errors import CorpusError
from ckd_cache.fingerprint import fingerprint
from ckd_cache.format.access import FileAccess
from ckd_cache.format.arrow_io import DocumentRow, SegmentRows, read_documents, read_segments
from ckd_cache.format.journal import Journal
from ckd_cache.format.manifest import IncrementRecord, SetRecord
from ckd_cache.format.paths import documents_path, segments_part, segments_path
from ckd_cache.format.spec import shard_count, shard_range
from ckd_cache.format.twin_io import Alignment, encode_twin_segments
from ckd_cache.format.workspace import ShardFiles
from ckd_cache.types import Array

__all__ = ["fill_twin_segments", "special_ids", "twin_segments_stage"]


def fill_twin_segments(session: Session, twin: TwinCut) -> None:
    """Make the increments that a twin set lacks of its set, one commit each.

    Raises:
        CorpusError: a source is no longer what the set was made of.
        MismatchError: an increment was begun otherwise.
    """
    record = session.manifest.sets.get(twin.set_name)
    held = {increment.name for increment in record.increments} if record else set()
    for own in session.record(twin.cut.set_name).increments:
        if own.name not in held:
            _fill_increment(session, twin, own)


def twin_segments_stage(session: Session, twin: TwinCut, own: IncrementRecord) -> Stage:
    """What fills the segments of one increment of a twin set.

    Args:
        session: the build.
        twin: how it is cut.
        own: the increment of the set.
    """
    identity = twin_segments_identity(twin, own.fingerprint)
    return Stage(
        key=segments_part(twin.set_name, own.name),
        identity={**identity, **layout_identity(twin.layout)},
        profile=library_versions(CORPUS_LIBRARIES),
        shards=partial(_segment_files, session, twin, own),
    )


def special_ids(twin: TwinCut) -> NDArray[np.int64]:
    """Ids of the special tokens of a twin's tokenizer."""
    found = [one for one in twin.tokenizer.special.values() if one is not None]
    return np.array(sorted(set(found)), dtype=np.int64)


def _fill_increment(session: Session, twin: TwinCut, own: IncrementRecord) -> None:
    journal = session.fill(twin_segments_stage(session, twin, own))
    identity = twin_segments_identity(twin, own.fingerprint)
    made = own.model_copy(
        update={
            "fingerprint": fingerprint(identity),
            "identity": identity,
            "tokens": sum(line.stats["tokens"] for line in journal.lines),
            "cut": sum(line.stats["cut"] for line in journal.lines),
        }
    )
    record = session.manifest.sets.get(twin.set_name)
    if record is not None:
        grown = record.model_copy(update={"increments": [*record.increments, made]})
        session.commit_set(twin.set_name, grown, [journal])
        return
    support = fill_support(session, twin.tokenizer)
    sets = {**session.manifest.sets, twin.set_name: _new_record(twin, made, support.fingerprint)}
    manifest = session.manifest.model_copy(update={"sets": sets, "supports": support.records})
    session.commit(manifest, [journal, *support.journals])


def _new_record(twin: TwinCut, made: IncrementRecord, support: str) -> SetRecord:
    return SetRecord(
        kind="masked_lm",
        support=support,
        segment_tokens=twin.segment_tokens,
        slots_per_example=twin.layout.slots,
        chunk_examples=twin.layout.chunk_examples,
        shard_examples=twin.layout.shard_examples,
        increments=[made],
        parts=[],
        teachers={},
        targets={},
        twin_of=twin.cut.set_name,
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a shard ends: so many segments of this block are in it or before it."""

    block: int = 0
    taken: int = 0


def _segment_files(
    session: Session, twin: TwinCut, own: IncrementRecord, journal: Journal
) -> Iterator[ShardFiles]:
    finished = {line.shard for line in journal.lines}
    first, place = _resume(journal)
    pairs = _twins_of(session, twin, own, place)
    task = session.progress.task(
        f"twins {twin.set_name} {own.name}",
        total=own.segments,
        unit="segments",
        already=min(first * twin.layout.shard_examples, own.segments),
    )
    for shard in range(first, shard_count(own.segments, twin.layout)):
        start, stop = shard_range(shard, own.segments, twin.layout)
        rows = []
        for _ in range(stop - start):
            segment, made, place = next(pairs, _NOTHING)
            if segment is None or made is None:
                raise CorpusError(_other_segments(twin, own))
            rows.append((segment, made))
        if shard not in finished:
            yield _files_of(session, twin, own, shard, rows, place)
        task.advance(stop - start)
    task.done()


_NOTHING: tuple[Segment | None, TwinSegment | None, _Place] = (None, None, _Place())


def _resume(journal: Journal) -> tuple[int, _Place]:
    """The shard that comes next, and where the text goes on."""
    # Lines drawn up for a repair say nothing of blocks: then all is cut again from the beginning.
    if not journal.lines or "block" not in journal.lines[-1].stats:
        return 0, _Place()
    last = journal.lines[-1]
    return last.shard + 1, _Place(last.stats["block"], last.stats["taken"])


def _twins_of(
    session: Session, twin: TwinCut, own: IncrementRecord, begin: _Place
) -> Iterator[tuple[Segment | None, TwinSegment | None, _Place]]:
    """Segments of the increment beside their twins, and the place after each."""
    names = set(own.identity["source_order"])
    sources = [source for source in twin.cut.sources if source.name in names]
    shards = range(shard_count(own.segments, twin.layout))
    access = _own_access(session, twin)
    paths = [documents_path(twin.cut.set_name, own.name, shard) for shard in shards]
    rows = chain.from_iterable(_documents(access, path) for path in paths)
    for index, block in enumerate(blocks(reread(sources, rows))):
        if index < begin.block:
            continue
        skip = begin.taken if index == begin.block else 0
        pairs = list(_cut_block(twin, block))
        for taken, (segment, made) in enumerate(pairs[skip:], skip + 1):
            yield segment, made, _Place(index, taken)


def _documents(access: FileAccess, path: str) -> list[DocumentRow]:
    with access.reading(path):
        return read_documents(access.verified(path))


def _cut_block(twin: TwinCut, block: list[KeptDocument]) -> Iterator[tuple[Segment, TwinSegment]]:
    texts = [kept.document.text for kept in block]
    own = twin.cut.tokenizer
    settings = twin.cut.settings
    encoded = own.encode_documents(texts)
    segments = pack_block(
        block,
        encoded,
        Template(own.prefix, own.suffix, settings.segment_tokens - own.n_special),
        settings.pack,
    )
    readings = {
        kept.number: (reading_of(text, one), reading_of(text, other))
        for kept, text, one, other in zip(
            block, texts, encoded, twin.tokenizer.encode_documents(texts), strict=True
        )
    }
    room = twin.segment_tokens - twin.tokenizer.n_special
    template = Template(twin.tokenizer.prefix, twin.tokenizer.suffix, room)
    made = twin_segments(segments, readings, template, special_ids(twin))
    return zip(segments, made, strict=True)


def _files_of(
    session: Session,
    twin: TwinCut,
    own: IncrementRecord,
    shard: int,
    rows: list[tuple[Segment, TwinSegment]],
    place: _Place,
) -> ShardFiles:
    source, access = twin.cut.set_name, _own_access(session, twin)
    path = segments_path(source, own.name, shard)
    with access.reading(path):
        stored = read_segments(access.verified(path), 0, len(rows))
    for before, (segment, _) in zip(stored.input_ids, rows, strict=True):
        if not np.array_equal(before, segment.input_ids):
            raise CorpusError(_other_segments(twin, own))
    made = [one for _, one in rows]
    listed = documents_path(source, own.name, shard)
    with access.reading(listed):
        documents = access.verified(listed).read_bytes()
    return ShardFiles(
        shard=shard,
        files={
            segments_path(twin.set_name, own.name, shard): encode_twin_segments(
                _rows_of(made, stored.splits), _alignment_of(made), twin.layout
            ),
            documents_path(twin.set_name, own.name, shard): documents,
        },
        stats={
            "segments": len(rows),
            "tokens": sum(len(one.word_starts) for one in made),
            "cut": sum(one.cut for one in made),
            "block": place.block,
            "taken": place.taken,
        },
    )


def _rows_of(made: list[TwinSegment], splits: NDArray[np.uint8]) -> SegmentRows:
    ids: list[Array] = [one.aligned.input_ids for one in made]
    return SegmentRows(ids, [one.word_starts for one in made], [one.spans for one in made], splits)


def _alignment_of(made: list[TwinSegment]) -> Alignment:
    aligned = [one.aligned for one in made]
    return Alignment(
        [one.first for one in aligned],
        [one.last for one in aligned],
        [one.exact for one in aligned],
    )


def _own_access(session: Session, twin: TwinCut) -> FileAccess:
    return session.reader(twin.cut.set_name).examples.access


def _other_segments(twin: TwinCut, own: IncrementRecord) -> str:
    return (
        f"increment {own.name} of set {twin.cut.set_name}: its texts, tokenised again, give other "
        "segments than those in the cache, so that no twin can be made of them. Install the "
        "versions of the libraries tokenizers and transformers that it was built with, or build "
        "into another folder with --cache."
    )
