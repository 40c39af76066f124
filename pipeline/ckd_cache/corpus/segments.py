"""From sources to the segments of an increment, shard by shard, in flat memory.

sources -> kept documents -> blocks -> segments -> shards. A build that was interrupted goes on
after its last finished shard: everything is read again, so that duplicates are known, but blocks
whose segments are all in finished shards are not tokenised again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ckd_cache.corpus.deduplicate import Deduplicator, text_key
from ckd_cache.corpus.pack import KeptDocument, Segment, Template, blocks, pack_block
from ckd_cache.corpus.source import ReadReport, SourceSpec, check_sources, read_documents
from ckd_cache.corpus.tokenizer import CorpusTokenizer
from ckd_cache.errors import CorpusError
from ckd_cache.format.arrow_io import DocumentRow, SegmentRows
from ckd_cache.format.spec import Layout
from ckd_cache.numerics.splits import SPLIT_NAMES, split_of
from ckd_cache.types import JsonObject
from ckd_cache.wording import counted

__all__ = ["Earlier", "ResumePoint", "SegmentSettings", "SegmentShard", "segment_shards"]

_LONGEST_SEGMENT = 65_536


@dataclass(frozen=True, slots=True)
class SegmentSettings:
    """How a corpus is cut.

    Attributes:
        segment_tokens: tokens of a full segment, specials included.
        pack: whether documents share segments.
        fit: share of documents in the split ``fit``.
        test: share of documents in the split ``test``.
        deduplicate: whether later documents of the same text are dropped.
    """

    segment_tokens: int
    pack: bool = True
    fit: float = 0.0
    test: float = 0.0
    deduplicate: bool = True


@dataclass(frozen=True, slots=True)
class Earlier:
    """What earlier increments of a set hold.

    Attributes:
        documents: how many documents; the numbers go on from there.
        keys: keys of their texts, in batches; read once if duplicates are dropped, else never.
    """

    documents: int = 0
    keys: Iterable[Sequence[bytes]] = ()


NOTHING = Earlier()


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where an interrupted build goes on.

    Attributes:
        shard: number of the last finished shard.
        next_block: the block whose segments come next.
        taken: how many segments of that block are in finished shards.
    """

    shard: int
    next_block: int
    taken: int


@dataclass(frozen=True, slots=True)
class SegmentShard:
    """A shard of segments, and the documents of the blocks that begin in it.

    Attributes:
        shard: its number.
        segments: its segments.
        documents: rows for the documents of the blocks that begin in it.
        next_block: with ``taken`` and ``shard``, the point to resume at after this shard.
        taken: see ``next_block``.
        stats: counts that add up over shards: ``segments``, ``tokens`` (specials included),
            ``documents``, ``duplicates``, ``skipped``, ``empty``, ``splits`` (segments by split)
            and ``genres`` (documents by genre).
    """

    shard: int
    segments: SegmentRows
    documents: list[DocumentRow]
    next_block: int
    taken: int
    stats: JsonObject


def segment_shards(
    sources: Sequence[SourceSpec],
    tokenizer: CorpusTokenizer,
    settings: SegmentSettings,
    layout: Layout,
    resume: ResumePoint | None,
    dedup_path: Path,
    report: ReadReport,
    earlier: Earlier = NOTHING,
) -> Iterator[SegmentShard]:
    """Read sources and cut them into shards of segments.

    Args:
        sources: in reading order.
        tokenizer: the corpus's.
        settings: how to cut.
        layout: how many segments a shard has.
        resume: where an interrupted build goes on; None to begin.
        dedup_path: scratch file for the texts seen; the caller removes it afterwards.
        report: counts what is left out; complete when the iterator is exhausted.
        earlier: what the set holds already.

    Raises:
        CorpusError: a source cannot be read, the corpus is empty or holds nothing new, or no text
            fits into a segment.
        StorageError: the disk refused the scratch file.
    """
    check_sources(sources)
    template = _template(tokenizer, settings)

    def shards() -> Iterator[SegmentShard]:
        with Deduplicator(dedup_path) if settings.deduplicate else nullcontext() as seen:
            if seen is not None:
                seen.add(earlier.keys)
            kept = _kept(sources, settings, seen, report, earlier.documents)
            cut = _cut_blocks(kept, tokenizer, template, settings.pack, resume)
            count = 0
            for shard in _group(cut, layout, resume, report):
                count += 1
                yield shard
            if not count and resume is None:
                raise CorpusError(_empty(sources, report, earlier))

    return shards()


@dataclass(frozen=True, slots=True)
class _CutBlock:
    index: int
    documents: Sequence[KeptDocument]
    segments: Sequence[Segment]


@dataclass(slots=True)
class _OpenShard:
    """The shard that is being filled."""

    number: int
    rows: list[Segment] = field(default_factory=list)
    documents: list[KeptDocument] = field(default_factory=list)


def _template(tokenizer: CorpusTokenizer, settings: SegmentSettings) -> Template:
    tokens, special = settings.segment_tokens, tokenizer.n_special
    if not special < tokens <= _LONGEST_SEGMENT:
        message = (
            f"segment_tokens is {tokens}; tokenizer {tokenizer.name} puts "
            f"{counted(special, 'special token')} into every segment, and positions are stored in "
            f"16 bits. Set segment_tokens between {special + 1} and {_LONGEST_SEGMENT}."
        )
        raise CorpusError(message)
    return Template(tokenizer.prefix, tokenizer.suffix, tokens - special)


