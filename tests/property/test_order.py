"""The order of an epoch: each example once, a pure function, windows in memory only."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ckd_student.order import chunk_of, epoch_order

chunks_of_a_set = st.lists(st.lists(st.booleans(), min_size=1, max_size=9), max_size=20).map(
    lambda masks: [
        chunk
        for start, mask in enumerate(masks)
        if (chunk := chunk_of(100 * start, np.array(mask))).count
    ]
)
settings = st.tuples(
    chunks_of_a_set, st.integers(0, 2**64 - 1), st.integers(0, 9), st.integers(1, 7)
)


def numbers(chunks, seed, epoch, window):
    return [int(n) for part in epoch_order(chunks, seed, epoch, window) for n in part]


@given(settings)
def test_every_example_that_takes_part_comes_once(setting):
    chunks = setting[0]
    expected = [int(n) for chunk in chunks for n in chunk.examples()]
    assert sorted(numbers(*setting)) == expected


@given(settings)
def test_each_window_holds_whole_chunks_and_no_chunk_comes_back(setting):
    chunks, _, _, window = setting
    seen: set[int] = set()
    for part in epoch_order(*setting):
        inside = {int(n) // 100 for n in part}
        assert len(inside) <= window
        assert not inside & seen
        assert len(part) == sum(chunk.count for chunk in chunks if chunk.start // 100 in inside)
        seen |= inside


@given(settings)
def test_the_same_arguments_give_the_same_order(setting):
    assert numbers(*setting) == numbers(*setting)


def test_seeds_and_epochs_give_different_orders_and_all_orders_occur():
    chunks = [chunk_of(100 * n, np.ones(3, dtype=bool)) for n in range(12)]
    orders = {tuple(numbers(chunks, seed, epoch, 4)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25
    small = [chunk_of(0, np.ones(3, dtype=bool))]
    assert len({tuple(numbers(small, seed, 0, 1)) for seed in range(100)}) == 6


def test_the_order_is_frozen():
    """A change of this order changes every student: it must be on purpose."""
    chunks = [chunk_of(10 * n, np.array([True, n % 2 == 0, True])) for n in range(5)]
    assert numbers(chunks, 7, 3, 2) == [22, 42, 20, 41, 40, 21, 2, 0, 30, 1, 32, 10, 12]


def test_words_are_those_of_philox_with_the_documented_key_and_counter():
    """Counter (b, stream, 1, 0), key (seed, epoch): the cipher written out in plain integers."""
    source = np.random.Philox(
        key=np.array([5, 2], dtype=np.uint64), counter=np.array([0, 3, 1, 0], dtype=np.uint64)
    )
    assert source.random_raw(8).tolist() == [
        *_philox((1, 3, 1, 0), (5, 2)),
        *_philox((2, 3, 1, 0), (5, 2)),
    ]


def _philox(counter, key):
    mask = 2**64 - 1
    for _ in range(10):
        first, second = counter[0] * 0xD2E7470EE14C6C93, counter[2] * 0xCA5A826395121157
        counter = (
            (second >> 64) ^ counter[1] ^ key[0],
            second & mask,
            (first >> 64) ^ counter[3] ^ key[1],
            first & mask,
        )
        key = ((key[0] + 0x9E3779B97F4A7C15) & mask, (key[1] + 0xBB67AE8584CAA73B) & mask)
    return counter
