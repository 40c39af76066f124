from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ckd_cache.errors import MergeError
from ckd_cache.merge.controls import sharpening
from ckd_cache.merge.evidence import Evidence
from ckd_cache.merge.fit import Fit, Gate
from ckd_cache.merge.rule import TargetRule
from ckd_cache.merge.softmax import log_rest, softmax_weights
from ckd_cache.merge.weightings import WEIGHTINGS, Weighting
from ckd_cache.types import Array

NAMES = ("a", "b", "c", "d", "e", "f", "g", "h", "i")
RULES = sorted(name for name, one in WEIGHTINGS.items() if not one.fitted)


def _evidence(gold: Any, **changes: Any) -> Evidence:
    """Slots of one example with what is named; gold's log-probabilities everywhere else."""
    gold = np.asarray(gold, dtype=np.float64)
    n = gold.shape[0]
    fields: dict[str, Any] = {
        "gold_logprob": gold,
        "max_logprob": gold,
        "entropy": np.minimum(-gold, 50.0),
        "correct": np.zeros(gold.shape, np.bool_),
        "present": np.ones(gold.shape, np.bool_),
        "unit_logprob": gold,
        "example": np.zeros(n, np.int64),
        "slot": np.arange(n),
        "unit": np.arange(n),
        "document": np.zeros(n, np.int64),
        "kind": np.zeros(n, np.int64),
        "masked": np.ones(n, np.bool_),
    }
    return Evidence(**(fields | {name: np.asarray(value) for name, value in changes.items()}))


def _weigh(name: str, evidence: Evidence, **changes: Any) -> Array:
    fields: dict[str, Any] = {"tau": WEIGHTINGS[name].tau, "temperature": 1.0, "top_k": 8}
    fields["teachers"] = NAMES[: evidence.teachers]
    if name == "fixed":
        fields["weights"] = (1.0,) * evidence.teachers
    return WEIGHTINGS[name].weigh(evidence, TargetRule(name, **(fields | changes)))


def test_the_registry_is_closed():
    assert sorted(WEIGHTINGS) == [
        "avg_ce",
        "ca_mkd",
        "correctness",
        "entropy",
        "entropy_linear",
        "fitted",
        "fixed",
        "gate",
        "gold",
        "gold_sharpened_uniform",
        "max_prob",
        "min_ce",
        "random",
        "segment_entropy",
        "segment_loo",
        "uniform",
    ]
    with pytest.raises(TypeError):
        WEIGHTINGS["mine"] = Weighting(WEIGHTINGS["uniform"].weigh)


def test_rules_say_whether_they_look_at_gold_and_what_they_need():
    free = {name for name, one in WEIGHTINGS.items() if not one.uses_gold}
    assert free == {
        "uniform",
        "fixed",
        "max_prob",
        "entropy",
        "entropy_linear",
        "segment_entropy",
        "fitted",
        "gate",
    }
    assert {name for name, one in WEIGHTINGS.items() if one.tau != 1.0} == {"min_ce"}
    assert WEIGHTINGS["min_ce"].tau == 0.0
    assert [name for name, one in WEIGHTINGS.items() if one.sharpened] == ["gold_sharpened_uniform"]
    assert {name for name, one in WEIGHTINGS.items() if one.fitted} == {"fitted", "gate"}


@pytest.mark.parametrize("name", sorted(WEIGHTINGS))
def test_only_rules_that_use_gold_look_at_it(name):
    rng = np.random.default_rng(0)
    gold = -rng.exponential(size=(8, 3))
    other = gold[:, ::-1]
    label_free = {"max_logprob": gold / 2, "entropy": -gold}
    gate = Gate(dict.fromkeys("abc", 0.5), ("entropy",), (1.0,), (0.0,), (1.0,), 0.0)
    fit = Fit(on={}, weights={"a": 0.2, "b": 0.3, "c": 0.5}, gate=gate)
    one = _weigh(name, _evidence(gold, **label_free, correct=gold > -0.5), fit=fit)
    two = _weigh(name, _evidence(other, **label_free, correct=other > -0.5), fit=fit)
    looks = WEIGHTINGS[name].uses_gold and not WEIGHTINGS[name].sharpened
    assert (one != two).any() == looks