def _kept(
    sources: Sequence[SourceSpec],
    settings: SegmentSettings,
    seen: Deduplicator | None,
    report: ReadReport,
    number: int,
) -> Iterator[KeptDocument]:
    for spec in sources:
        for document in read_documents(spec, report):
            text = document.text.strip()
            if not text:
                report.empty += 1
            elif seen is not None and not seen.is_new(text):
                report.duplicates += 1
            else:
                split = split_of(document.id, settings.fit, settings.test)
                yield KeptDocument(number, split, document)
                number += 1


def _cut_blocks(
    kept: Iterator[KeptDocument],
    tokenizer: CorpusTokenizer,
    template: Template,
    pack: bool,
    resume: ResumePoint | None,
) -> Iterator[_CutBlock]:
    """Blocks with their segments; those that are in finished shards are left out."""
    for index, block in enumerate(blocks(kept)):
        if resume is not None and index < resume.next_block:
            continue
        encoded = tokenizer.encode_documents([each.document.text for each in block])
        segments = pack_block(block, encoded, template, pack)
        if resume is not None and index == resume.next_block and resume.taken:
            # The block began in a finished shard, which lists its documents.
            yield _CutBlock(index, (), segments)
        else:
            yield _CutBlock(index, block, segments)


def _group(
    cut: Iterator[_CutBlock], layout: Layout, resume: ResumePoint | None, report: ReadReport
) -> Iterator[SegmentShard]:
    """Segments in shards.

    A shard is given out when the segment after it is known, or that there is none: only then is
    it certain in which shard a block without segments is listed, and what the last one counts.
    """
    current = _OpenShard(resume.shard + 1 if resume else 0)
    counted = None if resume else ReadReport()
    waiting: list[KeptDocument] = []
    waiting_from = index = resume.next_block if resume else 0
    for block in cut:
        index = block.index
        waiting += block.documents
        first = resume.taken if resume and index == resume.next_block else 0
        for taken in range(first, len(block.segments)):
            if len(current.rows) == layout.shard_examples:
                point = (index, taken) if taken else (waiting_from, 0)
                yield _close(current, point, _since(counted, report))
                current, counted = _OpenShard(current.number + 1), None
            # Reports change only between blocks, so this is where the shard before ended.
            counted = _copy(report) if counted is None else counted
            current.documents += waiting
            waiting = []
            current.rows.append(block.segments[taken])
        if not waiting:
            waiting_from = index + 1
    if current.rows:
        current.documents += waiting
        yield _close(current, (index + 1, 0), _since(counted, report))


def _close(shard: _OpenShard, point: tuple[int, int], left_out: dict[str, int]) -> SegmentShard:
    rows = shard.rows
    documents = [_document_row(kept) for kept in shard.documents]
    splits = Counter(SPLIT_NAMES[row.split] for row in rows)
    stats: JsonObject = {
        "segments": len(rows),
        "tokens": sum(len(row.input_ids) for row in rows),
        "documents": len(documents),
        "splits": {name: splits[name] for name in SPLIT_NAMES},
        "genres": dict(sorted(Counter(row.genre for row in documents).items())),
        **left_out,
    }
    segments = SegmentRows(
        input_ids=[row.input_ids for row in rows],
        word_starts=[row.word_starts for row in rows],
        spans=[row.spans for row in rows],
        splits=np.array([row.split for row in rows], dtype=np.uint8),
    )
    return SegmentShard(shard.number, segments, documents, *point, stats)


def _document_row(kept: KeptDocument) -> DocumentRow:
    document = kept.document
    return DocumentRow(
        number=kept.number,
        id=document.id,
        source=document.source,
        genre=document.genre,
        split=kept.split,
        characters=len(document.text),
        key=text_key(document.text),
    )


def _copy(report: ReadReport) -> ReadReport:
    return ReadReport(report.skipped, [], report.duplicates, report.empty)


def _since(before: ReadReport | None, now: ReadReport) -> dict[str, int]:
    start = ReadReport() if before is None else before
    return {
        "duplicates": now.duplicates - start.duplicates,
        "empty": now.empty - start.empty,
        "skipped": now.skipped - start.skipped,
    }


def _empty(sources: Sequence[SourceSpec], report: ReadReport, earlier: Earlier) -> str:
    named = ", ".join(spec.name for spec in sources)
    sources_named = f"the source {named}" if len(sources) == 1 else f"the sources {named}"
    reasons = "".join(f"\n  {reason}" for reason in report.reasons)
    left_out = f"{counted(report.empty, 'document')} without text, {report.skipped:,} skipped"
    if earlier.documents and report.duplicates:
        return (
            f"Nothing is new: {sources_named} gave {counted(report.duplicates, 'document')} that "
            f"the set holds already, and no other text ({left_out}). Take what is known out of "
            f"`corpus.sources`, or give it documents that are new.{reasons}"
        )
    duplicates = f", {report.duplicates:,} known already" if report.duplicates else ""
    return (
        f"The corpus is empty: {sources_named} gave no text ({left_out}{duplicates}). "
        f"Correct the sources' `paths` and options.{reasons}"
    )
