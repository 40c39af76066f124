"""What holds of every rule of prediction weights, whatever the teachers say."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.property.evidence_cases import (
    NAMES,
    at_slots,
    evidences,
    make_evidence,
    with_teachers,
)
from tests.property.weighting_reference import CONFIDENCES, reference_weights

from ckd_cache.merge.controls import sharpening
from ckd_cache.merge.evidence import Evidence
from ckd_cache.merge.fit import Fit
from ckd_cache.merge.rule import TargetRule
from ckd_cache.merge.softmax import softmax_weights
from ckd_cache.merge.weightings import WEIGHTINGS
from ckd_cache.types import Array

NAMED = sorted([*CONFIDENCES, "random"])
WEIGHT = dict(zip(NAMES, (0.5, 0.0, 1.25, 3.0), strict=True))
FIT = Fit(on={}, weights=WEIGHT)
TAUS = [0.0, 1e-300, 0.05, 0.5, 1.0, 3.0, 1e300]


def rule_of(weighting: str, teachers: tuple[str, ...], **changes: Any) -> TargetRule:
    given_weights = tuple(WEIGHT[name] for name in teachers)
    usable = given_weights if sum(given_weights) else (1.0,) * len(teachers)
    fields: dict[str, Any] = {"tau": WEIGHTINGS[weighting].tau, "temperature": 1.0, "top_k": 8}
    fields |= {"weights": usable} if weighting == "fixed" else {}
    if weighting not in ("gold", "segment_loo"):
        changes = {name: value for name, value in changes.items() if name != "prior"}
    return TargetRule(weighting, teachers=teachers, fit=FIT, **(fields | changes))


def weigh(evidence: Evidence, weighting: str, **changes: Any) -> Array:
    rule = rule_of(weighting, NAMES[: evidence.teachers], **changes)
    return WEIGHTINGS[weighting].weigh(evidence, rule)


changes_of_rules = st.fixed_dictionaries(
    {
        "tau": st.sampled_from(TAUS),
        "prior": st.sampled_from(["uniform", "fitted"]),
        "shuffle": st.sampled_from(["teachers", "slots"]),
        "seed": st.sampled_from([0, 1, 2**63 - 1]),
    }
)


def test_every_rule_that_is_not_fitted_has_a_reference():
    assert sorted(name for name, one in WEIGHTINGS.items() if not one.fitted) == NAMED


@given(evidences, changes_of_rules)
def test_weights_are_distributions_over_the_teachers_present(evidence, changes):
    alone = evidence.present.sum(axis=1) == 1
    for name in NAMED:
        found = weigh(evidence, name, **changes)
        assert found.shape == evidence.present.shape
        assert (found >= 0.0).all()
        assert (found[~evidence.present] == 0.0).all()
        np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-14)
        assert (found[alone[:, None] & evidence.present] == 1.0).all()


@pytest.mark.parametrize("name", NAMED)
@given(evidences, changes_of_rules)
def test_every_rule_equals_its_slow_reference(name, evidence, changes):
    rule = rule_of(name, NAMES[: evidence.teachers], **changes)
    found = WEIGHTINGS[name].weigh(evidence, rule)
    np.testing.assert_allclose(found, reference_weights(evidence, rule), rtol=1e-12, atol=1e-300)


@given(evidences, changes_of_rules, st.randoms(use_true_random=False))
def test_listing_teachers_otherwise_permutes_the_weights_bit_for_bit(evidence, changes, random):
    order = list(range(evidence.teachers))
    random.shuffle(order)
    names = tuple(NAMES[t] for t in order)
    for name in NAMED:
        there = WEIGHTINGS[name].weigh(
            with_teachers(evidence, order), rule_of(name, names, **changes)
        )
        np.testing.assert_array_equal(there, weigh(evidence, name, **changes)[:, order])


@given(evidences, changes_of_rules)
def test_a_chunk_read_alone_gives_the_same_bits(evidence, changes):
    last = evidence.example == evidence.example[-1]
    for name in NAMED:
        if name != "random" or changes["shuffle"] == "teachers":
            whole = weigh(evidence, name, **changes)
            np.testing.assert_array_equal(
                weigh(at_slots(evidence, last), name, **changes), whole[last]
            )


@given(evidences, st.sampled_from(TAUS))
def test_gold_gives_gold_no_less_than_uniform(evidence, tau):
    """Chebyshev's sum inequality: so a better likelihood of gold is no evidence for the rule."""
    probability = np.exp(np.where(evidence.present, evidence.gold_logprob, -np.inf))
    uniform = (weigh(evidence, "uniform") * probability).sum(axis=1)
    for name in ("gold", "ca_mkd"):
        found = (weigh(evidence, name, tau=tau) * probability).sum(axis=1)
        assert (found >= uniform * (1.0 - 1e-12)).all()


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.3]))
def test_of_two_teachers_ca_mkd_is_gold_at_tau_one(seed, impossible):
    evidence = make_evidence(seed, teachers=2, impossible=impossible)
    np.testing.assert_allclose(
        weigh(evidence, "ca_mkd"), weigh(evidence, "gold"), rtol=1e-12, atol=1e-300
    )


