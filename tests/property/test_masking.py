"""Masks against a slow reference that follows docs/format.md word by word."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckd_cache.corpus.masking import MaskSettings, mask_segments, slots_per_example
from ckd_cache.errors import CorpusError, RecipeError
from ckd_cache.format.arrow_io import SegmentRows

MASK64 = 2**64 - 1


@dataclass(frozen=True)
class Vocabulary:
    size: int
    special: Mapping[str, int | None]


SUPPORT = Vocabulary(30, {"mask": 4, "pad": 0, "cls": 2, "sep": 3, "unk": 29, "bos": None})


def philox_words(seed, view, segment):
    """Philox4x64-10 (Salmon et al., 2011), block after block."""
    for block in itertools.count(1):
        c, key = [block, segment, 0, 0], [seed, view]
        for _ in range(10):
            a, b = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
            c = [(b >> 64) ^ c[1] ^ key[0], b & MASK64, (a >> 64) ^ c[3] ^ key[1], a & MASK64]
            key = [(key[0] + 0x9E3779B97F4A7C15) & MASK64, (key[1] + 0xBB67AE8584CAA73B) & MASK64]
        yield from c


def reference(ids, word_starts, segment, view, settings, support):
    special = {number for number in support.special.values() if number is not None}
    maskable = [at for at, token in enumerate(ids) if token not in special]
    n = len(maskable)
    drawn = list(itertools.islice(philox_words(settings.seed, view, segment), 3 * n + 1))
    unit = lambda word: (word >> 11) * 2.0**-53  # noqa: E731
    fraction = settings.fraction
    if isinstance(fraction, tuple):
        fraction = fraction[0] + (fraction[1] - fraction[0]) * unit(drawn[0])
    count = math.floor(fraction * n + 0.5)
    if settings.whole_word:
        words: list[list[int]] = []
        for j, at in enumerate(maskable):
            before = maskable[j - 1] if j else -1
            if not words or any(word_starts[before + 1 : at + 1]):
                words.append([])
            words[-1].append(j)
        slots: list[int] = []
        for word in sorted(words, key=lambda word: (drawn[1 + word[0]], word[0])):
            if len(slots) + len(word) <= count:
                slots += word
    else:
        slots = sorted(range(n), key=lambda j: (drawn[1 + j], j))[:count]
    ordinary = [number for number in range(support.size) if number not in special]
    rows = []
    for j in sorted(slots):
        u, gold = unit(drawn[n + 1 + j]), ids[maskable[j]]
        random = ordinary[((drawn[2 * n + 1 + j] >> 32) * len(ordinary)) >> 32]
        seen = gold if u >= settings.mask + settings.random else random
        rows.append((maskable[j], support.special["mask"] if u < settings.mask else seen, gold))
    return rows


def segments(ids, word_starts=None):
    starts = word_starts or [[True] * len(row) for row in ids]
    return SegmentRows(
        [np.array(row, np.uint16) for row in ids],
        [np.array(row, np.bool_) for row in starts],
        [[] for _ in ids],
        np.zeros(len(ids), np.uint8),
    )


def triples(rows):
    return [
        list(zip(p.tolist(), i.tolist(), g.tolist(), strict=True))
        for p, i, g in zip(rows.positions, rows.inputs, rows.gold, strict=True)
    ]


tokens = st.lists(st.tuples(st.integers(0, 29), st.booleans()), max_size=40)
shares = st.sampled_from([(0.8, 0.1, 0.1), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.3, 0.3, 0.4)])
fractions = st.one_of(
    st.floats(0.01, 1.0), st.tuples(st.floats(0.0, 0.5), st.floats(0.5, 1.0)), st.just(0.15)
)
settings_of = st.builds(
    lambda fraction, share, whole, seed: MaskSettings(
        fraction, share[0], share[1], share[2], whole, seed
    ),
    fractions,
    shares,
    st.booleans(),
    st.integers(0, MASK64),
)


@given(
    st.lists(tokens, min_size=1, max_size=4), settings_of, st.integers(0, 2**40), st.integers(0, 5)
)
def test_masks_are_those_of_the_specification(rows, settings, first, view):
    ids = [[token for token, _ in row] for row in rows]
    starts = [[start for _, start in row] for row in rows]
    found = mask_segments(segments(ids, starts), first, view, settings, SUPPORT)
    assert triples(found) == [
        reference(row, start, first + number, view, settings, SUPPORT)
        for number, (row, start) in enumerate(zip(ids, starts, strict=True))
    ]
    assert all(p.dtype == np.uint16 for p in found.positions)
    assert all(a.dtype == np.uint16 for a in (*found.inputs, *found.gold))


def corpus(count, length, seed=0):
    drawn = np.random.default_rng(seed).integers(5, 29, (count, length)).tolist()
    return [[2, *row, 3] for row in drawn]


@given(st.integers(0, 29), st.integers(1, 10), settings_of)
def test_any_shard_alone_is_the_same_as_in_the_whole(start, count, settings):
    ids = corpus(40, 20)
    whole = triples(mask_segments(segments(ids), 100, 1, settings, SUPPORT))
    part = mask_segments(segments(ids[start : start + count]), 100 + start, 1, settings, SUPPORT)
    assert triples(part) == whole[start : start + count]


@given(fractions, st.integers(3, 600), st.integers(1, 2), st.integers(0, 1000))
def test_no_example_has_more_slots_than_there_is_room_for(fraction, length, n_special, segment):
    settings = MaskSettings(fraction)
    ids = [[5] * (length - n_special)]
    found = mask_segments(segments(ids), segment, 0, settings, SUPPORT)
    assert len(found.positions[0]) <= slots_per_example(settings, length, n_special)


FROZEN = [(5, 4, 9), (6, 4, 10), (10, 4, 14), (12, 4, 16), (13, 7, 17), (16, 4, 20)]


def test_a_frozen_example():
    """The masks of a cache must not change between versions."""
    ids = [[2, *range(5, 25), 3]]
    found = mask_segments(segments(ids), 7, 1, MaskSettings(0.3, seed=11), SUPPORT)
    assert triples(found) == [FROZEN]


def test_views_seeds_and_segments_differ():
    ids = corpus(1, 100)
    masks = {
        (seed, view, segment): tuple(
            mask_segments(segments(ids), segment, view, MaskSettings(0.15, seed=seed), SUPPORT)
            .positions[0]
            .tolist()
        )
        for seed in range(3)
        for view in range(3)
        for segment in range(3)
    }
    assert len(set(masks.values())) == len(masks)


@pytest.mark.parametrize("whole_word", [False, True])
def test_special_tokens_are_never_slots_nor_random_tokens(whole_word):
    ids = [[2, 5, 29, 4, 6, 0, 7, 3, 8, 3]] * 300
    settings = MaskSettings(1.0, 0.0, 1.0, 0.0, whole_word)
    found = mask_segments(segments(ids), 0, 0, settings, SUPPORT)
    assert {tuple(row.tolist()) for row in found.positions} == {(1, 4, 6, 8)}
    seen = set(np.concatenate(found.inputs).tolist())
    assert seen == set(range(30)) - {0, 2, 3, 4, 29}


def test_short_segments_may_have_no_slots():
    found = mask_segments(
        segments([[2, 5, 6, 7, 3], [2, 3], []]), 0, 0, MaskSettings(0.15), SUPPORT
    )
    assert [len(row) for row in found.positions] == [0, 0, 0]
    found = mask_segments(segments([[2, 5, 6, 7, 8, 3]]), 0, 0, MaskSettings(0.15), SUPPORT)
    assert [len(row) for row in found.positions] == [1]


def test_whole_words_are_slots_together_or_not_at_all():
    starts = [True, *([True, False, False] * 20), True]
    ids = [[2, *([5, 6, 7] * 20), 3]] * 200
    found = mask_segments(
        segments(ids, [starts] * 200), 0, 0, MaskSettings(0.15, whole_word=True), SUPPORT
    )
    for row in found.positions:
        assert len(row) == 9
        assert row.reshape(-1, 3).tolist() == [[at, at + 1, at + 2] for at in row[::3].tolist()]
        assert all((at - 1) % 3 == 0 for at in row[::3].tolist())


def within(observed, expected, trials, sigmas=5.0):
    spread = math.sqrt(trials * expected * (1 - expected))
    return abs(observed - trials * expected) <= sigmas * spread


def test_shares_and_positions_are_as_asked():
    ids = corpus(3000, 100)
    found = mask_segments(segments(ids), 0, 0, MaskSettings(0.15), SUPPORT)
    inputs, gold = np.concatenate(found.inputs), np.concatenate(found.gold)
    total = len(gold)
    assert total == 3000 * 15
    assert within(int((inputs == 4).sum()), 0.8, total)
    kept = int((inputs == gold).sum())
    assert within(kept, 0.1 + 0.1 / 25, total)
    at = Counter(np.concatenate(found.positions).tolist())
    assert min(at) == 1
    assert max(at) == 100
    assert all(within(at[position], 0.15, 3000) for position in range(1, 101))


def test_ranges_are_drawn_anew_and_evenly():
    ids = corpus(2000, 200)
    found = mask_segments(segments(ids), 0, 0, MaskSettings((0.1, 0.9)), SUPPORT)
    fraction = np.array([len(row) for row in found.positions]) / 200
    assert 0.1 <= fraction.min() < 0.12
    assert 0.88 < fraction.max() <= 0.9
    for low in (0.1, 0.3, 0.5, 0.7):
        inside = int(((low <= fraction) & (fraction < low + 0.2)).sum())
        assert within(inside, 0.25, 2000)


def test_slots_per_example_is_the_largest_fraction_of_the_text():
    assert slots_per_example(MaskSettings(0.15), 128, 2) == 19
    assert slots_per_example(MaskSettings((0.0, 1.0)), 128, 2) == 126
    assert slots_per_example(MaskSettings(0.01), 10, 2) == 1
    with pytest.raises(CorpusError, match="segment_tokens is 2"):
        slots_per_example(MaskSettings(0.15), 2, 2)


@pytest.mark.parametrize(
    "fraction", [0.0, -0.1, 1.1, (0.5, 0.2), (0.0, 0.0), (0.1, 1.5), float("nan")]
)
def test_fractions_out_of_range(fraction):
    with pytest.raises(RecipeError, match="mask_fraction is"):
        MaskSettings(fraction)


@pytest.mark.parametrize("share", [(0.8, 0.1, 0.2), (1.2, -0.1, -0.1), (float("nan"), 0, 0)])
def test_shares_that_do_not_sum_to_one(share):
    with pytest.raises(RecipeError, match="sum to 1"):
        MaskSettings(0.15, *share)


def test_a_mask_token_is_needed():
    support = Vocabulary(30, {"mask": None, "pad": 0})
    with pytest.raises(CorpusError, match="no mask token"):
        mask_segments(segments([[5]]), 0, 0, MaskSettings(0.15), support)
    with pytest.raises(CorpusError, match="All 1 tokens"):
        mask_segments(segments([[0]]), 0, 0, MaskSettings(0.15), Vocabulary(1, {"mask": 0}))
