"""What holds of everything that is learned, whatever the teachers say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.property.evidence_cases import NAMES, evidences, make_evidence, with_teachers

from ckd_cache.merge.evidence import Evidence
from ckd_cache.merge.features import FEATURES, features
from ckd_cache.merge.fit import Fit, Gate
from ckd_cache.merge.fitted import Likelihoods, em_weights, likelihoods
from ckd_cache.merge.gate import (
    GateProblem,
    constant_start,
    fit_parameters,
    gate_objective,
    gate_weights,
    log_mixture,
)
from ckd_cache.merge.rule import TargetRule
from ckd_cache.types import Array

seeds = st.integers(0, 10_000)


@st.composite
def golds(draw: st.DrawFn) -> Likelihoods:
    """Teachers that are alike or not, certain or not, some with gold impossible at places."""
    rng = np.random.default_rng(draw(seeds))
    shape = (draw(st.integers(1, 40)), draw(st.integers(1, 5)))
    spread = draw(st.sampled_from([0.01, 0.3, 3.0, 30.0]))
    logprob = -3.0 + spread * (rng.normal(size=shape) + 0.3 * rng.normal(size=(1, shape[1])))
    if draw(st.booleans()):
        logprob[:, -1] = logprob[:, 0] + rng.normal(scale=1e-3, size=shape[0])
    logprob[rng.random(shape) < draw(st.sampled_from([0.0, 0.4]))] = -np.inf
    logprob[0] = -1.0
    return likelihoods(logprob, np.ones(shape, np.bool_))


def _mean(found: Likelihoods, weights: Array) -> float:
    with np.errstate(divide="ignore"):
        mixed = np.log(weights @ found.relative)
    return float(mixed.mean() + found.largest.mean())


@given(found=golds(), seed=seeds, tries=st.sampled_from([1, 3, 10_000]))
def test_no_weights_beat_fitted_ones_by_more_than_the_gap(found, seed, tries):
    best = em_weights(found, max_iterations=tries)
    size = len(best.weights)
    rivals = np.random.default_rng(seed).dirichlet([0.3] * size, size=50)
    rivals = np.concatenate([rivals, np.eye(size), 0.99 * best.weights + 0.01 * np.eye(size)])
    assert max(_mean(found, one) for one in rivals) <= best.mean_loglik + best.gap + 1e-12


@given(found=golds())
def test_fitted_weights_satisfy_the_conditions_of_an_optimum(found):
    best = em_weights(found)
    assert best.gap < 1e-6
    assert best.iterations < 50
    np.testing.assert_allclose(best.weights.sum(), 1.0)
    assert (best.weights >= 0.0).all()
    gains = (found.relative / (best.weights @ found.relative)).mean(axis=1)
    assert gains.max() <= np.exp(1e-6) + 1e-12
    # Where weight is left, what it gains is 1: sum of w_t g_t is 1, so this follows closely.
    assert float(best.weights @ np.abs(gains - 1.0)) < 1e-5
    assert abs(_mean(found, best.weights) - best.mean_loglik) < 1e-9


@given(found=golds())
def test_the_gap_of_an_early_end_covers_what_is_gained_later(found):
    short, best = em_weights(found, max_iterations=1), em_weights(found)
    assert best.mean_loglik <= short.mean_loglik + short.gap + 1e-12
    assert short.gap >= best.mean_loglik - short.mean_loglik - 1e-12


@given(found=golds(), seed=seeds, l2=st.sampled_from([0.0, 0.1]))
def test_the_gradient_is_that_of_finite_differences(found, seed, l2):
    rng = np.random.default_rng(seed)
    teachers, slots = found.relative.shape
    problem = GateProblem(found, rng.normal(size=(2, teachers, slots)))
    objective = gate_objective(problem, l2)
    at = rng.normal(size=teachers + 2)
    value, gradient = objective(at)
    step = 1e-5
    for place, slope in enumerate(gradient):
        ahead, behind = at.copy(), at.copy()
        ahead[place] += step
        behind[place] -= step
        difference = (objective(ahead)[0] - objective(behind)[0]) / (2 * step)
        np.testing.assert_allclose(slope, difference, rtol=1e-4, atol=1e-7)
    own = log_mixture(problem, at[:teachers], at[teachers:]).mean()
    np.testing.assert_allclose(value, l2 * float(at[teachers:] @ at[teachers:]) - own, rtol=1e-9)


@given(found=golds(), seed=seeds, l2=st.sampled_from([1e-5, 1.0]))
def test_a_gate_is_at_least_as_likely_as_where_it_began(found, seed, l2):
    rng = np.random.default_rng(seed)
    problem = GateProblem(found, rng.normal(size=(3, *found.relative.shape)))
    start = constant_start(problem)
    teachers = found.relative.shape[0]
    begun = log_mixture(problem, start[:teachers], start[teachers:]).mean()
    fitted = fit_parameters(problem, l2, start)
    assert fitted.mean_loglik >= begun - 1e-12
    assert abs(fitted.bias.mean()) < 1e-9


def _gate(seed: int) -> Gate:
    rng = np.random.default_rng(seed)
    count = len(FEATURES)
    return Gate(
        bias=dict(zip(NAMES, rng.normal(size=len(NAMES)).tolist(), strict=True)),
        features=tuple(FEATURES),
        theta=tuple(rng.normal(size=count).tolist()),
        centre=tuple(rng.normal(size=count).tolist()),
        scale=tuple((rng.random(count) + 0.5).tolist()),
        l2=0.0,
    )


def _rule(gate: Gate, teachers: tuple[str, ...]) -> TargetRule:
    fit = Fit(on={}, gate=gate)
    return TargetRule("gate", tau=1.0, temperature=1.0, top_k=8, teachers=teachers, fit=fit)


@given(evidence=evidences, seed=seeds)
def test_gates_see_no_label_and_weigh_all_who_are_present(evidence: Evidence, seed):
    rule = _rule(_gate(seed), NAMES[: evidence.teachers])
    weights = gate_weights(evidence, rule)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    assert (weights >= 0.0).all()
    assert not weights[~evidence.present].any()
    rng = np.random.default_rng(seed)
    hidden = replace(
        evidence,
        gold_logprob=rng.permutation(evidence.gold_logprob),
        unit_logprob=rng.permutation(evidence.unit_logprob),
        correct=rng.permutation(evidence.correct),
    )
    np.testing.assert_array_equal(gate_weights(hidden, rule), weights)


@given(seed=seeds, order=st.permutations(range(4)), absent=st.sampled_from([0.0, 0.3]))
def test_the_order_of_teachers_changes_no_bit_of_a_gate(seed, order, absent):
    evidence = make_evidence(seed, teachers=4, absent=absent)
    gate = _gate(seed)
    weights = gate_weights(evidence, _rule(gate, NAMES))
    names = tuple(NAMES[place] for place in order)
    moved = gate_weights(with_teachers(evidence, list(order)), _rule(gate, names))
    np.testing.assert_array_equal(weights[:, order], moved)


@given(evidence=evidences)
def test_a_segment_has_the_same_features_whatever_is_read_beside_it(evidence: Evidence):
    whole = features(evidence, tuple(FEATURES))
    for example in np.unique(evidence.example):
        rows = evidence.example == example
        alone = Evidence(
            **{name: getattr(evidence, name)[rows] for name in Evidence.__dataclass_fields__}
        )
        np.testing.assert_array_equal(features(alone, tuple(FEATURES)), whole[:, rows])
