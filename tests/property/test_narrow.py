"""Adaptive k against its definition, slot by slot."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ckd_cache.numerics.narrow import narrow
from ckd_cache.numerics.topk import reference_distributions
from ckd_cache.types import TeacherArrays, array_names

TEMPERATURES = (0.5, 1.0, 3.0)
SIZE = 30


def distributions(logits, k):
    dense = reference_distributions(logits, np.zeros(len(logits), int), k, TEMPERATURES)
    arrays = {n: np.asarray(getattr(dense, n))[:, None] for n in array_names(TeacherArrays)}
    # A second slot, unused.
    return TeacherArrays(
        **{
            n: np.concatenate([a, np.full_like(a, np.nan if a.dtype.kind == "f" else 0)], axis=1)
            for n, a in arrays.items()
        }
    )


@given(st.integers(1, SIZE), st.floats(0.01, 1.0), st.floats(0.1, 20.0), st.integers(0, 999))
def test_the_fewest_entries_that_hold_the_mass_are_kept(k, top_p, scale, seed):
    logits = np.random.default_rng(seed).normal(scale=scale, size=(3, SIZE))
    logits[2, 4:] = -np.inf
    arrays = distributions(logits, k)
    found = narrow(arrays, top_p, TEMPERATURES)
    assert found.n_valid[:, 1].tolist() == [0, 0, 0]
    for row in range(3):
        before = int(arrays.n_valid[row, 0])
        n = int(found.n_valid[row, 0])
        mass = np.cumsum(np.exp(arrays.logprobs[row, 0, :before].astype(float)))
        assert 1 <= n <= before
        # At 1 all is kept, also where the mass is 1 before the last entry.
        assert n == before if top_p == 1.0 else n == 1 or mass[n - 2] < top_p
        assert n == before or mass[n - 1] >= top_p - 1e-12
        assert found.ids[row, 0, :n].tolist() == arrays.ids[row, 0, :n].tolist()
        assert not found.ids[row, 0, n:].any()
        assert np.isneginf(found.logprobs[row, 0, n:]).all()
        for index, temperature in enumerate(TEMPERATURES):
            scaled = logits[row] / temperature
            dense = np.exp(scaled - np.logaddexp.reduce(scaled))
            outside = np.delete(dense, found.ids[row, 0, :n]).sum()
            tail = float(np.exp(float(found.tail[row, 0, index])))
            np.testing.assert_allclose(tail, outside, rtol=2e-5, atol=1e-9)


def test_all_the_mass_keeps_everything():
    arrays = distributions(np.zeros((2, SIZE)), 8)
    assert narrow(arrays, 1.0, TEMPERATURES) is arrays
