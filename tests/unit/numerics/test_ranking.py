"""The order of float32 logprobs, found by sorting fewer bits than it takes."""

from __future__ import annotations

import numpy as np
import pytest

from ckd_cache.numerics.ranking import most_probable
from ckd_cache.numerics.union import Block, counts_known, summed, unite


def _slow(masses: np.ndarray, totals: np.ndarray, k: int) -> np.ndarray:
    with np.errstate(divide="ignore"):
        logs = np.minimum(np.log(masses / totals[:, None]), 0.0).astype(np.float32)
    return np.argsort(-logs, axis=1, kind="stable")[:, :k]


def _check(masses: np.ndarray, totals: np.ndarray, k: int) -> None:
    found = most_probable(masses, totals, k)
    rows = np.arange(len(masses))[:, None] * masses.shape[1]
    places = _slow(masses, totals, k)
    np.testing.assert_array_equal(found.at - rows, places)
    kept = np.take_along_axis(masses, places, axis=1) / totals[:, None]
    np.testing.assert_array_equal(found.masses, kept)
    with np.errstate(divide="ignore"):
        logs = np.minimum(np.log(kept), 0.0).astype(np.float32)
    np.testing.assert_array_equal(found.logprobs, logs)


@pytest.mark.parametrize("apart", [0.0, 1e-16, 1e-9, 1e-7, 1e-6, 1e-5, 1e-4])
@pytest.mark.parametrize(("width", "k"), [(3, 2), (40, 32), (98, 32), (300, 5), (70, 100)])
def test_masses_that_are_almost_equal_are_told_apart_by_their_logs(apart, width, k):
    rng = np.random.default_rng(width)
    masses = rng.choice(np.exp(-rng.uniform(0.0, 20.0, 6)), size=(200, width))
    masses *= 1.0 + apart * rng.normal(size=masses.shape)
    masses[rng.random(masses.shape) < 0.2] = 0.0
    masses[:, 0] = 0.5
    _check(masses, masses.sum(axis=1) + 0.1, k)


@pytest.mark.parametrize("power", [0, -30, -38, -45, -60, -300])
def test_masses_too_small_for_float32_are_ranked_too(power):
    rng = np.random.default_rng(0)
    masses = rng.random((100, 60)) * 10.0**power
    masses[:, :3] = rng.random((100, 3))
    _check(masses, np.full(100, 3.0), 20)


def test_a_mass_that_rounds_above_its_total_has_logprob_0():
    found = most_probable(np.array([[0.0, 1.0 + 2e-16]]), np.array([1.0]), 2)
    assert found.at.tolist() == [[1, 0]]
    assert found.logprobs.tolist() == [[0.0, -np.inf]]
    assert not np.signbit(found.logprobs[0, 0] + 0.0)


@pytest.mark.parametrize("largest", [100, 1 << 20, 1 << 31, 1 << 40])
@pytest.mark.parametrize("sources", [1, 3, 4, 11])
def test_equal_ids_are_added_up_and_their_sources_counted(largest, sources):
    rng = np.random.default_rng(sources)
    ids = [np.array([rng.choice(12, 5, replace=False) for _ in range(60)]) for _ in range(sources)]
    ids = [np.where(one == 11, largest, one) for one in ids]
    used = [rng.random(one.shape) < 0.8 for one in ids]
    masses = [rng.random(one.shape) * use for one, use in zip(ids, used, strict=True)]
    union = unite([Block(*one, t) for t, one in enumerate(zip(ids, used, strict=True))])
    columns = np.concatenate([*masses, np.zeros((60, 1))], axis=1)
    total = summed(union, union.gather(columns))
    first = union.first()
    for i in range(60):
        expected: dict[int, float] = {}
        knowing: dict[int, list[int]] = {}
        for t in range(sources):
            for j in np.flatnonzero(used[t][i]):
                v = int(ids[t][i, j])
                expected[v] = expected.get(v, 0.0) + masses[t][i, j]
                knowing.setdefault(v, []).append(t)
        found = dict(zip(union.ids[i, first[i]].tolist(), total[i, first[i]].tolist(), strict=True))
        assert found == pytest.approx(expected)
        assert (total[i, ~first[i]] == 0.0).all()
        at = np.flatnonzero(first[i]) + i * first.shape[1]
        counts = counts_known(union, at[None], np.ones((1, at.size), np.bool_))[0]
        assert counts.tolist() == [sum(t in ts for ts in knowing.values()) for t in range(sources)]
