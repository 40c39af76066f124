from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.merge.fit_cases import NAMES, TEMPERATURES, experts, mean_loglik, rule_of

from ckd_cache.errors import MergeError
from ckd_cache.merge.evidence import Evidence
from ckd_cache.merge.features import FEATURES, features
from ckd_cache.merge.fit import Fit, Gate
from ckd_cache.merge.fit_sample import FitBatch
from ckd_cache.merge.fitted import em_weights, fitted_weights, likelihoods
from ckd_cache.merge.gate import GateProblem, constant_start, gate_weights, log_mixture
from ckd_cache.merge.gate_choice import clustered_error, folds_of
from ckd_cache.merge.lbfgs import minimise
from ckd_cache.merge.learn import learn
from ckd_cache.merge.weightings import WEIGHTINGS
from ckd_cache.types import Array

_GATE = Gate(
    bias={"a": 0.3, "b": -0.3, "c": 0.0},
    features=tuple(FEATURES),
    theta=(0.5, -0.2, 1.0, 0.3, 0.4),
    centre=(-1.0, -1.0, -1.0, -1.0, 0.0),
    scale=(1.0, 0.5, 0.5, 0.5, 0.3),
    l2=1e-3,
)


def _learned(batch: FitBatch, weighting: str = "gate") -> Fit:
    return learn([batch], rule_of(weighting), TEMPERATURES, NAMES, {})


def test_it_is_the_formula():
    evidence = experts(0, 2).evidence
    found = gate_weights(evidence, rule_of("gate", fit=Fit(on={}, gate=_GATE)))
    for i in (0, 20, len(evidence) - 1):
        segment = evidence.example == evidence.example[i]
        mean = evidence.entropy[segment].mean(axis=0)
        score = []
        for t, name in enumerate(NAMES):
            others = [mean[s] for s in range(len(NAMES)) if s != t]
            phi = [-evidence.entropy[i, t], evidence.max_logprob[i, t], -mean[t]]
            phi += [evidence.max_logprob[segment, t].mean(), np.tanh(np.mean(others) - mean[t])]
            scaled = (np.array(phi) - _GATE.centre) / _GATE.scale
            score.append(_GATE.bias[name] + scaled @ np.array(_GATE.theta))
        np.testing.assert_allclose(found[i], np.exp(score) / np.exp(score).sum(), rtol=1e-12)


def test_features_see_no_label():
    evidence = experts(1, 4).evidence
    rng = np.random.default_rng(0)
    shuffled = rng.permutation(len(evidence))
    hidden = replace(
        evidence,
        gold_logprob=evidence.gold_logprob[shuffled],
        correct=evidence.correct[shuffled],
        unit_logprob=evidence.unit_logprob[shuffled],
    )
    np.testing.assert_array_equal(
        features(evidence, tuple(FEATURES)), features(hidden, tuple(FEATURES))
    )
    rule = rule_of("gate", fit=Fit(on={}, gate=_GATE))
    np.testing.assert_array_equal(gate_weights(evidence, rule), gate_weights(hidden, rule))


def test_a_gate_that_made_the_text_is_recovered():
    rng = np.random.default_rng(3)
    evidence = experts(2, 500).evidence
    truth = gate_weights(evidence, rule_of("gate", fit=Fit(on={}, gate=_GATE)))
    # Distributions that have nothing to do with the features, and gold from their mixture.
    p = rng.dirichlet([0.3] * 8, size=truth.shape)
    mixed = np.einsum("ns,nsv->nv", truth, p)
    gold = (mixed.cumsum(axis=1) > rng.random((len(mixed), 1))).argmax(axis=1)
    logprob = np.log(np.maximum(p[np.arange(len(gold)), :, gold], 1e-300))
    made = replace(evidence, gold_logprob=logprob)
    fit = _learned(_batch(made))
    found = gate_weights(made, rule_of("gate", fit=fit))
    assert np.abs(found - truth).mean() < 0.03
    assert mean_loglik(made, found) >= mean_loglik(made, truth)


def test_it_beats_segment_entropy_and_constant_weights_on_other_documents():
    fit = _learned(experts(4, 60))
    other = experts(5, 60).evidence
    gate = mean_loglik(other, gate_weights(other, rule_of("gate", fit=fit)))
    constant = _learned(experts(4, 60), "fitted")
    assert gate > mean_loglik(other, fitted_weights(other, rule_of("fitted", fit=constant))) + 0.1
    for name in ("segment_entropy", "entropy", "max_prob"):
        for tau in (1.0, 0.5):
            weights = WEIGHTINGS[name].weigh(other, rule_of(name, tau=tau))
            assert gate > mean_loglik(other, weights)
    # What was promised of other documents is what came.
    held_out = {one["l2"]: one["mean_loglik"] for one in fit.on["gate"]["held_out"]}
    assert held_out[fit.gate.l2] == pytest.approx(gate, abs=0.1)


@pytest.mark.parametrize("seed", range(4))
def test_it_is_never_worse_than_constant_weights_where_it_was_fitted(seed):
    batch = experts(seed, 5)
    fit = _learned(batch)
    gate = mean_loglik(batch.evidence, gate_weights(batch.evidence, rule_of("gate", fit=fit)))
    assert gate == pytest.approx(fit.on["gate"]["mean_loglik"], abs=1e-12)
    assert gate >= fit.on["fitted"]["mean_loglik"] - 1e-6


