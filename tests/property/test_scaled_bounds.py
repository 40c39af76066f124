"""The bounds hold where rounding puts more into the ids of a tail than the tail has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.property.mixture_reference import check_bound, distance

from ckd_cache.numerics.bounds import rounding_at, uncertain
from ckd_cache.numerics.geometric import mix_geometric, uncertain_geometric
from ckd_cache.numerics.mixture import Component, Mixture, mix
from ckd_cache.numerics.quantise import to_half

STEP = 0.049
# A single kept id has all of the kept mass, however its logprob was rounded.
GATHERED = replace(rounding_at(STEP, 1.0, STEP), step=0.0)
SCALARS = replace(rounding_at(STEP, 1.0), step=0.0)
EXACT = rounding_at(0.0, 1.0)


def _tail(more: int, up: int, level: int, golds: int) -> tuple[Component, np.ndarray, np.ndarray]:
    """A teacher that keeps id 0 and tells all the others, what is true of it, and gold.

    ``up`` ids are stored smaller than they are, the others larger, each by almost as much as
    rounding can; gold, if it is among them, is the first.
    """
    half = np.full(more, 0.9999 * STEP / 2.0)
    half[:golds] = 0.9999 * 2.0**-11
    stored = np.full(more, np.exp(-level * STEP))
    true = stored * np.exp(np.where(np.arange(more) < up, half, -half))
    tail = np.exp(to_half(np.log(true.sum(keepdims=True))).astype(float))
    gold = golds > 0
    component = Component(
        ids=np.array([[0]]),
        kept=1.0 - tail[:, None],
        n_valid=np.array([1]),
        tail=tail,
        gold=stored[:1] if gold else 1.0 - tail,
        more_ids=np.arange(1, more + 1)[None],
        more=stored[None],
    )
    return component, np.concatenate([[1.0 - true.sum()], true])[None], np.array([int(gold)])


def _with_tail(one: Component, gold: np.ndarray, k: int) -> tuple[Mixture, np.ndarray]:
    ones = np.ones((1, 1))
    mixture = mix([one], ones, gold, k, "exact")
    return mixture, uncertain([one], ones, mixture, [GATHERED], EXACT)


def test_an_id_can_be_stored_too_small_and_scaled_down_as_well():
    one, truth, gold = _tail(more=40, up=10, level=76, golds=0)
    mixture, bound = _with_tail(one, gold, 11)
    assert mixture.scale[0, 0] < 0.99
    assert mixture.head + mixture.tail == pytest.approx(1.0, abs=1e-14)
    found = distance(mixture, truth)
    check_bound(found, bound)
    rounding = mixture.further[:, 0] * np.expm1(GATHERED.more)
    assert found[0] > 1.2 * rounding[0], "as large as if nothing were scaled"
    assert bound[0] < 1.1 * found[0]


def test_gold_outside_is_scaled_down_with_the_others():
    one, truth, gold = _tail(more=40, up=1, level=76, golds=1)
    mixture, bound = _with_tail(one, gold, 2)
    assert mixture.ids[0].tolist() == [0, 1]
    found = distance(mixture, truth)
    check_bound(found, bound)
    assert bound[0] < 1.1 * found[0]


cases = st.fixed_dictionaries(
    {"more": st.integers(1, 40), "up": st.integers(0, 40), "golds": st.integers(0, 1)}
    | {"level": st.integers(1, 200)}
).filter(lambda case: case["more"] * np.exp(STEP * (0.5 - case["level"])) < 0.99)


@given(cases, st.integers(1, 41))
def test_the_bound_of_an_arithmetic_mixture_holds(case, k):
    one, truth, gold = _tail(**case)
    mixture, bound = _with_tail(one, gold, k)
    check_bound(distance(mixture, truth), bound)


@given(cases, cases, st.integers(1, 41), st.floats(0.05, 0.95))
def test_the_bound_of_a_geometric_mixture_holds(first, second, k, weight):
    second = second | {name: first[name] for name in ("more", "golds")}
    if second["more"] * np.exp(STEP * (0.5 - second["level"])) >= 0.99:
        second = second | {"level": first["level"]}
    (one, a, gold), (other, b, _) = _tail(**first), _tail(**second)
    weights = np.array([[weight, 1.0 - weight]])
    found = mix_geometric([one, other], weights, gold, k)
    bound = uncertain_geometric([one, other], weights, found, [GATHERED] * 2, EXACT)
    truth = a**weight * b ** (1.0 - weight)
    check_bound(distance(found.mixture, truth / truth.sum()), bound)


@given(st.integers(1, 2000), st.booleans())
def test_the_bound_holds_where_gold_alone_is_above_the_tail(level, up):
    one, truth, gold = _tail(more=1, up=int(up), level=level, golds=1)
    one = Component(one.ids, one.kept, one.n_valid, one.tail, one.gold)
    mixture = mix([one], np.ones((1, 1)), gold, 2)
    check_bound(
        distance(mixture, truth), uncertain([one], np.ones((1, 1)), mixture, [SCALARS], EXACT)
    )
