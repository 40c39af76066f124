from __future__ import annotations

import hashlib
from collections import Counter
from fractions import Fraction

import pytest

from ckd_cache.numerics.splits import FIT, SPLIT_NAMES, TEST, TRAIN, split_of


def test_names_stand_at_their_numbers():
    assert (SPLIT_NAMES[TRAIN], SPLIT_NAMES[FIT], SPLIT_NAMES[TEST]) == ("train", "fit", "test")


@pytest.mark.parametrize(("fit", "test"), [(0.02, 0.02), (0.3, 0.5), (0.0, 0.0), (0.25, 0.75)])
def test_splits_are_those_of_the_format(fit, test):
    for i in range(500):
        name = f"Dokument-ä/{i}"
        digest = hashlib.sha256(name.encode()).digest()
        u = Fraction(int.from_bytes(digest[:8], "big"), 2**64)
        expected = TEST if u < test else FIT if u < test + fit else TRAIN
        assert split_of(name, fit, test) == expected


def test_shares_are_met():
    counts = Counter(split_of(str(i), 0.2, 0.1) for i in range(20_000))
    assert counts[FIT] / 20_000 == pytest.approx(0.2, abs=0.01)
    assert counts[TEST] / 20_000 == pytest.approx(0.1, abs=0.01)


def test_growing_a_split_moves_no_document_back():
    before = [i for i in range(2_000) if split_of(str(i), 0.0, 0.1) == TEST]
    after = [i for i in range(2_000) if split_of(str(i), 0.0, 0.2) == TEST]
    assert set(before) < set(after)


def test_everything_may_be_one_split():
    assert {split_of(str(i), 0.0, 1.0) for i in range(200)} == {TEST}
    assert {split_of(str(i), 1.0, 0.0) for i in range(200)} == {FIT}
