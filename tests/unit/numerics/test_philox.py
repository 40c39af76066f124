from __future__ import annotations

import numpy as np
import pytest

from ckd_cache.numerics.philox import words, words_at

_MASK = (1 << 64) - 1


def _philox4x64_10(counter, key):
    """Straight from Salmon et al. (2011), figure 2 and section 4.1; no numpy."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = divmod(0xD2E7470EE14C6C93 * c0, 1 << 64)
        high1, low1 = divmod(0xCA5A826395121157 * c2, 1 << 64)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & _MASK, (k1 + 0xBB67AE8584CAA73B) & _MASK
    return [c0, c1, c2, c3]


def test_the_oracle_knows_the_published_answer():
    # Random123 1.14, kat_vectors: philox4x64 10, all zeros.
    assert _philox4x64_10([0, 0, 0, 0], [0, 0]) == [
        0x16554D9ECA36314C,
        0xDB20FE9D672D0FDC,
        0xD7E772CEE186176B,
        0x7E68B68AEC7BA23B,
    ]


@pytest.mark.parametrize(
    ("seed", "view", "segment", "count"),
    [
        (0, 0, 0, 1),
        (0, 0, 0, 8),
        (7, 1, 123_456_789_012, 19),
        (_MASK, _MASK, _MASK, 5),
        (1, 2, 3, 0),
    ],
)
def test_words_are_those_of_the_format(seed, view, segment, count):
    blocks = -(-count // 4)
    expected = [
        word
        for b in range(1, blocks + 1)
        for word in _philox4x64_10([b, segment, 0, 0], [seed, view])
    ]
    found = words(seed, view, segment, count)
    assert found.dtype == np.uint64
    assert found.tolist() == expected[:count]


def test_fewer_words_are_a_prefix():
    assert words(3, 1, 4, 300)[:17].tolist() == words(3, 1, 4, 17).tolist()


@pytest.mark.parametrize("count", [0, 1, 4, 9])
def test_words_of_slots_are_those_of_their_counters(count):
    example = np.array([0, 3, 3, 2**62 + 12_345], dtype=np.int64)
    slot = np.array([0, 0, 126, 5], dtype=np.int64)
    found = words_at(2**63 + 9, 2, example, slot, count)
    assert found.dtype == np.uint64
    assert found.shape == (4, count)
    for row, e, s in zip(found.tolist(), example.tolist(), slot.tolist(), strict=True):
        expected = [
            word for b in range(1, 4) for word in _philox4x64_10([b, e, s, 2], [2**63 + 9, 0])
        ]
        assert row == expected[:count]
    assert words_at(0, 1, example[:0], slot[:0], count).shape == (0, count)
