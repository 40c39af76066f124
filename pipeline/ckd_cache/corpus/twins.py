"""Twins: the same characters and the same masked words, cut by another tokenizer.

Pure functions; docs/format.md (Twin sets) is their specification. ``own`` is the set, ``twin`` its
twin.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ckd_cache.corpus.pack import Segment, Template
from ckd_cache.corpus.readings import Reading, word_of
from ckd_cache.format.arrow_io import Span
from ckd_cache.types import Array

__all__ = ["Aligned", "TwinSegment", "TwinSlots", "twin_segments", "twin_slots"]


@dataclass(frozen=True, slots=True)
class Aligned:
    """The tokens of a twin's segment, n of them, and what they have to do with the segment's.

    Attributes:
        input_ids: (n,) ids, specials included.
        first: (n,) int64, first token of the segment that the token shares a character with.
        last: (n,) int64, token after the last of these; equal to ``first`` where there is none.
        exact: (n,) bool, the token shares characters with one word of the segment only, and the
            tokens that do so have that word's characters and no others but white space.
    """

    input_ids: Array
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    exact: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TwinSegment:
    """The twin of a segment, n tokens.

    Attributes:
        aligned: its tokens.
        word_starts: (n,) bool, True at specials.
        spans: which documents its tokens come from.
        cut: tokens that did not fit.
    """

    aligned: Aligned
    word_starts: NDArray[np.bool_]
    spans: list[Span]
    cut: int


@dataclass(frozen=True, slots=True)
class TwinSlots:
    """Slots of the twin of an example, ascending.

    Attributes:
        positions: (m,) int64.
        gold: (m,) ids.
        words: (m,) int64, number of the slot's word among the masked words of the example.
        exact: (m,) bool, all tokens of that word are slots on both sides, and those of the twin
            have its characters and no others but white space.
    """

    positions: NDArray[np.int64]
    gold: Array
    words: NDArray[np.int64]
    exact: NDArray[np.bool_]


def twin_segments(
    segments: Sequence[Segment],
    readings: dict[int, tuple[Reading, Reading]],
    template: Template,
    special: NDArray[np.int64],
) -> list[TwinSegment]:
    """The twins of the segments of a block.

    A token of the twin stands in the segment that has the character it begins with; white space
    goes with what follows it.

    Args:
        segments: all segments of the block, in their order.
        readings: for each of its documents, how the set and how the twin reads it.
        template: what stands around the twin's segments, and the tokens they have room for.
        special: ids of the twin's special tokens.
    """
    taken: Counter[int] = Counter()
    twins = []
    for segment in segments:
        pieces = []
        for span in segment.spans:
            start = taken[span.document]
            stop = start + span.token_end - span.token_start
            taken[span.document] = stop
            own, twin = readings[span.document]
            pieces.append(_piece(own, twin, start, stop, span, special))
        twins.append(_put_together(pieces, template))
    return twins


def twin_slots(
    word_starts: NDArray[np.bool_],
    positions: NDArray[np.int64],
    twin: Aligned,
    special: NDArray[np.int64],
    most: int,
) -> TwinSlots:
    """The slots of the twin of an example: every ordinary token that has to do with a masked word.

    A token that has to do with two is of the first. Where the slots would be more than ``most``,
    there is none, as a teacher must not see a word that it is asked for.

    Args:
        word_starts: (n,) of the segment.
        positions: of the example's slots.
        twin: of the segment's twin.
        special: ids of the twin's special tokens.
        most: slots that an example can have.
    """
    word = word_of(word_starts)
    masked, slots_of = np.unique(word[positions], return_counts=True)
    is_masked = np.isin(word, masked)
    # Of each token, the next one at or after it that is of a masked word; the end if none is.
    following = np.where(is_masked, np.arange(len(word)), len(word))
    following = np.append(np.minimum.accumulate(following[::-1])[::-1], len(word))
    hit = following[twin.first] < twin.last
    hit &= ~np.isin(twin.input_ids, special)
    chosen = np.flatnonzero(hit)
    if len(chosen) > most:
        chosen = chosen[:0]
    words = np.searchsorted(masked, word[following[twin.first[chosen]]])
    whole = slots_of == np.bincount(word[is_masked], minlength=len(word) + 1)[masked]
    return TwinSlots(chosen, twin.input_ids[chosen], words, twin.exact[chosen] & whole[words])


@dataclass(frozen=True, slots=True)
class _Piece:
    """What a twin has of one span; (n,) each.

    ``word`` is the number of a token's first word in the segment, counted in tokens; -1: none.
    """

    document: int
    ids: NDArray[np.uint32]
    word_starts: NDArray[np.bool_]
    raw_starts: NDArray[np.int64]
    raw_ends: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    word: NDArray[np.int64]
    exact: NDArray[np.bool_]


def _piece(
    own: Reading, twin: Reading, start: int, stop: int, span: Span, special: NDArray[np.int64]
) -> _Piece:
    """The twin's tokens for tokens ``start`` to ``stop`` of a document."""
    low = 0 if start == 0 else own.starts[start]
    high = own.starts[stop] if stop < len(own) else np.iinfo(np.int64).max
    here = slice(*np.searchsorted(twin.starts, [low, high]).tolist())
    begin, end = twin.starts[here], twin.ends[here]
    first = np.clip(np.searchsorted(own.ends, begin, side="right"), start, stop)
    last = np.clip(np.searchsorted(own.starts, end, side="left"), first, stop)
    last = np.where(begin < end, last, first)
    ids = twin.tokens.ids[here]
    word = word_of(own.tokens.word_starts[start:stop])
    exact = _exact(
        own.starts[start:stop],
        own.ends[start:stop],
        word,
        _Overlap(begin, end, first - start, last - start, np.isin(ids, special)),
    )
    shift = span.token_start - start
    padded = np.append(word, -1)
    return _Piece(
        document=span.document,
        ids=ids,
        word_starts=twin.tokens.word_starts[here],
        raw_starts=twin.tokens.char_starts[here],
        raw_ends=twin.tokens.char_ends[here],
        first=first + shift,
        last=last + shift,
        word=np.where(first < last, padded[first - start] + span.token_start, -1),
        exact=exact,
    )


