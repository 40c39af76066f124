from __future__ import annotations

import itertools

import numpy as np
import pytest
from tests.unit.merge.fit_cases import experts, rule_of

from ckd_cache.errors import MergeError
from ckd_cache.merge.fit import Fit
from ckd_cache.merge.fitted import em_weights, fitted_weights, likelihoods
from ckd_cache.types import Array


def _whole(gold: Array) -> Array:
    return np.ones(gold.shape, np.bool_)


def test_em_finds_the_best_weights_of_a_grid():
    gold = np.log(np.random.default_rng(0).dirichlet([0.3] * 3, size=200) + 1e-9)
    found = em_weights(likelihoods(gold, _whole(gold)))
    steps = np.linspace(0.0, 1.0, 101)
    pairs = [(a, b) for a, b in itertools.product(steps, steps) if a + b <= 1.0]
    tried = [np.log(np.exp(gold) @ [a, b, 1.0 - a - b]).mean() for a, b in pairs]
    best = pairs[int(np.argmax(tried))]
    assert found.mean_loglik >= max(tried) - found.gap
    np.testing.assert_allclose(found.weights[:2], best, atol=0.01)


def test_a_mixture_of_known_weights_is_recovered():
    rng = np.random.default_rng(1)
    p = rng.dirichlet([0.5] * 6, size=(40_000, 3))
    truth = np.array([0.6, 0.3, 0.1])
    mixed = np.einsum("s,nsv->nv", truth, p)
    gold = (mixed.cumsum(axis=1) > rng.random((len(mixed), 1))).argmax(axis=1)
    logprob = np.log(p[np.arange(len(gold)), :, gold])
    found = em_weights(likelihoods(logprob, _whole(logprob)))
    np.testing.assert_allclose(found.weights, truth, atol=0.015)


def test_a_teacher_that_is_worse_everywhere_gets_nothing():
    gold = np.tile([[-1.0, -1.01]], (10, 1))
    found = em_weights(likelihoods(gold, _whole(gold)))
    assert found.gap < 1e-6
    assert found.weights[1] < 1e-4


def test_twins_share_equally_and_one_teacher_has_all():
    gold = np.log(np.random.default_rng(2).random((50, 1)))
    assert em_weights(likelihoods(gold, _whole(gold))).weights.tolist() == [1.0]
    twice = np.repeat(gold, 2, axis=1)
    assert em_weights(likelihoods(twice, _whole(twice))).weights.tolist() == [0.5, 0.5]


def test_probabilities_that_a_float_cannot_hold_are_weighed():
    gold = np.array([[-2000.0, -2001.0], [-3.0, -1.0], [-1.0, -4.0]])
    shifted = gold + np.array([[1990.0], [0.0], [0.0]])
    found = em_weights(likelihoods(gold, _whole(gold)))
    near = em_weights(likelihoods(shifted, _whole(gold)))
    np.testing.assert_allclose(found.weights, near.weights, rtol=1e-9)
    assert found.mean_loglik == pytest.approx(near.mean_loglik - 1990.0 / 3.0)


def test_slots_that_say_nothing_are_left_out_and_counted():
    gold = np.array([[-1.0, -2.0], [-np.inf, -np.inf], [np.nan, -1.0], [-np.inf, -3.0]])
    present = ~np.isnan(gold)
    found = likelihoods(gold, present)
    assert found.used.tolist() == [True, False, False, True]
    assert (found.absent, found.impossible, len(found)) == (1, 1, 2)
    alone = likelihoods(gold[[0, 3]], present[[0, 3]])
    assert em_weights(found).weights.tolist() == em_weights(alone).weights.tolist()


def test_nothing_to_learn_from_is_an_error():
    gold = np.array([[-np.inf, -np.inf], [np.nan, -1.0]])
    with pytest.raises(MergeError, match=r"none of the 2 slots .* at 1 a teacher has no distrib"):
        likelihoods(gold, ~np.isnan(gold))


def test_a_search_that_is_cut_short_says_what_is_missing():
    evidence = experts(0, 20).evidence
    gold = likelihoods(evidence.gold_logprob, evidence.present)
    short = em_weights(gold, max_iterations=2)
    best = em_weights(gold)
    assert short.iterations == 2
    assert short.gap > 1e-6
    assert 0.0 < best.mean_loglik - short.mean_loglik <= short.gap


def test_no_step_lowers_the_likelihood_even_where_newton_overshoots():
    gold = np.full((37, 2), -np.inf)
    gold[:36, 0] = -1.0
    gold[36, 1] = -1.0
    found = likelihoods(gold, _whole(gold))
    reached = [em_weights(found, max_iterations=tries).mean_loglik for tries in range(1, 8)]
    assert (np.diff(reached) >= -1e-12).all()
    np.testing.assert_allclose(em_weights(found).weights, [36 / 37, 1 / 37], rtol=1e-6)


def test_fitted_weights_are_looked_up_by_name_and_shared_by_those_present():
    fit = Fit(on={}, weights={"a": 0.5, "b": 0.3, "c": 0.2})
    evidence = experts(0, 1).evidence
    evidence.present[0] = [True, False, True]
    found = fitted_weights(evidence, rule_of("fitted", fit=fit))
    np.testing.assert_allclose(found[1], [0.3, 0.2, 0.5])
    np.testing.assert_allclose(found[0], [0.375, 0.0, 0.625])


@pytest.mark.parametrize("fit", [None, Fit(on={}), Fit(on={}, weights={"a": 1.0, "b": 0.0})])
def test_a_rule_without_its_fit_is_refused(fit):
    with pytest.raises(MergeError, match=r"has no fitted weights for .*c"):
        fitted_weights(experts(0, 1).evidence, rule_of("fitted", fit=fit))