def test_strong_penalties_are_chosen_where_features_say_nothing():
    rng = np.random.default_rng(7)
    evidence = experts(6, 30).evidence
    noise = np.log(rng.random(evidence.gold_logprob.shape))
    fit = _learned(_batch(replace(evidence, gold_logprob=noise)))
    assert fit.gate.l2 >= 0.1
    assert "that may be chance" in fit.on["gate"]["notes"][0]


def test_absent_teachers_have_no_weight_and_do_not_disturb_the_means():
    evidence = experts(8, 3).evidence
    rule = rule_of("gate", fit=Fit(on={}, gate=_GATE))
    before = gate_weights(evidence, rule)
    hole = evidence.example[0] == evidence.example
    first = int(np.flatnonzero(hole)[0])
    evidence.present[first, 1] = False
    for values in (evidence.entropy, evidence.max_logprob, evidence.gold_logprob):
        values[first, 1] = np.nan
    found = gate_weights(evidence, rule)
    assert found[first, 1] == 0.0
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    np.testing.assert_array_equal(found[~hole], before[~hole])
    names = list(FEATURES)
    means = features(evidence, names)[names.index("segment_entropy")]
    counted = hole & (np.arange(len(evidence)) != first)
    np.testing.assert_allclose(means[first], -evidence.entropy[counted].mean(axis=0))
    evidence.present[hole, 1] = False
    nowhere = gate_weights(evidence, rule)
    assert np.isfinite(nowhere).all()
    assert (nowhere[hole, 1] == 0.0).all()


def test_one_teacher_has_all_the_weight():
    evidence = _teachers(experts(0, 3).evidence, [0])
    batch = FitBatch(
        evidence, *(np.zeros((len(evidence), 1, 7)),) * 2, np.zeros(len(evidence), int)
    )
    fit = learn([batch], rule_of("gate", teachers=("b",)), TEMPERATURES, ["b"], {})
    assert set(gate_weights(evidence, rule_of("gate", teachers=("b",), fit=fit)).ravel()) == {1.0}


def test_a_gate_that_lacks_a_teacher_is_refused():
    with pytest.raises(MergeError, match="has no fitted gate for b, c, a"):
        gate_weights(experts(0, 1).evidence, rule_of("gate", fit=Fit(on={})))


def test_folds_never_cut_a_document_and_are_of_one_size():
    document = np.repeat(np.arange(1000, 1023), np.arange(1, 24))
    fold = folds_of(document)
    by_document = [set(fold[document == one]) for one in np.unique(document)]
    assert all(len(one) == 1 for one in by_document)
    counts = np.bincount([one.pop() for one in by_document])
    assert sorted(counts.tolist()) == [4, 4, 5, 5, 5]
    shuffled = np.random.default_rng(0).permutation(len(document))
    np.testing.assert_array_equal(folds_of(document[shuffled]), fold[shuffled])
    assert folds_of(np.array([4, 4, 9])).max() == 1


def test_slots_of_one_document_count_once_in_the_error():
    values = np.random.default_rng(0).normal(size=400)
    alone = clustered_error(values, np.arange(400))
    assert alone == pytest.approx(values.std() / 20.0)
    copies = np.repeat(values, 9)
    assert clustered_error(copies, np.arange(3600) // 9) == pytest.approx(alone)


def test_the_search_begins_at_constant_fitted_weights():
    evidence = experts(9, 30).evidence
    gold = likelihoods(evidence.gold_logprob, evidence.present)
    start = constant_start(GateProblem(gold, np.zeros((2, 3, len(gold)))))
    begun = log_mixture(GateProblem(gold, np.zeros((2, 3, len(gold)))), start[:3], start[3:])
    assert begun.mean() == pytest.approx(em_weights(gold).mean_loglik, abs=1e-9)
    assert start[:3].mean() == pytest.approx(0.0)
    useless = np.where([True, True, False], evidence.gold_logprob, -np.inf)
    floored = constant_start(
        GateProblem(likelihoods(useless, evidence.present), np.zeros((2, 3, len(gold))))
    )
    assert floored[:3].max() - floored[2] < np.log(1e3) + 1e-9


def test_the_search_finds_the_bottom_of_a_bent_valley():
    def valley(at: Array) -> tuple[float, Array]:
        x, y = at
        slopes = [-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)]
        return float((1 - x) ** 2 + 100 * (y - x * x) ** 2), np.array(slopes)

    found = minimise(valley, np.array([-1.2, 1.0]))
    np.testing.assert_allclose(found.at, [1.0, 1.0], atol=1e-5)
    assert found.gradient < 1e-6


def test_the_search_steps_back_from_what_is_no_number():
    def wall(at: Array) -> tuple[float, Array]:
        x = float(at[0])
        return (x - np.log(x), np.array([1.0 - 1.0 / x])) if x > 0 else (np.inf, np.zeros(1))

    assert minimise(wall, np.array([50.0])).at[0] == pytest.approx(1.0, abs=1e-5)


def _teachers(evidence: Evidence, order: list[int]) -> Evidence:
    names = ("gold_logprob", "max_logprob", "entropy", "correct", "present", "unit_logprob")
    return replace(evidence, **{name: getattr(evidence, name)[:, order] for name in names})


def _batch(evidence: Evidence) -> FitBatch:
    nothing = np.zeros((len(evidence), evidence.teachers, len(TEMPERATURES)))
    return FitBatch(evidence, nothing, nothing, np.zeros(len(evidence), np.int64))