@dataclass(frozen=True, slots=True)
class _Overlap:
    """Characters of the twin's tokens, and which of the set's tokens they have; (n,) each."""

    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    special: NDArray[np.bool_]


def _exact(
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    word: NDArray[np.int64],
    twin: _Overlap,
) -> NDArray[np.bool_]:
    """Which tokens of the twin are of a word that they and their like make up exactly.

    Args:
        starts: (p,) first characters of the set's tokens.
        ends: (p,) characters after their last ones.
        word: (p,) words of these tokens, from 0.
        twin: n tokens.
    """
    touching = np.flatnonzero(twin.first < twin.last)
    one, other = word[twin.first[touching]], word[twin.last[touching] - 1]
    heads = np.flatnonzero(np.diff(word, prepend=-1))
    word_start = starts[heads]
    word_end = np.maximum.reduceat(ends, heads) if len(heads) else ends
    begin, end = twin.begin[touching], twin.end[touching]
    wrong = (one != other) | twin.special[touching]
    wrong |= (begin < word_start[one]) | (end > word_end[one])
    # Tokens of a word must begin where it does, go on where those before them ended, and end there.
    is_head = np.diff(one, prepend=-1) != 0
    before = np.append(-1, np.maximum.accumulate(end)[:-1]) if len(end) else end
    wrong |= np.where(is_head, begin != word_start[one], begin > before)
    is_last = np.append(is_head[1:], True)[: len(one)]
    wrong |= is_last & (np.maximum.accumulate(end) < word_end[one])
    inexact = np.zeros(len(heads) + 1, np.int64)
    np.add.at(inexact, one[wrong], 1)
    np.add.at(inexact, other[wrong] + 1, -1)
    exact = np.zeros(len(twin.first), np.bool_)
    exact[touching] = (np.cumsum(inexact) == 0)[one] & (one == other)
    return exact


def _put_together(pieces: Sequence[_Piece], template: Template) -> TwinSegment:
    prefix, suffix = (np.array(ids, np.uint32) for ids in (template.prefix, template.suffix))
    ids, starts, first, last, word, exact = (
        np.concatenate([getattr(piece, name) for piece in pieces])
        for name in ("ids", "word_starts", "first", "last", "word", "exact")
    )
    room = template.room
    # A word that was cut is not there whole.
    exact &= ~np.isin(word, word[room:])
    none = [np.zeros(len(one), np.int64) for one in (prefix, suffix)]
    special = [np.ones(len(one), np.bool_) for one in (prefix, suffix)]
    aligned = Aligned(
        input_ids=np.concatenate([prefix, ids[:room], suffix]),
        first=np.concatenate([none[0], first[:room], none[1]]),
        last=np.concatenate([none[0], last[:room], none[1]]),
        exact=np.concatenate([~special[0], exact[:room], ~special[1]]),
    )
    return TwinSegment(
        aligned=aligned,
        word_starts=np.concatenate([special[0], starts[:room], special[1]]),
        spans=_spans(pieces, template),
        cut=max(len(ids) - room, 0),
    )


def _spans(pieces: Sequence[_Piece], template: Template) -> list[Span]:
    spans = []
    at = 0
    for piece in pieces:
        count = min(len(piece.ids), template.room - at)
        if count > 0:
            shift = len(template.prefix) + at
            start, end = int(piece.raw_starts[:count].min()), int(piece.raw_ends[:count].max())
            spans.append(Span(piece.document, shift, shift + count, start, end))
            at += count
    return spans