@given(evidences)
def test_published_rules_stay_below_their_bounds(evidence):
    k = evidence.present.sum(axis=1)
    several = k > 1
    ca_mkd = weigh(evidence, "ca_mkd").max(axis=1)
    linear = weigh(evidence, "entropy_linear").max(axis=1)
    avg_ce = weigh(evidence, "avg_ce").max(axis=1)
    assert (ca_mkd[several] <= 1.0 / (k[several] - 1) + 1e-12).all()
    assert (linear[several] <= 1.0 / (k[several] - 1) + 1e-12).all()
    assert (avg_ce <= np.e / (np.e + k - 1) + 1e-12).all()


@given(st.integers(0, 10_000))
def test_min_ce_takes_the_best_teacher_of_every_segment(seed):
    evidence = make_evidence(seed)
    found = weigh(evidence, "min_ce")
    for example in np.unique(evidence.example):
        own = evidence.example == example
        best = evidence.gold_logprob[own].sum(axis=0).argmax()
        assert (found[own] == (np.arange(3) == best)).all()


@given(evidences, st.integers(0, 10_000))
def test_segment_loo_never_sees_its_own_label(evidence, seed):
    before = weigh(evidence, "segment_loo")
    slot = seed % len(evidence)
    own = evidence.unit == evidence.unit[slot]
    evidence.unit_logprob[own] += np.where(np.isnan(evidence.unit_logprob[own]), 0.0, -7.0)
    evidence.gold_logprob[own] -= 7.0
    evidence.correct[own] ^= True
    np.testing.assert_array_equal(weigh(evidence, "segment_loo")[own], before[own])


@given(evidences, st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 5))
def test_random_teachers_have_the_weights_of_gold_at_every_slot(evidence, tau, seed):
    found = weigh(evidence, "random", tau=tau, seed=seed)
    gold = weigh(evidence, "gold", tau=tau)
    np.testing.assert_array_equal(np.sort(found, axis=1), np.sort(gold, axis=1))


@given(evidences, st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 5))
def test_random_slots_have_the_weights_of_gold_in_every_kind(evidence, tau, seed):
    found = weigh(evidence, "random", tau=tau, shuffle="slots", seed=seed)
    gold = weigh(evidence, "gold", tau=tau)
    for kind in np.unique(evidence.kind):
        own = evidence.kind == kind
        assert Counter(map(tuple, found[own].tolist())) == Counter(map(tuple, gold[own].tolist()))


@pytest.mark.parametrize("shuffle", ["teachers", "slots"])
def test_another_seed_shuffles_otherwise_and_evenly(shuffle):
    evidence = make_evidence(0, lengths=(20,) * 60)
    gold = weigh(evidence, "gold")
    found = [weigh(evidence, "random", shuffle=shuffle, seed=seed) for seed in range(3)]
    for one, other in [(0, 1), (0, 2), (1, 2)]:
        assert (found[one] != found[other]).any(axis=1).mean() > 0.7
    # Of six permutations one leaves everything in place; of many slots nearly none.
    expected = 1 / 6 if shuffle == "teachers" else 0.0
    kept = (found[0] == gold).all(axis=1).mean()
    assert kept == pytest.approx(expected, abs=0.04)
    if shuffle == "teachers":
        np.testing.assert_allclose(found[0].mean(axis=0), 1 / 3, atol=0.03)


@given(
    evidences,
    st.sampled_from([0.0, 0.5, 1.0, 5.0]),
)
def test_sharpened_uniform_has_the_mass_of_gold_on_gold(evidence, tau):
    probability = np.exp(evidence.gold_logprob)
    gold, uniform = weigh(evidence, "gold", tau=tau), weigh(evidence, "gold_sharpened_uniform")
    np.testing.assert_array_equal(uniform, weigh(evidence, "uniform"))
    share = sharpening(probability, gold, uniform)
    assert (share >= 0.0).all()
    assert (share < 1.0).all()
    there = np.where(evidence.present, probability, 0.0)
    mass = share + (1.0 - share) * (uniform * there).sum(axis=1)
    np.testing.assert_allclose(mass, (gold * there).sum(axis=1), rtol=1e-12, atol=1e-15)


@given(
    evidences,
    st.sampled_from(TAUS),
    st.lists(st.sampled_from([0.0, 1e-320, 1e-9, 1.0, 1e308]), min_size=4, max_size=4).filter(any),
)
def test_priors_of_any_size_leave_distributions(evidence, tau, prior):
    known = np.array(prior)[: evidence.teachers]
    found = softmax_weights(
        evidence.gold_logprob, tau, evidence.present, known if known.any() else None
    )
    assert (found >= 0.0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-14)
    some = (evidence.present * (known > 1e-300)).any(axis=1)
    assert (found[some][:, known == 0.0] == 0.0).all()