GOLD = np.log([[0.2, 0.6], [0.5, 0.5]])


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("uniform", {}, [[0.5, 0.5]] * 2),
        ("gold_sharpened_uniform", {}, [[0.5, 0.5]] * 2),
        ("fixed", {"weights": (3.0, 1.0)}, [[0.75, 0.25]] * 2),
        ("gold", {}, [[0.25, 0.75], [0.5, 0.5]]),
        ("gold", {"tau": 0.5}, [[0.1, 0.9], [0.5, 0.5]]),
        ("gold", {"tau": 0.0}, [[0.0, 1.0], [0.5, 0.5]]),
        ("max_prob", {}, [[0.25, 0.75], [0.5, 0.5]]),
        ("entropy", {}, [[0.25, 0.75], [0.5, 0.5]]),
        ("entropy_linear", {}, [[0.24092, 0.75908], [0.5, 0.5]]),
        ("ca_mkd", {}, [[0.25, 0.75], [0.5, 0.5]]),
        ("correctness", {}, [[0.5, 0.5]] * 2),
        ("min_ce", {}, [[0.0, 1.0]] * 2),
        ("min_ce", {"tau": 0.5}, [[0.25, 0.75]] * 2),
        # exp of the mean: sqrt(0.1) and sqrt(0.3).
        ("avg_ce", {}, [[0.44238, 0.55762]] * 2),
        ("segment_entropy", {"tau": 0.5}, [[0.25, 0.75]] * 2),
        ("segment_loo", {}, [[0.5, 0.5], [0.25, 0.75]]),
    ],
)
def test_weights_by_hand(name, changes, expected):
    found = _weigh(name, _evidence(GOLD), **changes)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_teachers_that_are_right_share_the_weight():
    correct = [[True, False, True], [False, False, False], [False, True, False]]
    found = _weigh("correctness", _evidence(np.full((3, 3), -1.0), correct=correct), tau=0.0)
    np.testing.assert_allclose(found, [[0.5, 0.0, 0.5], [1 / 3] * 3, [0.0, 1.0, 0.0]])


@pytest.mark.parametrize("tau", [1e-300, 1e-3, 1.0, 1e300])
def test_gold_survives_every_softness(tau):
    found = _weigh("gold", _evidence([[-2000.0, -3.0], [-np.inf, -1.0], [-np.inf] * 2]), tau=tau)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    assert found[1].tolist() == [0.0, 1.0]
    assert found[2].tolist() == [0.5, 0.5]


def test_softness_leads_from_the_best_teacher_to_uniform():
    evidence = _evidence([[-1.0, -2.0, -4.0]])
    assert _weigh("gold", evidence, tau=0.0).tolist() == [[1.0, 0.0, 0.0]]
    np.testing.assert_allclose(_weigh("gold", evidence, tau=1e-3), [[1.0, 0.0, 0.0]])
    np.testing.assert_allclose(_weigh("gold", evidence, tau=1e6), [[1 / 3] * 3], rtol=1e-5)


@pytest.mark.parametrize("name", RULES)
def test_one_teacher_has_all_the_weight(name):
    found = _weigh(name, _evidence([[-3.0], [-np.inf], [0.0]]), tau=0.5)
    assert found.tolist() == [[1.0], [1.0], [1.0]]


@pytest.mark.parametrize("name", RULES)
def test_nine_teachers_in_another_order_have_the_same_bits(name):
    gold = np.random.default_rng(0).normal(loc=-8.0, scale=2.0, size=(500, 9))
    order = [3, 0, 4, 8, 2, 1, 7, 5, 6]
    weights = tuple(float(t + 1) for t in range(9)) if name == "fixed" else ()
    one = _weigh(name, _evidence(gold), weights=weights)
    other = _weigh(
        name,
        _evidence(gold[:, order]),
        weights=tuple(weights[t] for t in order) if weights else (),
        teachers=tuple(NAMES[t] for t in order),
    )
    np.testing.assert_array_equal(one[:, order], other)


