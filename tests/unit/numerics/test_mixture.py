from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from ckd_cache.numerics.mixture import Component, mix, ordered_sum, temper, temper_scalar


def _component(kept: dict[int, float], tail: float, gold: float, k: int = 3) -> Component:
    """One slot."""
    lacking = k - len(kept)
    return Component(
        ids=np.array([[*kept, *[0] * lacking]]),
        kept=np.array([[*kept.values(), *[0.0] * lacking]]),
        n_valid=np.array([len(kept)]),
        tail=np.array([tail]),
        gold=np.array([gold]),
    )


def _kept(mixture) -> dict[int, float]:
    n = int(mixture.n_valid[0])
    return dict(
        zip(mixture.ids[0, :n].tolist(), np.exp(mixture.logprobs[0, :n]).tolist(), strict=True)
    )


_HALF = np.array([[0.5, 0.5]])


def test_shared_ids_add_up_and_the_rest_stays_in_the_tail():
    a = _component({7: 0.5, 2: 0.3}, 0.2, 0.5)
    b = _component({2: 0.4, 9: 0.2}, 0.4, 0.1)
    found = mix([a, b], _HALF, np.array([2]), 3)
    assert _kept(found) == pytest.approx({2: 0.35, 7: 0.25, 9: 0.1})
    assert found.tail == pytest.approx(0.3)
    assert found.missing.tolist() == [[1, 1]]
    assert not found.gold_outside.any()


def test_a_gold_that_is_not_kept_counts_and_leaves_the_tail():
    a = _component({7: 0.5, 2: 0.3}, 0.2, 0.15)
    b = _component({1: 0.4, 9: 0.2}, 0.4, 0.4)
    found = mix([a, b], _HALF, np.array([1]), 5)
    assert _kept(found) == pytest.approx({1: 0.275, 7: 0.25, 2: 0.15, 9: 0.1})
    assert found.left[0].tolist() == pytest.approx([0.05, 0.4])
    assert found.gold_outside.tolist() == [[True, False]]
    # a knows 7, 2 and gold; b knows 1 and 9.
    assert found.missing.tolist() == [[1, 2]]
    assert found.ids[0, 4] == 0
    assert found.logprobs[0, 4] == -np.inf


def test_a_gold_that_no_teacher_keeps_can_enter_the_target():
    a = _component({7: 0.5, 2: 0.01}, 0.49, 0.009)
    b = _component({1: 0.5, 9: 0.01}, 0.49, 0.009)
    found = mix([a, b], _HALF, np.array([33]), 3)
    assert found.ids.tolist() == [[1, 7, 33]]
    assert found.missing.tolist() == [[1, 1]]


def test_rounding_cannot_take_more_out_of_a_tail_than_is_in_it():
    a = _component({7: 0.9}, 0.1, 0.1001)
    found = mix([a], np.ones((1, 1)), np.array([3]), 3)
    assert _kept(found) == pytest.approx({7: 0.9, 3: 0.1})
    assert found.tail[0] == 0.0


def test_truncating_moves_mass_into_the_tail_exactly():
    a = _component({7: 0.5, 2: 0.3, 4: 0.1}, 0.1, 0.5)
    found = mix([a], np.ones((1, 1)), np.array([7]), 2)
    assert found.ids.tolist() == [[7, 2]]
    assert found.tail == pytest.approx(0.2)


def test_equal_probabilities_stand_by_ascending_id():
    a = _component({9: 0.4, 5: 0.2}, 0.4, 0.4)
    b = _component({3: 0.4, 5: 0.2}, 0.4, 0.0)
    found = mix([a, b], _HALF, np.array([9]), 3)
    assert found.ids.tolist() == [[3, 5, 9]]


def test_probabilities_that_are_stored_alike_count_as_equal():
    a = _component({9: 0.4 * (1.0 + 1e-12), 5: 0.4}, 0.2, 0.4)
    found = mix([a], np.ones((1, 1)), np.array([9]), 2)
    assert found.ids.tolist() == [[5, 9]]


