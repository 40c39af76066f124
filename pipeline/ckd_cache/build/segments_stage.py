"""The stage that turns sources into the segments of an increment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ckd_cache.build.identity import segments_identity
from ckd_cache.build.increments import Increment, due_increment, layout_identity
from ckd_cache.build.profile import CORPUS_LIBRARIES, library_versions
from ckd_cache.build.recipe import Recipe
from ckd_cache.build.session import Session
from ckd_cache.build.slots_stage import mask_settings
from ckd_cache.build.sources import source_spec
from ckd_cache.build.stage import Stage
from ckd_cache.build.support_stage import fill_support
from ckd_cache.corpus.masking import slots_per_example
from ckd_cache.corpus.segments import (
    Earlier,
    ResumePoint,
    SegmentSettings,
    SegmentShard,
    segment_shards,
)
from ckd_cache.corpus.source import ReadReport, SourceSpec, contents_of
from ckd_cache.corpus.tokenizer import CorpusTokenizer
from ckd_cache.fingerprint import fingerprint
from ckd_cache.format.arrow_io import encode_documents, encode_segments
from ckd_cache.format.journal import Journal, ShardLine
from ckd_cache.format.manifest import IncrementRecord, SetRecord
from ckd_cache.format.paths import (
    documents_path,
    segments_part,
    segments_path,
)
from ckd_cache.format.spec import Layout, layout_of
from ckd_cache.format.stats import add_stats
from ckd_cache.format.workspace import ShardFiles
from ckd_cache.progress import Progress
from ckd_cache.types import JsonObject

__all__ = ["Cut", "fill_segments", "increment_stage", "plan_segments"]


@dataclass(frozen=True)
class Cut:
    """How one set's corpus is cut.

    Attributes:
        set_name: the set.
        sources: in reading order.
        tokenizer: the corpus's.
        settings: of the segments.
        layout: of the examples.
        identity: of the segments, as if all sources were of one increment.
    """

    set_name: str
    sources: Sequence[SourceSpec]
    tokenizer: CorpusTokenizer
    settings: SegmentSettings
    layout: Layout
    identity: JsonObject


def fill_segments(session: Session, cut: Cut) -> None:
    """Make an increment out of the sources that a set lacks, in one commit; none: do nothing.

    The first one comes with the set's support.

    Raises:
        CorpusError: a source cannot be read, or the sources give no text that is new.
        MismatchError: the segments were begun from other sources, or cut otherwise.
    """
    record = session.manifest.sets.get(cut.set_name)
    increment = due_increment(cut.identity, record)
    if increment is None:
        return
    journal = session.fill(increment_stage(session, cut, increment))
    made = _increment_record(increment, journal)
    if record is not None:
        grown = record.model_copy(update={"increments": [*record.increments, made]})
        session.commit_set(cut.set_name, grown, [journal])
        return
    support = fill_support(session, cut.tokenizer)
    sets = {**session.manifest.sets, cut.set_name: _set_record(cut, made, support.fingerprint)}
    manifest = session.manifest.model_copy(update={"sets": sets, "supports": support.records})
    session.commit(manifest, [journal, *support.journals])


def increment_stage(session: Session, cut: Cut, increment: Increment) -> Stage:
    """What fills the segments of one increment."""
    return Stage(
        key=segments_part(cut.set_name, increment.name),
        # The layout is no part of the fingerprint, but shards of two layouts do not mix.
        identity={**increment.identity, **layout_identity(cut.layout)},
        profile=library_versions(CORPUS_LIBRARIES),
        shards=partial(_segment_files, session, cut, increment),
    )


def plan_segments(
    recipe: Recipe,
    root: Path,
    set_name: str,
    tokenizer: CorpusTokenizer,
    progress: Progress,
) -> Cut:
    """How a set's corpus is to be cut; its sources are read once, to know their contents.

    Raises:
        CorpusError: a source or the tokenizer cannot be used.
    """
    set_recipe = recipe.each_set()[set_name]
    corpus, objective = set_recipe.corpus, set_recipe.objective
    tokenizer.require_mask()
    if objective.whole_word:
        tokenizer.require_words()
    sources = [source_spec(source, root) for source in corpus.sources]
    contents = _contents(set_name, sources, progress)
    slots = slots_per_example(mask_settings(objective), corpus.segment_tokens, tokenizer.n_special)
    return Cut(
        set_name=set_name,
        sources=sources,
        tokenizer=tokenizer,
        settings=SegmentSettings(
            segment_tokens=corpus.segment_tokens,
            pack=corpus.pack,
            fit=recipe.splits.fit,
            test=recipe.splits.test,
            deduplicate=corpus.deduplicate,
        ),
        layout=layout_of(slots, recipe.shards.slots, recipe.shards.chunk_slots, tokenizer.size),
        identity=segments_identity(corpus, contents, tokenizer.behaviour, recipe.splits),
    )


def _contents(set_name: str, sources: Sequence[SourceSpec], progress: Progress) -> dict[str, str]:
    task = progress.task(f"hashing sources of {set_name}", total=len(sources), unit="sources")
    contents = {}
    for source in sources:
        contents[source.name] = contents_of(source)
        task.advance()
    task.done()
    return contents


def _segment_files(
    session: Session, cut: Cut, increment: Increment, journal: Journal
) -> Iterator[ShardFiles]:
    report = ReadReport()
    finished = {line.shard for line in journal.lines}
    already = sum(line.stats.get("segments", 0) for line in journal.lines)
    name = f"segments {increment.name}"
    task = session.progress.task(name, total=None, unit="segments", already=already)
    own = set(increment.sources)
    with session.writer.scratch("duplicates.sqlite") as scratch:
        for shard in segment_shards(
            [source for source in cut.sources if source.name in own],
            cut.tokenizer,
            cut.settings,
            cut.layout,
            _resume_point(journal.lines),
            scratch,
            report,
            _earlier(session, cut.set_name, increment.name),
        ):
            if shard.shard in finished:
                continue
            yield _files_of(shard, cut, increment.name)
            task.advance(len(shard.segments))
    task.done()
    if report.skipped:
        reasons = "".join(f"\n  {reason}" for reason in report.reasons)
        session.progress.note(
            "lines, rows or documents that could not be read and were skipped: "
            f"{report.skipped:,}{reasons}"
        )


def _files_of(shard: SegmentShard, cut: Cut, increment: str) -> ShardFiles:
    segments = segments_path(cut.set_name, increment, shard.shard)
    documents = documents_path(cut.set_name, increment, shard.shard)
    return ShardFiles(
        shard=shard.shard,
        files={
            segments: encode_segments(shard.segments, cut.layout),
            documents: encode_documents(shard.documents),
        },
        stats={**shard.stats, "next_block": shard.next_block, "taken": shard.taken},
    )


def _earlier(session: Session, set_name: str, increment: str) -> Earlier:
    """What a set holds before an increment; its keys are read when they are asked for."""
    if set_name not in session.manifest.sets:
        return Earlier()
    examples = session.reader(set_name).examples
    before = [one for one in examples.record.increments if int(one.name) < int(increment)]
    documents = sum(one.documents for one in before)
    return Earlier(documents, examples.document_keys([one.name for one in before]))


def _resume_point(lines: Sequence[ShardLine]) -> ResumePoint | None:
    # Lines drawn up for a repair say nothing of blocks: then all is cut again from the beginning.
    if not lines or "next_block" not in lines[-1].stats:
        return None
    last = lines[-1]
    return ResumePoint(last.shard, last.stats["next_block"], last.stats["taken"])


def _increment_record(increment: Increment, journal: Journal) -> IncrementRecord:
    stats = add_stats([line.stats for line in journal.lines])
    return IncrementRecord(
        name=increment.name,
        fingerprint=fingerprint(increment.identity),
        identity=increment.identity,
        segments=stats["segments"],
        tokens=stats["tokens"],
        documents=stats["documents"],
        duplicates=stats["duplicates"],
        skipped=stats["skipped"],
        splits=stats["splits"],
        genres=stats["genres"],
    )


def _set_record(cut: Cut, increment: IncrementRecord, support: str) -> SetRecord:
    return SetRecord(
        kind="masked_lm",
        support=support,
        segment_tokens=cut.settings.segment_tokens,
        slots_per_example=cut.layout.slots,
        chunk_examples=cut.layout.chunk_examples,
        shard_examples=cut.layout.shard_examples,
        increments=[increment],
        parts=[],
        teachers={},
        targets={},
    )
