"""Twins of segments and of slots, by hand and held to a slow reading of the characters."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckd_cache.corpus.pack import KeptDocument, Template, pack_block
from ckd_cache.corpus.readings import Reading, reading_of, word_of
from ckd_cache.corpus.records import Document
from ckd_cache.corpus.reread import reread
from ckd_cache.corpus.source import TextSource
from ckd_cache.corpus.tokenizer import Encoded
from ckd_cache.corpus.twins import Aligned, TwinSegment, twin_segments, twin_slots
from ckd_cache.errors import CorpusError
from ckd_cache.format.arrow_io import DocumentRow

SPECIAL = np.array([0, 1, 2])
"""Ids of [MASK], [BOS] and [UNK] on both sides."""
UNSEEN = ("the unseen cat", ["|the", "|un", "seen", "|cat"], ["|the", "| unse", "en", "| cat"])


def cut(text: str, pieces: list[str]) -> Encoded:
    """Tokens by their text, words beginning where a piece is written with a bar before it."""
    ids: list[int] = []
    starts: list[bool] = []
    begins: list[int] = []
    ends: list[int] = []
    at = 0
    for piece in pieces:
        shown = piece.removeprefix("|")
        begin = text.index(shown, at) if shown else at
        at = begin + len(shown)
        ids.append(3 + len(ids) if shown != "?" else 2)
        starts.append(piece.startswith("|") or not starts)
        begins.append(begin)
        ends.append(at)
    return Encoded(np.array(ids, np.uint32), np.array(starts), np.array(begins), np.array(ends))


def twins_of(text: str, own: list[str], twin: list[str], segment: int = 64, room: int = 64):
    """Segments of one document, and their twins."""
    encoded = cut(text, own)
    readings = {0: (reading_of(text, encoded), reading_of(text, cut(text, twin)))}
    kept = KeptDocument(0, 0, Document("d", text, "s", "g"))
    segments = pack_block([kept], [encoded], Template((1,), (), segment), True)
    return segments, twin_segments(segments, readings, Template((1,), (1,), room), SPECIAL)


def aligned(made: TwinSegment) -> list[tuple[int, int, bool]]:
    one = made.aligned
    return list(zip(one.first.tolist(), one.last.tolist(), one.exact.tolist(), strict=True))


def test_tokens_stand_for_the_tokens_whose_characters_they_share():
    _, (made,) = twins_of(*UNSEEN)
    assert aligned(made) == [
        (0, 0, False),
        (1, 2, True),
        (2, 4, True),
        (3, 4, True),
        (4, 5, True),
        (0, 0, False),
    ]
    assert made.word_starts.tolist() == [True, True, True, False, True, True]
    assert [(s.token_start, s.token_end) for s in made.spans] == [(1, 5)]


@pytest.mark.parametrize(
    ("own", "twin", "exact"),
    [
        (["|don", "|'", "|t"], ["|don", "|'t"], [True, False]),
        (["|don", "|'", "|t"], ["|don't"], [False]),
        (["|don't"], ["|don", "|'", "|t"], [True, True, True]),
        (["|don't"], ["|don", "|t"], [False, False]),
        (["|don't"], ["|don"], [False]),
        (["|on't"], ["|don", "|'t"], [False, False]),
    ],
)
def test_a_word_is_exact_if_its_tokens_have_its_characters_and_no_others(own, twin, exact):
    _, (made,) = twins_of("don't", own, twin)
    assert made.aligned.exact[1:-1].tolist() == exact


def test_an_unknown_token_is_exact_for_nothing():
    _, (made,) = twins_of("a ? b", ["|a", "|?", "|b"], ["|a", "|?", "|b"])
    assert made.aligned.exact.tolist() == [False, True, False, True, False]


def test_what_does_not_fit_is_cut_and_the_word_it_is_of_is_not_exact():
    own, twin = ["|abc", "|def"], ["|ab", "c", "|de", "f"]
    _, (made,) = twins_of("abc def", own, twin, room=3)
    assert made.cut == 1
    assert made.aligned.exact.tolist() == [False, True, True, False, False]
    assert (made.spans[0].token_end, made.spans[0].char_end) == (4, 6)


def test_every_token_stands_in_one_segment_by_its_first_character():
    text = "aa  bbcc dd"
    own, twin = ["|aa", "|bb", "cc", "|dd"], ["|aa ", "| bbcc", "| dd"]
    segments, made = twins_of(text, own, twin, segment=2)
    assert len(segments) == 2
    shown = [[(s.char_start, s.char_end) for s in one.spans] for one in made]
    assert shown == [[(0, 8)], [(8, 11)]]
    assert not made[0].aligned.exact[2], "it has characters of the next segment"


def masked(made: Aligned, starts: list[bool], positions: list[int], most: int = 9):
    return twin_slots(np.array(starts), np.array(positions), made, SPECIAL, most)


def test_all_tokens_of_a_masked_word_are_slots():
    _, (made,) = twins_of(*UNSEEN)
    found = masked(made.aligned, [True, True, True, False, True], [2, 3, 4])
    assert found.positions.tolist() == [2, 3, 4]
    assert found.words.tolist() == [0, 0, 1]
    assert found.exact.all()


def test_a_token_of_two_masked_words_is_of_the_first_and_neither_is_exact():
    _, (made,) = twins_of("don't go", ["|don", "|'", "|t", "|go"], ["|don", "|'t", "|go"])
    found = masked(made.aligned, [True] * 5, [2, 3, 4])
    assert found.positions.tolist() == [2, 3]
    assert found.words.tolist() == [0, 2]
    assert found.exact.tolist() == [False, True]


def test_a_token_with_a_masked_and_a_shown_word_is_masked():
    _, (made,) = twins_of("don't", ["|don", "|'", "|t"], ["|don", "|'t"])
    found = masked(made.aligned, [True] * 4, [3])
    assert found.positions.tolist() == [2]
    assert not found.exact.any()


def test_an_example_whose_slots_would_be_too_many_has_none():
    _, (made,) = twins_of("abcd e", ["|abcd", "|e"], ["|a", "b", "c", "d", "|e"])
    assert len(masked(made.aligned, [True] * 3, [1, 2], most=5).positions) == 5
    assert len(masked(made.aligned, [True] * 3, [1, 2], most=4).positions) == 0


def test_unknown_tokens_are_never_slots():
    _, (made,) = twins_of("a ?", ["|a", "|x?"[0:1] + "?"], ["|a", "|?"])
    assert masked(made.aligned, [True] * 3, [1, 2]).positions.tolist() == [1]


pieces = st.lists(
    st.tuples(st.text("ab .", min_size=1, max_size=4), st.booleans()), min_size=1, max_size=12
)


def split_at(text: str, places: set[int], words: set[int]) -> Encoded:
    """A text cut at places, new words at some of them; white space alone is no token."""
    bounds = [0, *sorted(places), len(text)]
    spans = [(i, j) for i, j in pairwise(bounds) if text[i:j].strip()]
    ids = np.arange(3, 3 + len(spans), dtype=np.uint32)
    starts = np.array([n == 0 or i in words for n, (i, _) in enumerate(spans)], np.bool_)
    return Encoded(
        ids,
        starts,
        np.array([i for i, _ in spans], np.int64),
        np.array([j for _, j in spans], np.int64),
    )


@given(st.data())
def test_no_token_with_a_character_of_a_masked_word_is_left_visible(data):
    text = data.draw(st.text("ab .", min_size=1, max_size=30).filter(str.strip))
    places = st.sets(st.integers(1, max(1, len(text) - 1)), max_size=12)
    one, other, words = (data.draw(places) - {len(text)} for _ in range(3))
    own, twin = split_at(text, one, words), split_at(text, other, set())
    size = data.draw(st.integers(1, 12))
    kept = KeptDocument(0, 0, Document("d", text, "s", "g"))
    segments = pack_block([kept], [own], Template((1,), (1,), size), True)
    readings = {0: (reading_of(text, own), reading_of(text, twin))}
    made = twin_segments(segments, readings, Template((1,), (1,), 99), SPECIAL)
    assert sum(len(one.aligned.input_ids) - 2 for one in made) == len(twin)
    at = 0
    for segment, twinned in zip(segments, made, strict=True):
        maskable = range(1, len(segment.input_ids) - 1)
        numbers = word_of(segment.word_starts)
        chosen = data.draw(st.sets(st.sampled_from([int(numbers[n]) for n in maskable])))
        positions = np.array([n for n in maskable if numbers[n] in chosen], np.int64)
        slots = twin_slots(segment.word_starts, positions, twinned.aligned, SPECIAL, 99)
        hidden = characters(readings[0][0], positions - 1 + at)
        for n, token in enumerate(twinned.aligned.input_ids[1:-1], 1):
            shown = characters(readings[0][1], np.array([int(token) - 3]))
            assert (n in slots.positions) == bool(shown & hidden)
        check_words(text, readings[0], positions, numbers, slots, twinned, at)
        at += len(maskable)


def check_words(text, readings, positions, numbers, slots, twinned, at) -> None:
    """A word is exact if and only if its slots have its characters and no others, but blanks."""
    masked_words = np.unique(numbers[positions])
    for ordinal in np.unique(slots.words):
        here = slots.words == ordinal
        tokens = twinned.aligned.input_ids[slots.positions[here]].astype(int) - 3
        mine = positions[numbers[positions] == masked_words[ordinal]] - 1 + at
        own, theirs = characters(readings[0], mine), characters(readings[1], tokens)
        # A segment's first word may be the end of one that began in the segment before.
        fragment = numbers[1] == 0 and masked_words[ordinal] == 0
        same = all(text[n].isspace() for n in own ^ theirs)
        assert slots.exact[here].all() == slots.exact[here].any()
        if slots.exact[here].all():
            assert same
        elif not fragment and not any(text[n].isspace() for n in range(min(own), max(own))):
            assert not same


def characters(reading: Reading, tokens: np.ndarray) -> set[int]:
    return {n for t in tokens for n in range(reading.starts[t], reading.ends[t])}


def rows(*texts: str) -> list[DocumentRow]:
    from ckd_cache.corpus.deduplicate import text_key

    return [
        DocumentRow(7 + n, f"s/a.txt#{n + 1}", "s", "g", 0, len(text), text_key(text))
        for n, text in enumerate(texts)
    ]


@pytest.fixture
def source(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\nthree\n", encoding="utf-8")
    return TextSource("s", "g", ("*.txt",), tmp_path, documents="line")


def test_documents_are_read_again_in_their_order(source):
    found = list(reread([source], [rows("one", "two", "three")[n] for n in (0, 2)]))
    assert [(kept.number, kept.document.text) for kept in found] == [(7, "one"), (9, "three")]


@pytest.mark.parametrize(
    ("listed", "named"),
    [
        (rows("one", "too"), "document s/a.txt#2.*another text"),
        (rows("one", "two", "three", "four"), "document s/a.txt#4.*no longer there"),
    ],
)
def test_a_source_that_changed_is_refused_by_name(source, listed, named):
    with pytest.raises(CorpusError, match=rf"source s: {named}"):
        list(reread([source], listed))
