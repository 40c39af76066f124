"""The stage that turns sources into the segments of an increment, with the support beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ckd_cache.build.groups import add_stats
from ckd_cache.build.identity import refuse_change, segments_identity
from ckd_cache.build.profile import CORPUS_LIBRARIES, library_versions
from ckd_cache.build.recipe import Recipe
from ckd_cache.build.session import Session
from ckd_cache.build.slots_stage import mask_settings
from ckd_cache.build.sources import source_spec
from ckd_cache.build.stage import Stage
from ckd_cache.build.support_stage import fill_support
from ckd_cache.corpus.masking import slots_per_example
from ckd_cache.corpus.segments import ResumePoint, SegmentSettings, segment_shards
from ckd_cache.corpus.source import ReadReport, SourceSpec, contents_of
from ckd_cache.corpus.tokenizer import CorpusTokenizer
from ckd_cache.fingerprint import fingerprint
from ckd_cache.format.arrow_io import encode_documents, encode_segments
from ckd_cache.format.journal import Journal, ShardLine
from ckd_cache.format.manifest import IncrementRecord, SetRecord
from ckd_cache.format.paths import (
    documents_path,
    increment_name,
    segments_part,
    segments_path,
)
from ckd_cache.format.spec import Layout, layout_of
from ckd_cache.format.workspace import ShardFiles
from ckd_cache.progress import Progress
from ckd_cache.types import JsonObject

__all__ = ["Cut", "check_segments", "fill_segments", "plan_segments"]

FIRST = increment_name(0)


@dataclass(frozen=True)
class Cut:
    """How one set's corpus is cut.

    Attributes:
        set_name: the set.
        sources: in reading order.
        tokenizer: the corpus's.
        settings: of the segments.
        layout: of the examples.
        identity: of the segments.
    """

    set_name: str
    sources: Sequence[SourceSpec]
    tokenizer: CorpusTokenizer
    settings: SegmentSettings
    layout: Layout
    identity: JsonObject


def check_segments(cut: Cut, record: SetRecord) -> None:
    """Check that a set in the cache has the corpus that the recipe asks for, cut the same way.

    Raises:
        MismatchError: it has another; names the fields.
    """
    name = f"the corpus of set {cut.set_name}"
    refuse_change(name, record.increments[0].identity, cut.identity)
    stored = record.layout(cut.layout.support_size)
    refuse_change(name, _layout_identity(stored), _layout_identity(cut.layout))


def fill_segments(session: Session, cut: Cut) -> None:
    """Make a set's segments and its support, in one commit, unless they are there.

    Raises:
        CorpusError: a source cannot be read.
        MismatchError: the segments were begun from another corpus, or cut otherwise.
    """
    if cut.set_name in session.manifest.sets:
        return
    stage = Stage(
        key=segments_part(cut.set_name, FIRST),
        # The layout is no part of the fingerprint, but shards of two layouts do not mix.
        identity={**cut.identity, **_layout_identity(cut.layout)},
        profile=library_versions(CORPUS_LIBRARIES),
        shards=partial(_segment_files, session, cut),
    )
    journal = session.fill(stage)
    support = fill_support(session, cut.set_name, FIRST, cut.tokenizer, journal, cut.layout)
    sets = {**session.manifest.sets, cut.set_name: _set_record(cut, journal, support.fingerprint)}
    manifest = session.manifest.model_copy(update={"sets": sets, "supports": support.records})
    session.commit(manifest, [journal, *support.journals])


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


def _layout_identity(layout: Layout) -> JsonObject:
    return {
        "shards": {
            "examples": layout.shard_examples,
            "chunk_examples": layout.chunk_examples,
            "slots_per_example": layout.slots,
        }
    }


def _segment_files(session: Session, cut: Cut, journal: Journal) -> Iterator[ShardFiles]:
    report = ReadReport()
    already = sum(line.stats["segments"] for line in journal.lines)
    task = session.progress.task(f"segments {FIRST}", total=None, unit="segments", already=already)
    with session.writer.scratch("duplicates.sqlite") as scratch:
        for shard in segment_shards(
            cut.sources,
            cut.tokenizer,
            cut.settings,
            cut.layout,
            _resume_point(journal.lines),
            scratch,
            report,
        ):
            segments = segments_path(cut.set_name, FIRST, shard.shard)
            documents = documents_path(cut.set_name, FIRST, shard.shard)
            yield ShardFiles(
                shard=shard.shard,
                files={
                    segments: encode_segments(shard.segments, cut.layout),
                    documents: encode_documents(shard.documents),
                },
                stats={**shard.stats, "next_block": shard.next_block, "taken": shard.taken},
            )
            task.advance(len(shard.segments))
    task.done()
    if report.skipped:
        reasons = "".join(f"\n  {reason}" for reason in report.reasons)
        session.progress.note(
            f"{report.skipped:,} lines or documents could not be read and were skipped:{reasons}"
        )


def _resume_point(lines: Sequence[ShardLine]) -> ResumePoint | None:
    if not lines:
        return None
    last = lines[-1]
    return ResumePoint(last.shard, last.stats["next_block"], last.stats["taken"])


def _set_record(cut: Cut, journal: Journal, support: str) -> SetRecord:
    stats = add_stats([line.stats for line in journal.lines])
    increment = IncrementRecord(
        name=FIRST,
        fingerprint=fingerprint(cut.identity),
        identity=cut.identity,
        segments=stats["segments"],
        tokens=stats["tokens"],
        documents=stats["documents"],
        duplicates=stats["duplicates"],
        skipped=stats["skipped"],
        splits=stats["splits"],
        genres=stats["genres"],
    )
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
