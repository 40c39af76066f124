"""The bound on a mixture is attained, holds for peaked teachers, and could not be smaller."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from ckd_cache.numerics.bounds import Rounding, coarsest, rounding_at, uncertain
from ckd_cache.numerics.mixture import Component, Mixture, mix

_EXACT = rounding_at(0.0, 1.0)


def _truncate(dense: np.ndarray, gold: np.ndarray, k: int) -> Component:
    ids = np.argsort(-dense, axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(dense, ids, axis=1)
    outside = dense.copy()
    np.put_along_axis(outside, ids, 0.0, axis=1)
    return Component(
        ids=ids,
        kept=kept,
        n_valid=(kept > 0).sum(axis=1),
        tail=outside.sum(axis=1),
        gold=np.take_along_axis(dense, gold[:, None], axis=1)[:, 0],
    )


def _distance(mixture: Mixture, truth: np.ndarray) -> np.ndarray:
    """Total variation on the cells {each kept id, everything else}."""
    used = np.arange(mixture.ids.shape[1]) < mixture.n_valid[:, None]
    on_kept = np.where(used, np.take_along_axis(truth, mixture.ids, axis=1), 0.0)
    head = np.abs(np.exp(mixture.logprobs.astype(float)) - on_kept).sum(axis=1)
    return 0.5 * (head + np.abs(mixture.tail - (1.0 - on_kept.sum(axis=1))))


def _two_teachers(first: np.ndarray, second: np.ndarray, k: int, k_out: int, gold: int):
    golds = np.full(len(first), gold)
    components = [_truncate(first, golds, k), _truncate(second, golds, k)]
    weights = np.full((len(first), 2), 0.5)
    mixture = mix(components, weights, golds, k_out)
    bound = uncertain(components, weights, mixture, [_EXACT, _EXACT], _EXACT)
    return _distance(mixture, (first + second) / 2), bound, mixture, components


def _disjoint_pair(smallest: float, on_others: float) -> tuple[np.ndarray, np.ndarray]:
    """Two teachers with four ids each; each gives the other's ids as much as it can hide."""
    head = np.array([0.3, 0.2, smallest, smallest])
    hidden = np.full(4, on_others)
    rest = np.full(56, (1.0 - head.sum() - hidden.sum()) / 56)
    return np.concatenate([head, hidden, rest])[None], np.concatenate([hidden, head, rest])[None]


@pytest.mark.parametrize(
    ("smallest", "on_others"),
    [(0.05, 0.05 - 1e-10), (0.15, 0.05 - 1e-10)],
    ids=["as likely as the least kept id", "until the tail is used up"],
)
def test_an_adversarial_pair_attains_the_bound(smallest, on_others):
    distance, bound, mixture, _ = _two_teachers(*_disjoint_pair(smallest, on_others), 4, 8, gold=0)
    # Gold is known of the second teacher too, so only three ids are missing there.
    assert mixture.missing.tolist() == [[4, 3]]
    assert bound[0] > 0.1
    assert distance[0] == pytest.approx(bound[0], rel=1e-6)


def _hiding(on_others: float, size: int) -> tuple[list[Component], np.ndarray]:
    """Two teachers over ``size`` ids that keep four each and give the other's all the same."""
    rest = (0.4 - 4 * on_others) / (size - 8)
    own, other = np.array([0.3, 0.2, 0.05, 0.05]), np.full(4, on_others)
    dense = [
        np.concatenate([*pair, np.full(size - 8, rest)]) for pair in ((own, other), (other, own))
    ]
    components = [
        Component(np.arange(4)[None] + 4 * t, own[None], np.array([4]), np.array([0.4]), p[None, 0])
        for t, p in enumerate(dense)
    ]
    return components, np.mean(dense, axis=0)[None]


