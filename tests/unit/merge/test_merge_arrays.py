from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ckd_cache.errors import MergeError
from ckd_cache.format.spec import Capture
from ckd_cache.merge import merge as merge_module
from ckd_cache.merge.fit import SLOT_TYPES, Fit
from ckd_cache.merge.merge import merge_arrays
from ckd_cache.merge.rule import TargetRule
from ckd_cache.numerics.topk import reference_distributions
from ckd_cache.types import Array, TargetArrays, TeacherArrays, array_names

B, M, V, K = 5, 3, 40, 8
CAPTURE = Capture(K, (1.0, 2.0), 0.0, 0.0)


def _teacher(seed: int, gold: Array, slot_mask: Array, k: int = K) -> TeacherArrays:
    logits = np.random.default_rng(seed).normal(scale=3.0, size=(B * M, V))
    dense = reference_distributions(logits, gold.ravel(), k, (1.0, 2.0))
    arrays: dict[str, Array] = {}
    for name in array_names(TeacherArrays):
        values = getattr(dense, name)
        floating = values.dtype == np.float64
        values = values.reshape(B, M, *values.shape[1:]).copy()
        values[~slot_mask] = np.nan if floating else 0
        arrays[name] = values.astype(np.float32 if floating else np.int32)
    return TeacherArrays(**arrays)


@pytest.fixture
def read() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    slot_mask = np.arange(M) < np.array([3, 2, 0, 1, 3])[:, None]
    gold = np.where(slot_mask, rng.integers(0, V, size=(B, M)), 0)
    return {
        "teachers": [_teacher(1, gold, slot_mask), _teacher(2, gold, slot_mask)],
        "captures": [CAPTURE, CAPTURE],
        "gold_ids": gold,
        "slot_mask": slot_mask,
        "support_size": V,
        "quantise_max_nats": 0.0,
    }


def _rule(**changes: Any) -> TargetRule:
    fields: dict[str, Any] = {"weighting": "gold", "tau": 1.0, "temperature": 1.0, "top_k": K}
    return TargetRule(**(fields | {"teachers": ("a", "b")} | changes))


def test_shapes_types_and_unused_slots_are_those_of_the_record(read):
    found = merge_arrays(rule=_rule(top_k=10), **read)
    unused = ~read["slot_mask"]
    for name, shape in {"ids": (10,), "logprobs": (10,), "weights": (2,)}.items():
        assert found[name].shape == (B, M, *shape)
    for name in array_names(TargetArrays):
        if name in ("ids", "n_valid"):
            assert found[name].dtype == np.int32
            assert (found[name][unused] == 0).all()
        else:
            assert found[name].dtype == np.float32
            assert np.isnan(found[name][unused]).all()
            assert not np.isnan(found[name][~unused]).any()
    assert (found.n_valid[~unused] == 10).all()


def test_pieces_give_the_same_bits(read, monkeypatch):
    whole = merge_arrays(rule=_rule(), **read)
    monkeypatch.setattr(merge_module, "_CANDIDATES_AT_ONCE", 40)
    pieces = merge_arrays(rule=_rule(), **read)
    for name in array_names(TargetArrays):
        np.testing.assert_array_equal(whole[name], pieces[name])


def test_examples_without_any_slot_are_blank(read):
    read["slot_mask"] = np.zeros((B, M), dtype=bool)
    found = merge_arrays(rule=_rule(), **read)
    assert np.isnan(found.logprobs).all()
    assert not found.n_valid.any()


def test_teachers_may_keep_different_numbers_of_ids(read):
    gold, mask = read["gold_ids"], read["slot_mask"]
    read["teachers"] = [read["teachers"][0], _teacher(2, gold, mask, k=3)]
    read["captures"] = [CAPTURE, Capture(3, (1.0, 2.0), 0.0, 0.0)]
    found = merge_arrays(rule=_rule(top_k=11), **read)
    total = np.exp(found.logprobs).sum(axis=-1) + np.exp(found.tail)
    np.testing.assert_allclose(total[mask], 1.0, rtol=1e-6)


def test_a_target_keeps_no_more_than_the_support(read):
    assert merge_arrays(rule=_rule(top_k=1000), **read).ids.shape == (B, M, V)


