from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.unit.merge.fit_cases import (
    NAMES,
    TEMPERATURES,
    Dense,
    batch_of,
    drawn,
    experts,
    mean_loglik,
    rows_of,
    rule_of,
)

from ckd_cache.errors import MergeError
from ckd_cache.merge.features import features
from ckd_cache.merge.fit import Fit, fit_from_json, fit_to_json
from ckd_cache.merge.fit_sample import FitBatch, FitSample, collect
from ckd_cache.merge.fitted import fitted_weights
from ckd_cache.merge.gate import gate_weights
from ckd_cache.merge.learn import calibrated_evidence, learn
from ckd_cache.merge.segments import segment_means
from ckd_cache.types import Array


def _learn(batch: FitBatch, weighting: str, **changes: Any) -> Fit:
    return learn([batch], rule_of(weighting, **changes), TEMPERATURES, NAMES, {"split": "fit"})


def _cut(batch: FitBatch, *borders: int) -> list[FitBatch]:
    """Batches of whole examples, each with units of its own."""
    edges = [0, *borders, int(batch.evidence.example[-1]) + 1]
    number = batch.evidence.example
    pairs = itertools.pairwise(edges)
    parts = [rows_of(batch, np.flatnonzero((number >= a) & (number < b))) for a, b in pairs]
    units = [replace(one.evidence, unit=np.arange(len(one))) for one in parts]
    return [replace(one, evidence=own) for one, own in zip(parts, units, strict=True)]


@pytest.mark.parametrize(
    ("weighting", "changes", "found"),
    [
        ("fitted", {}, {"weights"}),
        ("gate", {}, {"gate"}),
        ("gold", {"prior": "fitted"}, {"weights"}),
        ("gold", {"calibrate": "weights"}, {"temperatures"}),
        ("segment_loo", {"prior": "fitted", "calibrate": "target"}, {"weights", "temperatures"}),
        ("gate", {"calibrate": "weights"}, {"gate", "temperatures"}),
    ],
)
def test_what_is_needed_is_learned_and_survives_the_manifest(weighting, changes, found):
    fit = _learn(experts(0, 10), weighting, **changes)
    members = fit_to_json(fit)
    assert set(members) == found | {"on"}
    again = fit_from_json(json.loads(json.dumps(members, allow_nan=False)))
    assert fit_to_json(again) == members
    assert again.gate == fit.gate
    assert members["on"]["split"] == "fit"


@pytest.mark.parametrize("calibrate", ["none", "weights"])
@pytest.mark.parametrize("weighting", ["fitted", "gate"])
def test_the_order_of_teachers_and_the_cut_of_batches_change_no_bit(weighting, calibrate):
    batch, order = experts(1, 12), [2, 0, 1]
    names = [NAMES[place] for place in order]
    evidence = {
        name: getattr(batch.evidence, name)
        for name in ("example", "slot", "unit", "document", "kind", "masked")
    } | {
        name: getattr(batch.evidence, name)[:, order]
        for name in (
            "gold_logprob",
            "max_logprob",
            "entropy",
            "correct",
            "present",
            "unit_logprob",
        )
    }
    other = FitBatch(
        type(batch.evidence)(**evidence),
        batch.logsumexp[:, order],
        batch.entropy[:, order],
        batch.seen,
    )
    rule = rule_of(weighting, calibrate=calibrate)
    first = learn([batch], rule, TEMPERATURES, NAMES, {})
    second = learn(
        _cut(other, 5, 6, 20),
        rule_of(weighting, calibrate=calibrate, teachers=tuple(names)),
        TEMPERATURES,
        names,
        {},
    )
    assert json.dumps(fit_to_json(first), sort_keys=True) == json.dumps(
        fit_to_json(second), sort_keys=True
    )
    weigh = {"fitted": fitted_weights, "gate": gate_weights}[weighting]
    permuted = weigh(other.evidence, rule_of(weighting, teachers=tuple(names), fit=second))
    np.testing.assert_array_equal(
        weigh(batch.evidence, rule_of(weighting, fit=first))[:, order], permuted
    )


@pytest.mark.parametrize("calibrate", ["weights", "target"])
def test_a_gate_sees_calibrated_teachers_and_makes_likely_what_is_mixed(calibrate):
    batch = _miscalibrated(2)
    fit = _learn(batch, "gate", calibrate=calibrate)
    assert fit.temperatures == {
        "a": {"masked": 1.0, "shown": 1.0},
        "b": {"masked": 0.8, "shown": 0.8},
        "c": {"masked": 2.0, "shown": 2.0},
    }
    seen = calibrated_evidence(batch, TEMPERATURES, [fit.temperatures[name] for name in NAMES])
    weights = gate_weights(seen, rule_of("gate", fit=fit))
    mixed = seen if calibrate == "target" else batch.evidence
    assert mean_loglik(mixed, weights) == pytest.approx(fit.on["gate"]["mean_loglik"], abs=1e-12)