@pytest.mark.parametrize(
    ("policy", "on_others", "size"),
    [("bucket", 0.05, 100), ("spread", 0.05, 100), ("spread", 0.0, 17)],
    ids=["all as likely as the least kept", "the same, spread", "none likely at all, spread"],
)
def test_what_two_teachers_can_hide_attains_the_bound(policy, on_others, size):
    components, truth = _hiding(on_others, size)
    weights = np.array([[0.5, 0.5]])
    mixture = mix(components, weights, np.array([0]), 8, policy, size)
    bound = uncertain(components, weights, mixture, [_EXACT, _EXACT], _EXACT)
    # All kept ids are off in the same direction, so the tail, which is no float32, says it all.
    distance = abs(mixture.tail[0] - truth[0, 8:].sum())
    assert bound[0] > 0.1
    assert distance == pytest.approx(bound[0], abs=1e-12)
    assert _distance(mixture, truth)[0] == pytest.approx(distance, abs=1e-6)


def _peaked(seed: int, n: int = 400, size: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """Zipf-like teachers that agree on much and differ on much, as trained ones do."""
    rng = np.random.default_rng(seed)
    common = -1.1 * np.log1p(rng.permuted(np.tile(np.arange(size), (n, 1)), axis=1))
    logits = [1.3 * common + rng.normal(scale=1.5, size=(n, size)) for _ in range(2)]
    powers = [np.exp(z - z.max(axis=1, keepdims=True)) for z in logits]
    first, second = (p / p.sum(axis=1, keepdims=True) for p in powers)
    return first, second


@pytest.mark.parametrize("k_out", [4, 8, 16, 40])
def test_the_bound_holds_for_peaked_teachers(k_out):
    distance, bound, _, _ = _two_teachers(*_peaked(k_out), 16, k_out, gold=3)
    assert (distance <= bound + 1e-6).all()
    if k_out > 4:
        assert distance.max() > 0.3 * bound[distance.argmax()]
        assert bound.mean() < 0.25


def test_wrong_bounds_are_caught():
    first, second = _peaked(0)
    distance, bound, mixture, components = _two_teachers(first, second, 16, 16, gold=3)
    smallest = np.stack([c.kept[:, -1] for c in components], axis=1)
    missing, left = mixture.missing, mixture.left
    wrong = {
        "average of the tail": (missing * left / (first.shape[1] - 16)).sum(axis=1),
        "one missing id": np.minimum(left, np.minimum(missing, 1) * smallest).sum(axis=1),
        "one teacher": np.minimum(left, missing * smallest).min(axis=1),
    }
    for name, other in wrong.items():
        assert (0.5 * other <= bound + 1e-12).all(), name
        assert (distance > 0.5 * other + 1e-4).any(), name


def test_no_smaller_bound_holds():
    distance, bound, _, _ = _two_teachers(*_disjoint_pair(0.05, 0.05 - 1e-10), 4, 8, gold=0)
    assert distance[0] > 0.999 * bound[0]


def test_dropping_ids_adds_no_error_on_those_kept():
    first, second = _peaked(1)
    wide = _two_teachers(first, second, 16, 40, gold=3)
    narrow = _two_teachers(first, second, 16, 8, gold=3)
    assert (narrow[0] <= wide[0] + 1e-6).all()
    assert (narrow[1] <= wide[1] + 1e-12).all()
    np.testing.assert_allclose(narrow[2].logprobs, wide[2].logprobs[:, :8], atol=1e-6)


def test_nothing_is_uncertain_with_the_whole_support():
    first, second = _peaked(2, n=20, size=12)
    distance, bound, _, _ = _two_teachers(first, second, 12, 12, gold=3)
    assert bound.max() == 0.0
    assert distance.max() < 1e-6


def _rounded_against_us(step: float) -> tuple[np.ndarray, Component, np.ndarray]:
    """A teacher whose likely id is rounded up and whose eight unlikely ids are rounded down."""
    likely, unlikely = math.exp(-3.499 * step), math.exp(-14.501 * step)
    hidden = unlikely - 1e-9
    rest = 1.0 - likely - 8 * unlikely - hidden
    dense = np.array([[likely, *[unlikely] * 8, hidden, *[rest / 50] * 50]])
    exact = _truncate(dense, np.array([0]), 9)
    levels = np.exp(-step * np.rint(-np.log(exact.kept) / step))
    kept = levels / levels.sum() * exact.kept.sum()
    stored = Component(exact.ids, kept, exact.n_valid, exact.tail, kept[:, 0])
    return dense, stored, kept


def test_the_smallest_kept_probability_counts_at_its_upper_end():
    step = 0.2
    dense, stored, kept = _rounded_against_us(step)
    other = np.zeros_like(dense)
    other[0, 9] = 1.0
    components = [stored, _truncate(other, np.array([0]), 9)]
    weights = np.array([[0.5, 0.5]])
    mixture = mix(components, weights, np.array([0]), 10)
    roundings = [Rounding(step, 0.0, 0.0, 0.0), _EXACT]
    bound = uncertain(components, weights, mixture, roundings, _EXACT)
    distance = _distance(mixture, (dense + other) / 2)
    as_stored = 0.5 * (kept[0, -1] + kept.sum() * math.tanh(step / 4))
    assert distance[0] > as_stored + 1e-3
    assert distance[0] <= bound[0]


def test_rounding_costs_what_is_documented():
    dense, _ = _peaked(3, n=5)
    gold = np.full(5, 499)
    component = _truncate(dense, gold, 16)
    weights = np.ones((5, 1))
    mixture = mix([component], weights, gold, 16)
    step = 0.05
    stored = rounding_at(step, 1.0)
    head, tail = component.kept.sum(axis=1), component.tail
    terms = head * math.tanh(step / 4) + tail * np.expm1(2.0**-11 * -np.log(tail))
    found = uncertain([component], weights, mixture, [_EXACT], stored)
    own = mixture.head * math.tanh(step / 4)
    own += mixture.tail * np.expm1(2.0**-11 * -np.log(mixture.tail))
    np.testing.assert_allclose(found, own)
    found = uncertain([component], weights, mixture, [stored], _EXACT)
    gold_term = np.where(mixture.gold_outside[:, 0], component.gold * math.expm1(2.0**-11), 0.0)
    np.testing.assert_allclose(found, terms + gold_term)


def test_further_ids_carry_their_rounding():
    dense, _ = _peaked(4, n=5)
    gold = np.full(5, 499)
    component = _truncate(dense, gold, 16)
    ids = np.argsort(-dense, axis=1)[:, 16:20]
    more = np.take_along_axis(dense, ids, axis=1)
    other = Component(ids, np.full((5, 4), 0.25), np.full(5, 4), np.zeros(5), np.zeros(5))
    known = [replace(component, more_ids=ids, more=more), other]
    weights = np.full((5, 2), 0.5)
    roundings = [Rounding(0.0, 0.0, 0.0, 0.0, more=0.1), _EXACT]
    # All sixteen and four are kept; the other has no tail to hide anything in.
    mixture = mix(known, weights, gold, 20, "exact")
    found = uncertain(known, weights, mixture, roundings, _EXACT)
    np.testing.assert_allclose(found, 0.5 * more.sum(axis=1) * math.expm1(0.1))
    none = uncertain(known, weights, mix(known, weights, gold, 3, "exact"), roundings, _EXACT)
    assert (none < found).all()


def test_the_coarsest_rounding_exceeds_all_in_everything():
    # At 1 steps are wider, at 2 single logprobs come from three numbers.
    found = coarsest([rounding_at(0.05, 1.0, 0.1), rounding_at(0.05, 2.0, 0.1)])
    assert (found.step, found.gold) == (0.05, 2.0**-10)
    assert found.more == 0.05


def test_a_tempered_gold_carries_the_rounding_of_three_numbers():
    assert rounding_at(0.05, 1.0).gold == 2.0**-11
    assert rounding_at(0.05, 2.0).gold == 2.0**-11 * 2.0
    assert rounding_at(0.05, 0.5).gold == 2.0**-11 * 5.0
    assert rounding_at(0.05, 0.5).step == 0.1
    assert rounding_at(0.0, 2.0) == Rounding(0.0, 0.0, 0.0, 0.0)