def _some(n: int, s: int, k: int) -> tuple[list[Component], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    components = []
    for _ in range(s):
        p = rng.dirichlet(np.ones(k + 1), size=n)
        ids = rng.permuted(np.tile(np.arange(6), (n, 1)), axis=1)[:, :k]
        components.append(Component(ids, p[:, :k], np.full(n, k), p[:, k], p[:, k] / 2))
    return components, rng.dirichlet(np.ones(s), size=n), rng.integers(0, 6, size=n)


def test_teachers_are_summed_in_the_order_given():
    components, weights, gold = _some(300, 5, 4)
    order = [3, 0, 4, 2, 1]
    one = mix(components, weights, gold, 3)
    again = [components[t] for t in order]
    other = mix(again, weights[:, order], gold, 3)
    np.testing.assert_array_equal(one.ids, other.ids)
    np.testing.assert_allclose(one.head, other.head, atol=1e-14)
    np.testing.assert_array_equal(one.missing[:, order], other.missing)
    back = np.argsort(order)
    same = mix([again[t] for t in back], weights[:, order][:, back], gold, 3)
    np.testing.assert_array_equal(one.head, same.head)
    np.testing.assert_array_equal(one.tail, same.tail)
    np.testing.assert_array_equal(one.logprobs, same.logprobs)


def test_a_slot_is_mixed_alike_whatever_stands_beside_it():
    # More than are worked on at a time.
    components, weights, gold = _some(1301, 3, 4)
    # An id that needs more bits makes the keys of all slots wider.
    components[0].ids[1300, 0] = 1 << 31
    one = mix(components, weights, gold, 3)
    other = mix(_first(components, 1300), weights[:1300], gold[:1300], 3)
    np.testing.assert_array_equal(one.ids[:1300], other.ids)
    np.testing.assert_array_equal(one.logprobs[:1300], other.logprobs)
    np.testing.assert_array_equal(one.tail[:1300], other.tail)
    np.testing.assert_array_equal(one.missing[:1300], other.missing)


def _first(components: list[Component], n: int) -> list[Component]:
    return [component.only(slice(n)) for component in components]


def test_no_slots_make_no_mixture():
    components, weights, gold = _some(3, 2, 4)
    found = mix(_first(components, 0), weights[:0], gold[:0], 3)
    assert found.ids.shape == found.logprobs.shape == (0, 3)
    assert found.missing.shape == (0, 2)


def test_spread_gives_missing_ids_what_a_tail_has_for_each():
    a = _component({7: 0.5, 2: 0.3}, 0.2, 0.5)
    b = _component({2: 0.4, 9: 0.2}, 0.4, 0.1)
    found = mix([a, b], _HALF, np.array([2]), 2, "spread", 12)
    # a shares 0.2 out over ten ids, b 0.4.
    assert found.share.tolist() == [pytest.approx([0.02, 0.04])]
    assert _kept(found) == pytest.approx({2: 0.35, 7: 0.25 + 0.02})
    assert found.tail == pytest.approx((0.1 + 0.01) + 9 * 0.03)


def test_a_teacher_that_knows_all_ids_shares_nothing_out():
    a = _component({7: 0.5, 2: 0.3}, 0.2, 0.5)
    found = mix([a], np.ones((1, 1)), np.array([7]), 3, "spread", 2)
    assert found.share.tolist() == [[0.0]]
    assert found.tail == pytest.approx(0.2)


def _with_more(one: Component, more: dict[int, float]) -> Component:
    return replace(one, more_ids=np.array([[*more, -1]]), more=np.array([[*more.values(), 0.0]]))


def test_further_ids_leave_the_tail():
    a = _with_more(_component({7: 0.5, 2: 0.3}, 0.2, 0.05), {9: 0.1, 1: 0.05, 4: 0.001})
    b = _component({9: 0.4, 1: 0.2}, 0.4, 0.2)
    found = mix([a, b], _HALF, np.array([1]), 4, "exact")
    assert _kept(found) == pytest.approx({7: 0.25, 9: 0.25, 2: 0.15, 1: 0.125})
    # Gold is among the further ids, and counts once.
    assert found.left == pytest.approx(np.array([[0.049, 0.4]]))
    assert found.further == pytest.approx(np.array([[0.1, 0.0]]))
    assert found.missing.tolist() == [[0, 2]]
    assert found.tail == pytest.approx(0.5 * (0.049 + 0.4 + 0.001))


def test_rounding_cannot_take_more_out_of_a_tail_by_further_ids_either():
    a = _with_more(_component({7: 0.8}, 0.2, 0.1), {9: 0.2, 4: 0.1})
    found = mix([a], np.ones((1, 1)), np.array([3]), 4, "exact")
    assert _kept(found) == pytest.approx({7: 0.8, 9: 0.1, 3: 0.05, 4: 0.05})
    assert found.tail[0] == 0.0


def test_an_absent_teacher_says_nothing():
    a = _component({7: 0.5, 2: 0.3}, 0.2, 0.05)
    gone = _component({}, 1.0, math.nan)
    for policy in ("bucket", "spread", "exact"):
        found = mix([a, gone], np.array([[1.0, 0.0]]), np.array([1]), 3, policy, 12)
        alone = mix([a], np.ones((1, 1)), np.array([1]), 3, policy, 12)
        assert _kept(found) == _kept(alone)
        assert found.tail[0] == alone.tail[0]
        assert (found.left[0, 1], found.missing[0, 1], found.gold_outside[0, 1]) == (0.0, 0, False)


def test_a_teacher_without_weight_brings_no_ids():
    a = _component({7: 0.5, 2: 0.3}, 0.2, 0.5)
    b = _component({1: 1.0}, 0.0, 0.0)
    found = mix([a, b], np.array([[1.0, 0.0]]), np.array([7]), 3)
    assert _kept(found) == pytest.approx({7: 0.5, 2: 0.3})


def test_rounding_drift_is_divided_out():
    a = _component({7: 0.5001, 2: 0.3}, 0.2, 0.5001)
    found = mix([a], np.ones((1, 1)), np.array([7]), 3)
    assert found.head[0] + found.tail[0] == pytest.approx(1.0, abs=1e-15)


def test_ordered_sum_does_not_depend_on_the_order():
    x = np.random.default_rng(0).normal(size=(50, 7)) * 10.0 ** np.arange(7)
    shuffled = x[:, [3, 1, 6, 0, 2, 5, 4]]
    np.testing.assert_array_equal(ordered_sum(x), ordered_sum(shuffled))


def test_tempering_equals_the_tempered_softmax():
    logits = np.random.default_rng(0).normal(size=(4, 10)) * 3.0
    logits = -np.sort(-logits, axis=1)
    powers = np.exp(logits / 2.0)
    dense = powers / powers.sum(axis=1, keepdims=True)
    lse_one = np.log(np.exp(logits).sum(axis=1))
    lse_two = np.log(powers.sum(axis=1))
    logprobs = logits - lse_one[:, None]
    tail = np.log(dense[:, 6:].sum(axis=1))
    found = temper(logprobs[:, :6], np.full(4, 6), tail, 2.0)
    np.testing.assert_allclose(found, dense[:, :6], rtol=1e-12)
    scalar = temper_scalar(logprobs[:, 8], lse_one, lse_two, 2.0)
    np.testing.assert_allclose(np.exp(scalar), dense[:, 8], rtol=1e-12)


def test_each_slot_may_have_a_temperature_of_its_own():
    logprobs = np.log(np.array([[0.6, 0.3], [0.6, 0.3], [0.6, 0.3]]))
    tails, heat = np.log([0.1, 0.2, 0.3]), np.array([1.0, 2.0, 0.5])
    n_valid = np.array([2, 2, 0])
    found = temper(logprobs, n_valid, tails, heat)
    for i in range(3):
        at = slice(i, i + 1)
        alone = temper(logprobs[at], n_valid[at], tails[at], float(heat[i]))
        np.testing.assert_array_equal(found[at], alone)
    assert found[2].tolist() == [0.0, 0.0]


def test_a_tail_that_rounds_to_everything_leaves_no_head():
    found = temper(np.array([[-np.inf, -np.inf]]), np.array([2]), np.array([-0.0]), 1.0)
    assert found.tolist() == [[0.0, 0.0]]


def test_tempering_at_one_gives_logprobs_back():
    logprobs = np.array([[math.log(0.6), math.log(0.3), -np.inf]])
    found = temper(logprobs, np.array([2]), np.log([0.1]), 1.0)
    np.testing.assert_allclose(found, [[0.6, 0.3, 0.0]], rtol=1e-15)
