from __future__ import annotations

import math

import numpy as np
import pytest

from ckd_cache.numerics.quantise import (
    from_drops,
    from_share,
    level_dtype,
    step_of,
    to_drops,
    to_grid,
    to_half,
    to_share,
)


def test_the_step_costs_what_was_asked():
    assert step_of(1e-4) == pytest.approx(0.04898979, rel=1e-6)
    assert step_of(0.0) == 0.0
    rng = np.random.default_rng(0)
    exact = np.log(-np.sort(-rng.dirichlet(np.full(64, 0.5), size=4000), axis=1))
    for max_nats in (1e-4, 1e-3):
        drops = to_drops(exact, np.full(4000, 64), step_of(max_nats))
        found = from_drops(drops, np.full(4000, 64), np.full(4000, -np.inf), step_of(max_nats))
        kl = (np.exp(found.astype(float)) * (found - exact)).sum(axis=1).mean()
        assert kl == pytest.approx(max_nats, rel=0.15)


def test_levels_are_rounded_half_to_even():
    drops = to_drops([-0.5, -1.5, -2.5, -3.5], 4, 1.0)
    assert np.cumsum(drops).tolist() == [0, 2, 2, 4]


@pytest.mark.parametrize(
    ("step", "bits"), [(800 / 65535, 16), (800 / 65535 * 0.999, 32), (1.0, 16), (1e-5, 32)]
)
def test_the_type_covers_800_nats(step, bits):
    assert level_dtype(step).itemsize * 8 == bits
    assert to_drops([-799.0], 1, step).dtype == level_dtype(step)


def test_levels_saturate():
    step = step_of(1e-4)
    drops = to_drops([-1.0, -1e6, -np.inf], 3, step)
    assert int(drops.astype(int).sum()) == 65535
    assert from_drops(drops, 3, -np.inf, step)[1] < -3000


def test_rounding_noise_gives_no_negative_drop():
    drops = to_drops([-1.0, -0.9, 1e-9], 3, 0.01)
    assert drops.tolist() == [100, 0, 0]


def test_nothing_is_stored_beyond_the_kept_entries():
    logprobs = np.array([[-1.0, -2.0, -np.inf], [np.nan, np.nan, np.nan]])
    drops = to_drops(logprobs, [2, 0], 0.5)
    assert drops.tolist() == [[2, 2, 0], [0, 0, 0]]
    found = from_drops(drops, [2, 0], [-np.inf, 0.0], 0.5)
    assert found.dtype == np.float32
    np.testing.assert_allclose(
        np.exp(found[0]), [math.e / (1 + math.e), 1 / (1 + math.e), 0.0], rtol=1e-6
    )
    assert np.isnan(found[1]).all()


def test_a_certain_entry_reads_back_as_certain():
    assert from_drops([3, 0], 1, -np.inf, 0.1).tolist() == [0.0, -np.inf]


def test_the_grid_is_exact_for_its_multiples():
    found = to_grid([-0.00048, -0.00049, 5.0, -np.inf, np.nan])
    np.testing.assert_array_equal(found, np.array([0.0, -(2.0**-10), 5.0, -np.inf, np.nan]))


def test_half_takes_what_does_not_fit_for_infinite():
    np.testing.assert_array_equal(to_half([-1e6, 1.0, np.nan]), [-np.inf, 1.0, np.nan])


@pytest.mark.parametrize("n", [1, 2, 3, 7, 12])
def test_equal_weights_read_back_equal(n):
    np.testing.assert_array_equal(from_share(to_share(np.full((1, n), 1 / n))), np.float32(1 / n))


def test_shares_of_unused_slots_are_zero():
    stored = to_share([[np.nan, np.nan], [0.0, 1.0]])
    assert stored.tolist() == [[0, 0], [0, 65535]]
    np.testing.assert_array_equal(from_share(stored), [[np.nan, np.nan], [0.0, 1.0]])
