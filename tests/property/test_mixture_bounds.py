"""The bounds hold on every slot, rounded or not, and smaller ones do not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.property.mixture_cases import (
    View,
    components_of,
    dense,
    flat,
    golds_of,
    peaked,
    silenced,
    weights_of,
)
from tests.property.mixture_reference import check_bound, distance

from ckd_cache.numerics.bounds import rounding_at, uncertain
from ckd_cache.numerics.geometric import mix_geometric, uncertain_geometric
from ckd_cache.numerics.mixture import mix

EXACT = rounding_at(0.0, 1.0)


class Case:
    """A mixture of some teachers, its bound, and how far it is from the true one."""

    def __init__(
        self, policy: str, view: View, seed: int = 0, size: int = 60, k: int = 8, **changes: Any
    ) -> None:
        make, n = changes.get("make", peaked), changes.get("n", 24)
        teachers, silent = changes.get("teachers", 3), changes.get("silent", 0.2)
        logits = make(seed, teachers, size, n)
        gold = golds_of(seed, logits)
        weights = self.weights = weights_of(seed, n, teachers, silent)
        sizes = np.random.default_rng(seed).integers(1, 13, teachers).tolist()
        self.components = silenced(components_of(logits, gold, sizes, view), weights)
        roundings = [view.rounding] * teachers
        rest = (self.components, weights, roundings)
        if policy == "geometric":
            self.whole = mix_geometric(self.components, weights, gold, k)
            self.mixture = self.whole.mixture
            self.bound = uncertain_geometric(*rest[:2], self.whole, roundings, EXACT)
        else:
            self.mixture = mix(self.components, weights, gold, k, policy, size)
            self.bound = uncertain(*rest[:2], self.mixture, roundings, EXACT)
        self.truth = _truth(policy, [dense(one, view.temperature) for one in logits], weights)
        self.distance = distance(self.mixture, self.truth)
        knowing = replace(self.mixture, missing=np.zeros_like(self.mixture.missing))
        self.without_missing = uncertain(*rest[:2], knowing, roundings, EXACT)


def _truth(policy: str, teachers: list[Any], weights: Any) -> Any:
    columns = list(zip(weights.T, teachers, strict=True))
    if policy != "geometric":
        return sum(w[:, None] * p for w, p in columns)
    product = np.ones(teachers[0].shape)
    for w, p in columns:
        product *= p ** w[:, None]
    return product / product.sum(axis=1, keepdims=True)


views = st.builds(
    View,
    temperature=st.sampled_from([1.0, 0.5, 2.0]),
    step=st.sampled_from([0.0, 0.01, 0.05, 0.5]),
    gathered=st.booleans(),
)
sizes = st.fixed_dictionaries(
    {"seed": st.integers(0, 10_000), "size": st.sampled_from([13, 60, 200])}
    | {"k": st.sampled_from([1, 8, 40]), "teachers": st.integers(1, 4)}
)


@given(st.sampled_from(["bucket", "spread"]), views, sizes, st.sampled_from([peaked, flat]))
def test_the_bound_of_an_arithmetic_mixture_holds(policy, view, size, make):
    case = Case(policy, view, make=make, **size)
    check_bound(case.distance, case.bound)


@given(views, sizes)
def test_the_bound_of_a_geometric_mixture_holds(view, size):
    gathered = View(view.temperature, view.step, gathered=True)
    case = Case("geometric", gathered, **(size | {"size": 200}))
    check_bound(case.distance, case.bound)


@given(views, sizes)
def test_the_bound_holds_where_the_union_is_not_known(view, size):
    case = Case("geometric", View(view.temperature, view.step), **(size | {"size": 200}))
    check_bound(case.distance, case.bound)


@given(sizes)
def test_nothing_is_uncertain_where_the_union_is_known(size):
    case = Case("exact", View(gathered=True), **size)
    assert case.bound.max() == 0.0
    assert case.distance.max() < 1e-6


def test_one_teacher_alone_is_certain_in_a_geometric_mixture():
    case = Case("geometric", View(), teachers=1)
    assert case.bound.max() < 1e-12
    assert case.distance.max() < 1e-6
    assert Case("geometric", View(gathered=True), teachers=2, silent=0.0).bound.max() > 0.05


@pytest.mark.parametrize("policy", ["bucket", "spread", "geometric"])
def test_wrong_bounds_are_caught(policy):
    view = View(gathered=policy == "geometric")
    case = Case(policy, view, n=2000, size=300, k=40, teachers=2, silent=0.0)
    check_bound(case.distance, case.bound)
    with pytest.raises(AssertionError, match="above"):
        check_bound(case.distance, 0.4 * case.bound)
    with pytest.raises(AssertionError, match="above"):
        check_bound(case.distance, case.without_missing)


@pytest.mark.parametrize("policy", ["bucket", "exact"])
def test_a_bound_without_rounding_is_caught(policy):
    view = View(step=0.5, gathered=policy == "exact")
    case = Case(policy, view, n=500)
    check_bound(case.distance, case.bound)
    exact = uncertain(case.components, case.weights, case.mixture, [EXACT] * 3, EXACT)
    with pytest.raises(AssertionError, match="above"):
        check_bound(case.distance, exact)
