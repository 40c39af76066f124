"""The stage that turns sources into the segments of an increment, with the support beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ckd_cache.build.groups import add_stats
from ckd_cache.build.identity import refuse_change, segments_identity
from ckd_cache.build.profile import CORPUS_LIBRARIES, library_versions
from ckd_cache.build.recipe import Recipe, SetRecipe, source_name
from ckd_cache.build.session import Session
from ckd_cache.build.slots_stage import mask_settings
from ckd_cache.build.sources import source_spec
from ckd_cache.build.stage import Stage
from ckd_cache.build.support_stage import fill_support
from ckd_cache.corpus.masking import slots_per_example
from ckd_cache.corpus.segments import ResumePoint, SegmentSettings, segment_shards
from ckd_cache.corpus.source import ReadReport, SourceSpec, contents_of
from ckd_cache.corpus.tokenizer import CorpusTokenizer
from ckd_cache.errors import MismatchError
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
from ckd_cache.types import JsonObject

__all__ = ["fill_segments"]

FIRST = increment_name(0)


@dataclass(frozen=True)
class _Cut:
    """How one set's corpus is cut."""

    set_name: str
    sources: Sequence[SourceSpec]
    tokenizer: CorpusTokenizer
    settings: SegmentSettings
    layout: Layout
    identity: JsonObject


def fill_segments(
    session: Session,
    recipe: Recipe,
    root: Path,
    set_name: str,
    set_recipe: SetRecipe,
    tokenizer: CorpusTokenizer,
) -> None:
    """Make a set's segments and its support, in one commit, unless they are there.

    Raises:
        CorpusError: a source or the tokenizer cannot be used.
        MismatchError: the cache was built from another corpus, or cut otherwise.
    """
    cut = _cut(recipe, root, set_name, set_recipe, tokenizer)
    record = session.manifest.sets.get(set_name)
    if record is not None:
        refuse_change(f"the corpus of set {set_name}", record.increments[0].identity, cut.identity)
        _refuse_layout(set_name, record, cut.layout)
        return
    stage = Stage(
        key=segments_part(set_name, FIRST),
        identity=cut.identity,
        profile=library_versions(CORPUS_LIBRARIES),
        shards=partial(_segment_files, session, cut),
    )
    journal = session.fill(stage)
    support = fill_support(session, set_name, FIRST, tokenizer, journal, cut.layout)
    sets = {**session.manifest.sets, set_name: _set_record(cut, journal, support.fingerprint)}
    manifest = session.manifest.model_copy(update={"sets": sets, "supports": support.records})
    session.commit(manifest, [journal, *support.journals])


def _cut(
    recipe: Recipe, root: Path, set_name: str, set_recipe: SetRecipe, tokenizer: CorpusTokenizer
) -> _Cut:
    corpus, objective = set_recipe.corpus, set_recipe.objective
    tokenizer.require_mask()
    if objective.whole_word:
        tokenizer.require_words()
    sources = [source_spec(source, root) for source in corpus.sources]
    contents = {
        source_name(source): contents_of(spec)
        for source, spec in zip(corpus.sources, sources, strict=True)
    }
    slots = slots_per_example(mask_settings(objective), corpus.segment_tokens, tokenizer.n_special)
    return _Cut(
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


def _refuse_layout(set_name: str, record: SetRecord, layout: Layout) -> None:
    stored = record.layout(layout.support_size)
    if stored != layout:
        message = (
            f"set {set_name} is cut into shards of {stored.shard_examples} examples, chunks of "
            f"{stored.chunk_examples} and {stored.slots} slots an example; the recipe now gives "
            f"{layout.shard_examples}, {layout.chunk_examples} and {layout.slots}. Restore "
            "`shards` and `mask_fraction`, or build into another folder with --cache."
        )
        raise MismatchError(message)


def _segment_files(session: Session, cut: _Cut, journal: Journal) -> Iterator[ShardFiles]:
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


def _set_record(cut: _Cut, journal: Journal, support: str) -> SetRecord:
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
