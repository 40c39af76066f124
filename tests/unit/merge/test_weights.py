from __future__ import annotations

import numpy as np
import pytest

from ckd_cache.merge.weights import WEIGHTINGS, gold, uniform


def test_the_registry_is_closed():
    assert sorted(WEIGHTINGS) == ["gold", "uniform"]
    with pytest.raises(TypeError):
        WEIGHTINGS["mine"] = uniform


def test_uniform_ignores_what_teachers_say():
    found = uniform(np.array([[0.0, -np.inf, -5.0]]), 1.0)
    assert found.tolist() == [[1 / 3, 1 / 3, 1 / 3]]


def test_gold_weighs_by_the_probability_of_gold():
    found = gold(np.log([[0.2, 0.6], [0.5, 0.5]]), 1.0)
    np.testing.assert_allclose(found, [[0.25, 0.75], [0.5, 0.5]])
    sharp = gold(np.log([[0.2, 0.6]]), 0.5)
    np.testing.assert_allclose(sharp, [[0.1, 0.9]])


@pytest.mark.parametrize("tau", [1e-300, 1e-3, 1.0, 1e300])
def test_gold_survives_every_softness(tau):
    found = gold(np.array([[-2000.0, -3.0], [-np.inf, -1.0], [-np.inf, -np.inf]]), tau)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    assert found[1].tolist() == [0.0, 1.0]
    assert found[2].tolist() == [0.5, 0.5]


def test_softness_leads_from_the_best_teacher_to_uniform():
    logprob = np.array([[-1.0, -2.0, -4.0]])
    np.testing.assert_allclose(gold(logprob, 1e-3), [[1.0, 0.0, 0.0]])
    np.testing.assert_allclose(gold(logprob, 1e6), [[1 / 3] * 3], rtol=1e-5)


@pytest.mark.parametrize("name", sorted(WEIGHTINGS))
def test_one_teacher_has_all_the_weight(name):
    found = WEIGHTINGS[name](np.array([[-3.0], [-np.inf], [0.0]]), 0.5)
    assert found.tolist() == [[1.0], [1.0], [1.0]]


def test_the_order_of_teachers_changes_no_bit():
    logprob = np.random.default_rng(0).normal(scale=4.0, size=(500, 5))
    order = [3, 0, 4, 2, 1]
    np.testing.assert_array_equal(gold(logprob, 0.7)[:, order], gold(logprob[:, order], 0.7))