def test_a_prior_is_fitted_to_calibrated_teachers():
    batch = _miscalibrated(2)
    equal = _learn(batch, "gold", prior="fitted", calibrate="weights")
    np.testing.assert_allclose(list(equal.weights.values()), 1 / 3, atol=1e-6)
    alone = _learn(batch, "gold", prior="fitted")
    assert alone.weights["a"] > 0.8


def test_the_record_says_what_was_learned_on():
    fit = _learn(_miscalibrated(3), "gate", calibrate="weights")
    on = fit.on
    assert (on["slots"], on["documents"], on["every"]) == (3000, 10, 1)
    assert "3,000 slots of 10 documents are few" in on["notes"][0]
    assert on["fitted"]["gap"] < 1e-6
    assert [one["l2"] for one in on["gate"]["held_out"]] == [1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5]
    best = max(on["gate"]["held_out"], key=lambda one: one["mean_loglik"])
    assert best["l2"] == fit.gate.l2 == on["gate"]["l2"]
    assert on["gate"]["folds"] == 5
    said = on["calibration"]["c"]
    assert sum(said["slots"].values()) == 3000
    assert set(said["nll"]) == {"masked", "random", "kept"}
    assert "2.0, is the last of the grid" in said["notes"][0]
    assert "0.8, is the last of the grid" in on["calibration"]["b"]["notes"][0]
    assert on["calibration"]["a"]["notes"] == []


def test_one_document_is_fitted_without_folds_and_the_record_says_so():
    fit = _learn(experts(4, 1), "gate")
    assert fit.gate.l2 == 1.0
    assert fit.on["gate"]["folds"] == 0
    assert "one document" in fit.on["gate"]["notes"][0]
    json.dumps(fit_to_json(fit), allow_nan=False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weighting": "gate"}, "weighting `gate` is learned on the split `fit`, which has no"),
        ({"weighting": "gold", "prior": "fitted", "calibrate": "weights"}, "prior `fitted` with c"),
    ],
)
def test_an_empty_split_is_refused(changes, words):
    with pytest.raises(MergeError, match=words) as caught:
        learn([], rule_of(**changes), TEMPERATURES, NAMES, {})
    assert "splits: {fit: 0.02, test: 0.02}" in str(caught.value)


def test_one_temperature_is_no_choice():
    with pytest.raises(MergeError, match=r"share 1\.0 only\. Set capture.temperatures to"):
        learn([], rule_of("gold", calibrate="weights"), (1.0,), NAMES, {})


def test_whole_examples_are_thinned_evenly_however_batches_are_cut():
    batch = experts(5, 20)
    first = collect([batch], most=100)
    assert (first.slots, first.examples, first.every) == (540, 60, 8)
    assert np.unique(_kept(first).evidence.example).tolist() == list(range(0, 60, 8))
    assert np.unique(_kept(first).evidence.example, return_counts=True)[1].tolist() == [9] * 8
    for borders in ([7, 8, 31], range(1, 60), [59]):
        other = collect(_cut(batch, *borders), most=100)
        assert (other.slots, other.examples, other.every) == (540, 60, 8)
        np.testing.assert_array_equal(_kept(other).logsumexp, _kept(first).logsumexp)
        np.testing.assert_array_equal(_kept(other).evidence.example, _kept(first).evidence.example)
        assert (np.diff(_kept(other).evidence.unit) > 0).all()
    means = _segment_entropies(batch)
    np.testing.assert_array_equal(
        _segment_entropies(_kept(first)), means[batch.evidence.example % 8 == 0]
    )
    assert collect([batch], most=540).every == 1
    assert collect([batch], most=1).every == 64
    assert len(_kept(collect([batch], most=1))) == 9


def test_thinning_is_recorded():
    fit = learn([experts(6, 40)], rule_of("fitted"), TEMPERATURES, NAMES, {}, most_slots=600)
    assert (fit.on["slots"], fit.on["slots_of_split"], fit.on["every"]) == (540, 1080, 2)


def _kept(sample: FitSample) -> FitBatch:
    assert sample.batch is not None
    return sample.batch


def _segment_entropies(batch: FitBatch) -> Array:
    evidence = batch.evidence
    return segment_means(evidence.entropy, np.ones(len(evidence), np.bool_), evidence.example)


def _miscalibrated(seed: int) -> FitBatch:
    """One teacher is calibrated, one says too little, one too much."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(scale=2.0, size=(3000, 24))
    factor = {"a": 1.0, "b": 0.8, "c": 2.0}
    logits = [truth * factor[name] for name in NAMES]
    example = np.repeat(np.arange(300), 10)
    seen = rng.choice(3, 3000, p=[0.8, 0.1, 0.1])
    return batch_of(Dense(logits, drawn(rng, truth)), example // 30, example, seen)


def test_features_are_scaled_by_how_the_teachers_differ_at_a_slot():
    """Not by how slots differ: that would let the penalty depend on how varied the text is."""
    batch = experts(0, 10)
    fit = _learn(batch, "gate")
    values = features(batch.evidence, fit.gate.features)
    apart = values - values.mean(axis=2, keepdims=True)
    expected = np.sqrt((apart**2).mean(axis=(1, 2)))
    np.testing.assert_allclose(fit.gate.scale, expected, rtol=1e-9)
