from __future__ import annotations

import numpy as np
import pytest

from ckd_cache.merge.segments import segment_means, sums_of_others


def test_means_run_over_the_counted_slots_of_a_segment():
    values = np.array([[1.0, -np.inf], [np.nan, 7.0], [3.0, 5.0], [9.0, 9.0], [2.0, 4.0]])
    counted = np.array([True, False, True, False, True])
    found = segment_means(values, counted, np.array([4, 4, 4, 8, 9]))
    expected = [[2.0, -np.inf]] * 3 + [[0.0, 0.0], [2.0, 4.0]]
    assert found.tolist() == expected


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 9, 31, 32, 33, 100])
def test_one_group_sums_to_all_but_the_own_unit(n):
    values = np.random.default_rng(n).integers(-50, 0, (n, 2)).astype(np.float64)
    found = sums_of_others(values, np.zeros((n, 1), np.int64), np.arange(n))
    np.testing.assert_array_equal(found, values.sum(axis=0) - values)


def test_groups_and_units_may_stand_in_any_order():
    rng = np.random.default_rng(0)
    n = 200
    values = rng.integers(-50, 0, (n, 2)).astype(np.float64)
    group, unit = rng.integers(0, 3, (n, 2)), rng.integers(0, 30, n)
    found = sums_of_others(values, group, unit)
    for i in range(n):
        others = [j for j in range(n) if (group[j] == group[i]).all() and unit[j] != unit[i]]
        assert found[i].tolist() == values[others].sum(axis=0).tolist()


def test_what_is_infinite_counts_for_the_others_alone():
    found = sums_of_others(
        np.array([[-np.inf], [-1.0], [-2.0]]), np.zeros((3, 1), np.int64), np.arange(3)
    )
    assert found.tolist() == [[-3.0], [-np.inf], [-np.inf]]


def test_small_values_beside_large_ones_keep_their_digits():
    values = np.array([[-1e17], [-0.5], [-0.25]])
    found = sums_of_others(values, np.zeros((3, 1), np.int64), np.arange(3))
    assert found[0, 0] == -0.75
