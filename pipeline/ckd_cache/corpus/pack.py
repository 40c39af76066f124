"""Packing: blocks of documents, and the segments that a block is cut into.

Pure functions; docs/format.md (Segments and documents) is their specification.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ckd_cache.corpus.records import Document
from ckd_cache.corpus.tokenizer import Encoded
from ckd_cache.format.arrow_io import Span
from ckd_cache.numerics.splits import SPLIT_NAMES

__all__ = ["KeptDocument", "Segment", "Template", "blocks", "pack_block"]

BLOCK_DOCUMENTS = 4096
BLOCK_CHARACTERS = 1 << 22


@dataclass(frozen=True, slots=True)
class KeptDocument:
    """A document that is neither empty nor a duplicate.

    Attributes:
        number: among the kept documents, from 0.
        split: number of its split.
        document: the document itself.
    """

    number: int
    split: int
    document: Document


@dataclass(frozen=True, slots=True)
class Template:
    """What stands around the text of a segment.

    Attributes:
        prefix: special ids before it.
        suffix: special ids after it.
        room: tokens of text that fit into a segment.
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    room: int


@dataclass(frozen=True, slots=True)
class Segment:
    """A window of the corpus.

    Attributes:
        input_ids: (n,) uint32, specials included.
        word_starts: (n,) bool, True at specials.
        spans: which documents its tokens come from, in token order.
        split: number of its split.
    """

    input_ids: NDArray[np.uint32]
    word_starts: NDArray[np.bool_]
    spans: list[Span]
    split: int


def blocks(documents: Iterable[KeptDocument]) -> Iterator[list[KeptDocument]]:
    """Documents in blocks of 4,096, or of 2^22 characters if they are reached before that."""
    block: list[KeptDocument] = []
    characters = 0
    for kept in documents:
        block.append(kept)
        characters += len(kept.document.text)
        if len(block) == BLOCK_DOCUMENTS or characters >= BLOCK_CHARACTERS:
            yield block
            block, characters = [], 0
    if block:
        yield block


def pack_block(
    block: Sequence[KeptDocument], encoded: Sequence[Encoded], template: Template, pack: bool
) -> list[Segment]:
    """The segments of a block, split by split.

    Args:
        block: the documents.
        encoded: their tokens, in the same order.
        template: what stands around each segment.
        pack: whether documents share segments; if not, each begins one of its own.
    """
    segments: list[Segment] = []
    for split in range(len(SPLIT_NAMES)):
        members = [
            (kept.number, tokens)
            for kept, tokens in zip(block, encoded, strict=True)
            if kept.split == split
        ]
        for run in [members] if pack else [[member] for member in members]:
            segments += _cut(run, split, template)
    return segments


def _cut(run: list[tuple[int, Encoded]], split: int, template: Template) -> list[Segment]:
    """Concatenate documents (number, tokens) and cut what they give."""
    if not run:
        return []
    ids = np.concatenate([tokens.ids for _, tokens in run])
    starts = np.concatenate([tokens.word_starts for _, tokens in run])
    ends = np.cumsum([len(tokens) for _, tokens in run])
    segments = []
    for start in range(0, len(ids), template.room):
        stop = min(start + template.room, len(ids))
        spans = _spans(run, ends, start, stop, len(template.prefix))
        segments.append(_segment(ids[start:stop], starts[start:stop], spans, split, template))
    return segments


def _spans(
    run: list[tuple[int, Encoded]], ends: NDArray[np.int64], start: int, stop: int, shift: int
) -> list[Span]:
    """Spans of tokens ``start`` … ``stop`` of a run whose documents end at ``ends``."""
    spans = []
    at = start
    while at < stop:
        which = int(np.searchsorted(ends, at, side="right"))
        number, tokens = run[which]
        begin = int(ends[which]) - len(tokens)
        last = min(stop, int(ends[which]))
        inside = slice(at - begin, last - begin)
        spans.append(
            Span(
                document=number,
                token_start=at - start + shift,
                token_end=last - start + shift,
                char_start=int(tokens.char_starts[inside].min()),
                char_end=int(tokens.char_ends[inside].max()),
            )
        )
        at = last
    return spans


def _segment(
    ids: NDArray[np.uint32],
    starts: NDArray[np.bool_],
    spans: list[Span],
    split: int,
    template: Template,
) -> Segment:
    prefix = np.array(template.prefix, dtype=np.uint32)
    suffix = np.array(template.suffix, dtype=np.uint32)
    return Segment(
        np.concatenate([prefix, ids, suffix]),
        np.concatenate([np.ones(len(prefix), bool), starts, np.ones(len(suffix), bool)]),
        spans,
        split,
    )