def test_more_ids_than_anyone_knows_are_left_empty(read):
    found = merge_arrays(rule=_rule(top_k=30), **read)
    used = read["slot_mask"]
    # Two teachers know at most 8 + 8 ids and gold.
    assert (found.n_valid[used] <= 17).all()
    beyond = np.arange(30) >= found.n_valid[used][:, None]
    assert (found.logprobs[used][beyond] == -np.inf).all()
    assert (found.ids[used][beyond] == 0).all()


def test_a_gold_that_nobody_can_predict_gives_equal_weights(read):
    for teacher in read["teachers"]:
        teacher.gold_logprob[0, 0] = -np.inf
    found = merge_arrays(rule=_rule(), **read)
    assert found.weights[0, 0].tolist() == [0.5, 0.5]
    assert found.gold_logprob[0, 0] == -np.inf


def test_storing_with_rounding_makes_a_target_less_certain(read):
    exact = merge_arrays(rule=_rule(), **read).uncertain
    rounded = merge_arrays(rule=_rule(), **(read | {"quantise_max_nats": 1e-4})).uncertain
    used = read["slot_mask"]
    assert (rounded[used] > exact[used]).all()


def test_a_slot_without_a_distribution_is_refused(read):
    read["teachers"][1].n_valid[3, 0] = 0
    with pytest.raises(MergeError, match=r"teacher 'b' .* example 3, slot 0 .*from a copy"):
        merge_arrays(rule=_rule(), **read)


def test_other_examples_are_refused(read):
    read["slot_mask"] = read["slot_mask"][:3]
    with pytest.raises(MergeError, match=r"teacher 'a' .* \(5, 3\), expected \(3, 3\)"):
        merge_arrays(rule=_rule(), **read)


def test_a_temperature_that_was_not_captured_is_refused(read):
    with pytest.raises(MergeError, match=r"captured at 4\.0, but teacher 'a'"):
        merge_arrays(rule=_rule(temperature=4.0), **read)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weighting": "gate"}, "the rule has no fit"),
        ({"calibrate": "weights"}, "the rule has no fit"),
        ({"prior": "fitted"}, "the rule has no fit"),
        ({"missing": "exact"}, "gathered logprobs of every teacher, and a, b"),
        ({"missing": "exact", "mixture": "geometric"}, "gathered logprobs"),
    ],
)
def test_what_a_rule_needs_is_asked_for_and_never_left_out(read, changes, said):
    with pytest.raises(MergeError, match=said):
        merge_arrays(rule=_rule(**changes), **read)


def test_a_teacher_alone_needs_nothing_gathered(read):
    one = {**read, "teachers": read["teachers"][:1], "captures": read["captures"][:1]}
    exact = merge_arrays(rule=_rule(teachers=("a",), missing="exact"), **one)
    plain = merge_arrays(rule=_rule(teachers=("a",)), **one)
    np.testing.assert_array_equal(exact.logprobs, plain.logprobs)


@pytest.mark.parametrize("weighting", ["gold", "min_ce", "avg_ce", "segment_loo", "entropy"])
def test_calibrated_weights_are_those_of_calibrated_scalars(read, weighting):
    """Also of rules over a segment; the second teacher is taken at temperature 2."""
    temperatures = {"a": dict.fromkeys(SLOT_TYPES, 1.0), "b": dict.fromkeys(SLOT_TYPES, 2.0)}
    fit = Fit(on={}, temperatures=temperatures)
    rule = _rule(weighting=weighting, calibrate="weights", fit=fit)
    second = read["teachers"][1]
    lse = second.logsumexp
    tempered = replace(
        second,
        gold_logprob=((second.gold_logprob + lse[..., 0]) / 2 - lse[..., 1]).astype(np.float32),
        entropy=second.entropy[..., ::-1].copy(),
    )
    by_hand = {**read, "teachers": [read["teachers"][0], tempered]}
    expected = merge_arrays(rule=_rule(weighting=weighting), **by_hand)
    found = merge_arrays(rule=rule, **read)
    np.testing.assert_allclose(found.weights, expected.weights, atol=1e-5)