def test_how_rows_lie_in_memory_changes_no_bit():
    confidence = np.random.default_rng(0).normal(scale=2.0, size=(500, 9))
    present = np.ones(confidence.shape, np.bool_)
    for function in (
        lambda c, p: softmax_weights(c, 1.0, p),
        lambda c, p: log_rest(np.abs(c), p),
    ):
        one = function(confidence, present)
        other = function(np.asfortranarray(confidence), np.asfortranarray(present))
        np.testing.assert_array_equal(one, other)


def test_nothing_is_weighed_where_there_is_no_slot():
    empty = _evidence(np.zeros((0, 3)))
    for name in RULES:
        for shuffle in ("teachers", "slots"):
            assert _weigh(name, empty, shuffle=shuffle).shape == (0, 3)


@pytest.mark.parametrize("losses", [[[1.0, 900.0, 2.0]], [[np.inf, 900.0, 2.0]]])
def test_ca_mkd_takes_everything_from_a_hopeless_teacher(losses):
    found = _weigh("ca_mkd", _evidence(-np.array(losses)))
    hopeless = int(np.argmax(losses[0]))
    np.testing.assert_allclose(found[0], [0.0 if t == hopeless else 0.5 for t in range(3)])


def test_two_impossible_golds_count_as_equal_losses_for_ca_mkd():
    found = _weigh("ca_mkd", _evidence([[-np.inf, -np.inf, -2.0], [-np.inf] * 3]))
    np.testing.assert_allclose(found, [[0.25, 0.25, 0.5], [1 / 3] * 3])


def test_certain_teachers_share_under_linear_entropy():
    entropy = [[0.0, 0.0, 0.0], [0.0, 0.0, 2.0], [1.0, 1.0, 2.0]]
    found = _weigh("entropy_linear", _evidence(np.full((3, 3), -1.0), entropy=entropy))
    np.testing.assert_allclose(found, [[1 / 3] * 3, [0.5, 0.5, 0.0], [0.375, 0.375, 0.25]])


def test_segments_are_compared_where_all_teachers_are_present():
    evidence = _evidence(
        [[-1.0, -2.0], [np.nan, -90.0], [-1.0, np.nan], [np.nan, -1.0]],
        present=[[True, True], [False, True], [True, False], [False, True]],
        example=[0, 0, 1, 1],
    )
    for name in ("min_ce", "segment_entropy"):
        found = _weigh(name, evidence, tau=0.0)
        # The second segment has no such slot; there each slot has one teacher anyway.
        assert found.tolist() == [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]


def test_a_segment_without_a_common_slot_has_equal_weights():
    present = np.array([[True, True, False], [False, True, True]])
    evidence = _evidence(np.where(present, [[-1.0, -2.0, 0.0]], np.nan), present=present)
    for name in ("min_ce", "avg_ce", "segment_entropy", "segment_loo"):
        found = _weigh(name, evidence)
        assert found.tolist() == [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]


def test_words_count_once_with_their_own_probability():
    # Slots 0 and 1 are one word, of which the slots say the opposite of what the word says.
    evidence = _evidence(
        [[-9.0, -1.0], [-9.0, -1.0], [-1.0, -1.0]],
        unit=[0, 0, 1],
        unit_logprob=[[-1.0, -3.0], [np.nan, np.nan], [-1.0, -1.0]],
    )
    assert _weigh("min_ce", evidence).tolist() == [[1.0, 0.0]] * 3
    loo = _weigh("segment_loo", evidence)
    np.testing.assert_allclose(loo, [[0.5, 0.5], [0.5, 0.5], [0.88080, 0.11920]], atol=1e-5)


