from __future__ import annotations

import math

import numpy as np
import pytest

from ckd_cache.numerics.topk import reference_distributions, top_k


def test_equal_values_stand_by_ascending_id():
    ids, values = top_k([[1.0, 3.0, 3.0, 1.0, 3.0]], 4)
    assert ids.tolist() == [[1, 2, 4, 0]]
    assert values.tolist() == [[3.0, 3.0, 3.0, 1.0]]


def test_gold_rank_counts_in_the_order_of_the_ids():
    logits = np.tile([1.0, 3.0, 3.0, 1.0, -np.inf], (5, 1))
    found = reference_distributions(logits, np.arange(5), 2, [1.0])
    assert found.gold_rank.tolist() == [2, 0, 1, 3, 4]
    assert found.gold_logprob[4] == -np.inf


def test_tail_keeps_its_relative_precision_when_tiny():
    logits = np.array([[0.0, -40.0, -41.0, -42.0]])
    found = reference_distributions(logits, [0], 2, [1.0])
    complement = math.exp(-41.0) + math.exp(-42.0)
    assert found.tail[0, 0] == pytest.approx(math.log(complement), rel=1e-15)
    # What the float32 difference 1 - sum makes of it.
    assert np.float32(1.0) - np.exp(found.logprobs[0], dtype=np.float32).sum() <= 0.0


def test_head_keeps_its_relative_precision_when_tiny():
    found = reference_distributions(np.zeros((1, 1 << 20)), [0], 1, [1.0])
    assert -math.expm1(found.tail[0, 0]) == pytest.approx(2.0**-20, rel=1e-15)


def test_minus_infinity_is_probability_zero():
    logits = np.array([[2.0, -np.inf, 0.0, -np.inf], [-np.inf, -np.inf, 5.0, -np.inf]])
    found = reference_distributions(logits, [0, 0], 3, [1.0, 2.0])
    assert found.n_valid.tolist() == [2, 1]
    assert found.ids.tolist() == [[0, 2, 0], [2, 0, 0]]
    assert found.logprobs[0, 2] == found.logprobs[1, 1] == -np.inf
    np.testing.assert_array_equal(found.tail, -np.inf)
    np.testing.assert_array_equal(found.entropy[1], 0.0)
    assert found.gold_logprob[1] == -np.inf


def test_nothing_is_outside_the_whole_support():
    logits = np.random.default_rng(1).normal(size=(4, 9))
    found = reference_distributions(logits, np.zeros(4, int), 9, [1.0])
    np.testing.assert_array_equal(found.tail, -np.inf)
    np.testing.assert_allclose(np.exp(found.logprobs).sum(axis=1), 1.0)
