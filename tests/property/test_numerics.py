"""Algebra and round trips of the array functions."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ckd_cache.numerics.quantise import (
    float_up,
    from_drops,
    from_share,
    half_up,
    step_of,
    to_drops,
    to_share,
)
from ckd_cache.numerics.topk import reference_distributions

_finite = st.floats(-60, 60)
_logits = st.integers(2, 12).flatmap(
    lambda v: hnp.arrays(np.float64, (3, v), elements=_finite | st.just(-np.inf)).filter(
        lambda x: bool(np.isfinite(x).any(axis=1).all())
    )
)


def _by_definition(row, gold, k, t):
    """One slot at one temperature, with plain Python sums over exact-order sorting."""
    order = sorted(range(len(row)), key=lambda v: (-row[v], v))
    powers = np.exp((row - row.max()) / t)
    p = powers / powers.sum()
    entropy = -sum(x * np.log(x) for x in p if x > 0)
    return order, p, p[order[k:]].sum(), entropy, order.index(gold)


@given(_logits, st.data())
def test_distributions_are_those_of_the_definition(logits, data):
    size = logits.shape[1]
    k = data.draw(st.integers(1, size))
    gold = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=3, max_size=3)))
    found = reference_distributions(logits, gold, k, [1.0, 3.0])
    for i, row in enumerate(logits):
        for j, t in enumerate((1.0, 3.0)):
            order, p, tail, entropy, rank = _by_definition(row, gold[i], k, t)
            np.testing.assert_allclose(np.exp(found.tail[i, j]), tail, rtol=1e-9, atol=1e-300)
            np.testing.assert_allclose(found.entropy[i, j], entropy, rtol=1e-9, atol=1e-12)
            assert found.gold_rank[i] == rank
        n = found.n_valid[i]
        order, p, _, _, _ = _by_definition(row, gold[i], k, 1.0)
        assert n == min(k, np.isfinite(row).sum())
        assert found.ids[i, :n].tolist() == order[:n]
        np.testing.assert_allclose(np.exp(found.logprobs[i, :n]), p[order[:n]], rtol=1e-9)
        np.testing.assert_allclose(np.exp(found.gold_logprob[i]), p[gold[i]], rtol=1e-9)


@given(_logits, st.data())
def test_head_and_tail_sum_to_one(logits, data):
    k = data.draw(st.integers(1, logits.shape[1]))
    found = reference_distributions(logits, [0, 0, 0], k, [1.0])
    total = np.exp(found.logprobs).sum(axis=1) + np.exp(found.tail[:, 0])
    np.testing.assert_allclose(total, 1.0, rtol=1e-12)


@given(_logits, st.data(), st.sampled_from([1e-6, 1e-4, 1e-2]))
def test_quantised_logprobs_stay_within_their_bound(logits, data, max_nats):
    k = data.draw(st.integers(1, logits.shape[1]))
    exact = reference_distributions(logits, [0, 0, 0], k, [1.0])
    step = step_of(max_nats)
    drops = to_drops(exact.logprobs, exact.n_valid, step)
    found = from_drops(drops, exact.n_valid, exact.tail[:, 0], step).astype(np.float64)
    kept = np.arange(k) < exact.n_valid[:, None]
    levels = -step * np.cumsum(drops, axis=1, dtype=np.int64)
    rounding = 1e-5 + 1e-6 * np.abs(exact.logprobs[kept])
    assert (np.abs(levels - exact.logprobs)[kept] <= step / 2 * (1 + 1e-9) + 1e-12).all()
    assert (np.abs(found[kept] - exact.logprobs[kept]) <= step + rounding).all()
    assert (found[~kept] == -np.inf).all()
    np.testing.assert_allclose(np.exp(found).sum(axis=1), -np.expm1(exact.tail[:, 0]), rtol=1e-5)


@given(_logits, st.sampled_from([1e-4, 1e-2]))
def test_reading_and_writing_again_changes_no_stored_number(logits, max_nats):
    k = logits.shape[1]
    exact = reference_distributions(logits, [0, 0, 0], k, [1.0])
    step = step_of(max_nats)
    drops = to_drops(exact.logprobs, exact.n_valid, step)
    found = from_drops(drops, exact.n_valid, exact.tail[:, 0], step)
    again = to_drops(found, exact.n_valid, step)
    # Rescaling shifts all levels of a slot alike: the differences stay, give or take one level.
    assert (np.abs(np.diff(drops.astype(int)[:, 1:] - again.astype(int)[:, 1:], axis=1)) <= 2).all()


@given(hnp.arrays(np.float64, 20, elements=st.floats(allow_nan=False)))
def test_rounding_up_is_never_below_and_never_a_step_too_far(x):
    for round_up, dtype in ((half_up, np.float16), (float_up, np.float32)):
        found = round_up(x)
        assert found.dtype == dtype
        assert (found.astype(np.float64) >= x).all()
        with np.errstate(over="ignore"):
            below = np.nextafter(found, dtype(-np.inf)).astype(np.float64)
        assert ((below < x) | (found == -np.inf)).all()


@given(
    st.integers(1, 6).flatmap(
        lambda s: hnp.arrays(np.float64, (4, s), elements=st.floats(0, 1)).filter(
            lambda x: bool((x.sum(axis=1) > 1e-6).all())
        )
    )
)
def test_shares_keep_weights(x):
    weights = x / x.sum(axis=1, keepdims=True)
    found = from_share(to_share(weights))
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(found, weights, atol=weights.shape[1] / 65535)