def test_other_documents_of_a_segment_say_nothing_to_segment_loo():
    evidence = _evidence([[-1.0, -3.0]] * 3, document=[7, 8, 8])
    found = _weigh("segment_loo", evidence)
    np.testing.assert_allclose(
        found, [[0.5, 0.5], [0.88080, 0.11920], [0.88080, 0.11920]], atol=1e-5
    )


def test_an_impossible_gold_counts_against_a_teacher_at_the_other_slots_alone():
    evidence = _evidence([[-np.inf, -5.0], [-1.0, -5.0], [-1.0, -5.0]])
    found = _weigh("segment_loo", evidence)
    assert found[0, 0] > 0.99
    assert found[1:].tolist() == [[0.0, 1.0]] * 2


def test_a_fitted_prior_weighs_without_being_softened():
    fit = Fit(on={}, weights={"b": 0.2, "a": 0.8})
    gold = _weigh("gold", _evidence(GOLD), prior="fitted", fit=fit, tau=0.5)
    np.testing.assert_allclose(gold, [[0.032 / 0.104, 0.072 / 0.104], [0.8, 0.2]])
    loo = _weigh("segment_loo", _evidence(GOLD), prior="fitted", fit=fit)
    np.testing.assert_allclose(loo, [[0.8, 0.2], [0.16 / 0.28, 0.12 / 0.28]])


@pytest.mark.parametrize("fit", [None, Fit(on={}), Fit(on={}, weights={"a": 1.0})])
def test_a_fitted_prior_that_was_not_fitted_is_refused(fit):
    with pytest.raises(MergeError, match=r"weighting 'gold' has no fitted .*\bb\b"):
        _weigh("gold", _evidence(GOLD), prior="fitted", fit=fit)


def test_a_teacher_without_a_prior_decides_nothing():
    confidence, present = np.array([[0.0, -1000.0, -1001.0]]), np.ones((1, 3), np.bool_)
    found = softmax_weights(confidence, 1.0, present, np.array([0.0, 1.0, 1.0]))
    np.testing.assert_allclose(found, [[0.0, 0.73106, 0.26894]], atol=1e-5)
    alone = softmax_weights(confidence, 1.0, present & [True, False, False], np.array([0.0, 1, 1]))
    assert alone.tolist() == [[1.0, 0.0, 0.0]]


def test_the_share_of_the_others_keeps_its_digits():
    found = log_rest(np.array([[1.0, 1e-30], [1.0, 0.0]]), np.ones((2, 2), np.bool_))
    np.testing.assert_allclose(found[0], [np.log(1e-30), -1e-30], rtol=1e-12)
    assert found[1].tolist() == [-np.inf, 0.0]


def test_sharpening_closes_the_gap_on_gold():
    probability = np.array([[0.2, 0.6], [1.0, 1.0], [np.nan, 0.3], [0.2, 0.6], [0.0, 1.0]])
    flat = np.array([[0.5, 0.5], [0.5, 0.5], [0.0, 1.0], [0.5, 0.5], [0.5, 0.5]])
    sharp = np.array([[0.25, 0.75], [0.5, 0.5], [0.0, 1.0], [0.75, 0.25], [0.0, 1.0]])
    found = sharpening(probability, sharp, flat)
    # Less than uniform gives gold is no reason to take something away.
    np.testing.assert_allclose(found, [0.1 / 0.6, 0.0, 0.0, 0.0, 1.0])
    assert (found < 1.0).all()


def test_random_slots_change_places_within_a_kind_and_with_the_same_teachers():
    rng = np.random.default_rng(0)
    present = np.arange(40)[:, None] % 3 != np.array([0, 1, 5])
    evidence = _evidence(
        np.where(present, rng.normal(loc=-9.0, size=(40, 3)), np.nan),
        present=present,
        kind=np.arange(40) % 2,
    )
    gold = _weigh("gold", evidence)
    found = _weigh("random", evidence, shuffle="slots")
    assert (found != gold).any(axis=1).sum() > 20
    groups = np.arange(40) % 6
    for group in range(6):
        own = groups == group
        assert sorted(found[own].tolist()) == sorted(gold[own].tolist())
