"""Implied ids and levels, against definitions written out slot by slot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckd_cache.numerics.gathering import from_levels, gathered_ids, to_levels
from ckd_cache.numerics.quantise import level_dtype


def kept_ids(generator: np.random.Generator, slots: int, k: int, size: int):
    """Distinct ids by rank with a random number of them kept; one slot is unused."""
    ids = np.stack([generator.permutation(size)[:k] for _ in range(slots)]).astype(np.int32)
    n_valid = generator.integers(1, k + 1, slots).astype(np.int32)
    n_valid[0] = 0
    return np.where(np.arange(k) < n_valid[:, None], ids, 0), n_valid


def slowly(own, own_valid, others, width):
    ids = np.full((len(own), width), -1)
    for slot in range(len(own)):
        if own_valid[slot]:
            union = {int(v) for one, n in others for v in one[slot, : n[slot]]}
            left = sorted(union - set(own[slot, : own_valid[slot]].tolist()))
            ids[slot, : len(left)] = left
    return ids


@given(seed=st.integers(0, 2**32), others=st.integers(1, 3), size=st.integers(5, 30))
def test_gathered_are_the_ids_that_only_others_keep(seed, others, size):
    generator = np.random.default_rng(seed)
    teachers = [
        kept_ids(generator, 12, int(generator.integers(1, 6)), size) for _ in range(others + 1)
    ]
    own, own_valid = teachers[0]
    rest = [(ids, np.where(own_valid > 0, np.maximum(n, 1), 0)) for ids, n in teachers[1:]]
    width = min(sum(ids.shape[1] for ids, _ in rest), size)
    ids, n_valid = gathered_ids(own, own_valid, rest, width)
    expected = slowly(own, own_valid, rest, width)
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_array_equal(n_valid, (expected >= 0).sum(axis=1))


def test_they_keep_the_shape_of_examples_and_slots():
    generator = np.random.default_rng(0)
    own, n = kept_ids(generator, 6000, 4, 50)
    other, m = kept_ids(generator, 6000, 3, 50)
    flat, count = gathered_ids(own, n, [(other, m)], 3)
    shaped = gathered_ids(
        own.reshape(1000, 6, 4),
        n.reshape(1000, 6),
        [(other.reshape(1000, 6, 3), m.reshape(1000, 6))],
        3,
    )
    np.testing.assert_array_equal(shaped[0].reshape(6000, 3), flat)
    np.testing.assert_array_equal(shaped[1].reshape(6000), count)
    assert flat.dtype == np.int32
    assert count.dtype == np.int32


def test_the_largest_ids_of_a_support_are_told_apart():
    high = 2**31 - 1
    ids, n_valid = gathered_ids(
        np.array([[high]]), np.array([1]), [(np.array([[high, high - 1]]), np.array([2]))], 2
    )
    assert (ids.tolist(), n_valid.tolist()) == ([[high - 1, -1]], [1])


@pytest.mark.parametrize("step", [0.049, 1e-3])
def test_levels_are_off_by_half_a_step(step):
    generator = np.random.default_rng(1)
    logprobs = -generator.exponential(8.0, (20, 5))
    n_valid = generator.integers(0, 6, 20)
    stored = to_levels(logprobs, n_valid, step)
    assert stored.dtype == level_dtype(step)
    there = np.arange(5) < n_valid[:, None]
    assert not stored[~there].any()
    found = from_levels(stored, n_valid, step)
    assert np.isneginf(found[~there]).all()
    assert np.abs(found - logprobs)[there].max() <= step / 2 * (1 + 1e-5)


@pytest.mark.parametrize("step", [0.049, 1e-3])
def test_probability_zero_has_a_level_of_its_own(step):
    largest = np.iinfo(level_dtype(step)).max
    stored = to_levels(np.array([[-np.inf, -1e9, 0.0]]), np.array([3]), step)
    assert stored.tolist() == [[largest, largest - 1, 0]]
    found = from_levels(stored, np.array([3]), step)
    assert np.isneginf(found[0, 0])
    assert found[0, 1] < -799
    assert found[0, 2] == 0
