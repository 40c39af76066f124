"""What holds of every mixture, and that it is what the formulas say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.property.mixture_cases import (
    View,
    components_of,
    dense,
    golds_of,
    peaked,
    silenced,
    weights_of,
)
from tests.property.mixture_reference import arithmetic, geometric, outside_common, told_of

from ckd_cache.errors import MergeError
from ckd_cache.numerics.geometric import mix_geometric
from ckd_cache.numerics.mixture import Component, Mixture, mix

POLICIES = ("bucket", "spread", "exact")


class Case:
    """Teachers with k of their own, over a support that may be as small as the largest k."""

    def __init__(self, seed: int, teachers: int, size: int, gathered: bool, step: float) -> None:
        rng = np.random.default_rng(seed)
        self.size = size
        self.sizes = rng.integers(1, min(size, 12) + 1, teachers).tolist()
        self.logits = peaked(seed, teachers, size)
        self.gold = golds_of(seed, self.logits)
        self.weights = weights_of(seed, len(self.gold), teachers)
        view = View(step=step, gathered=gathered)
        seen = components_of(self.logits, self.gold, self.sizes, view)
        self.components = silenced(seen, self.weights)

    def mix(self, policy: str, k: int, order: list[int] | None = None) -> Mixture:
        order = list(range(len(self.components))) if order is None else order
        components = [self.components[t] for t in order]
        return mix(components, self.weights[:, order], self.gold, k, policy, self.size)


def cases(**changes: Any) -> st.SearchStrategy[Case]:
    given_as: dict[str, Any] = {
        "seed": st.integers(0, 10_000),
        "teachers": st.integers(1, 10),
        "size": st.sampled_from([2, 5, 12, 60]),
        "gathered": st.booleans(),
        "step": st.sampled_from([0.0, 0.05, 0.5]),
    }
    return st.builds(Case, **(given_as | changes))


ks = st.sampled_from([1, 3, 12, 80])
policies = st.sampled_from(POLICIES)


def cells(mixture: Mixture, i: int) -> dict[int, float]:
    n = int(mixture.n_valid[i])
    ids, logprobs = mixture.ids[i, :n], mixture.logprobs[i, :n].astype(float)
    return dict(zip(ids.tolist(), np.exp(logprobs).tolist(), strict=True))


@given(cases(), policies, ks)
def test_cells_are_a_distribution(case, policy, k):
    found = case.mix(policy, k)
    np.testing.assert_allclose(found.head + found.tail, 1.0, rtol=1e-14)
    assert (found.tail >= 0.0).all()
    assert found.ids.shape == found.logprobs.shape == (len(case.gold), k)
    used = np.arange(k) < found.n_valid[:, None]
    np.testing.assert_allclose(
        np.where(used, np.exp(found.logprobs.astype(float)), 0.0).sum(axis=1), found.head, rtol=1e-6
    )
    assert np.isneginf(found.logprobs[~used]).all()
    assert (found.ids[~used] == 0).all()


@given(cases(), policies, ks)
def test_arithmetic_mixtures_equal_a_slow_reference(case, policy, k):
    found = case.mix(policy, k)
    for i, gold in enumerate(case.gold.tolist()):
        told = told_of(case.components, case.weights, gold, i)
        slot = arithmetic(told, k, case.size, spread=policy == "spread")
        assert found.ids[i, : found.n_valid[i]].tolist() == list(slot.kept)
        assert cells(found, i) == pytest.approx(slot.kept, rel=1e-6)
        assert found.tail[i] == pytest.approx(slot.tail, abs=1e-12)
        assert found.missing[i].tolist() == slot.missing
        np.testing.assert_allclose(found.left[i], [one.left for one in told], atol=1e-15)


@given(cases(step=st.just(0.0)), ks)
def test_geometric_mixtures_equal_a_slow_reference(case, k):
    golds = case.gold.tolist()
    told = [told_of(case.components, case.weights, gold, i) for i, gold in enumerate(golds)]
    # Where all of them exclude each other there is no mixture.
    exist = [i for i, one in enumerate(told) if geometric(one, outside_common(one), k)[0].kept]
    components = [rows(one, exist) for one in case.components]
    found = mix_geometric(components, case.weights[exist], case.gold[exist], k)
    for i, at in enumerate(exist):
        np.testing.assert_allclose(found.mixture.left[i], outside_common(told[at]), atol=1e-14)
        slot, inside = geometric(told[at], found.mixture.left[i].tolist(), k)
        assert found.mixture.ids[i, : len(slot.kept)].tolist() == list(slot.kept)
        assert cells(found.mixture, i) == pytest.approx(slot.kept, rel=1e-6)
        assert found.mixture.tail[i] == pytest.approx(slot.tail, abs=1e-12)
        assert np.exp(found.log_inside[i]) == pytest.approx(inside, rel=1e-9)
        whole = geometric(told[at], found.mixture.left[i].tolist(), case.size)[0].kept
        assert found.gold[i] == pytest.approx(whole.get(golds[at], 0.0), rel=1e-9)


def rows(component: Component, at: list[int]) -> Component:
    more_ids, more = component.more_ids, component.more
    return Component(
        component.ids[at],
        component.kept[at],
        component.n_valid[at],
        component.tail[at],
        component.gold[at],
        None if more_ids is None else more_ids[at],
        None if more is None else more[at],
    )


@given(cases(teachers=st.just(1)), policies, ks)
def test_one_teacher_alone_is_itself(case, policy, k):
    found = case.mix(policy, k)
    one = case.components[0]
    for i, gold in enumerate(case.gold.tolist()):
        told = told_of([one], case.weights, gold, i)[0]
        for v, p in cells(found, i).items():
            assert p == pytest.approx(told.known[v], rel=1e-6)
    assert (found.missing == 0).all()


@given(cases(teachers=st.just(1), step=st.just(0.0)), ks)
def test_one_teacher_alone_is_itself_in_a_geometric_mixture(case, k):
    plain = case.mix("bucket", k)
    found = mix_geometric(case.components, case.weights, case.gold, k).mixture
    np.testing.assert_array_equal(found.ids, plain.ids)
    np.testing.assert_allclose(found.tail, plain.tail, atol=1e-14)


@given(cases(teachers=st.integers(2, 10)), policies, ks, st.randoms(use_true_random=False))
def test_the_order_of_teachers_does_not_matter(case, policy, k, random):
    order = list(range(len(case.components)))
    random.shuffle(order)
    one, other = case.mix(policy, k), case.mix(policy, k, order)
    np.testing.assert_allclose(other.tail, one.tail, atol=1e-14)
    np.testing.assert_allclose(other.head, one.head, atol=1e-14)
    np.testing.assert_array_equal(other.missing, one.missing[:, order])
    for i in range(len(case.gold)):
        assert cells(other, i) == pytest.approx(cells(one, i), rel=1e-6)


@given(cases(size=st.sampled_from([5, 12])), ks)
def test_the_whole_support_gives_the_dense_mixture(case, k):
    whole = components_of(case.logits, case.gold, [case.size] * len(case.logits))
    truth = sum(w[:, None] * dense(z) for w, z in zip(case.weights.T, case.logits, strict=True))
    for policy in POLICIES:
        found = mix(whole, case.weights, case.gold, case.size, policy, case.size)
        assert (found.tail == 0.0).all()
        for i in range(len(case.gold)):
            expected = {v: p for v, p in enumerate(truth[i].tolist()) if p > 0.0}
            assert cells(found, i) == pytest.approx(expected, rel=1e-6)


@given(cases(gathered=st.just(True), step=st.just(0.0)), ks)
def test_with_the_union_known_every_kept_id_is_exact(case, k):
    found = case.mix("exact", k)
    truth = sum(w[:, None] * dense(z) for w, z in zip(case.weights.T, case.logits, strict=True))
    assert (found.missing == 0).all()
    for i in range(len(case.gold)):
        for v, p in cells(found, i).items():
            assert p == pytest.approx(truth[i, v], rel=1e-6)


def test_probability_0_under_a_teacher_with_weight_vetoes_and_without_does_not():
    one = components_of([np.log(np.array([[0.5, 0.5, 1e-300]]))], np.array([0]), [3])[0]
    other = components_of([np.array([[0.0, -np.inf, 0.0]])], np.array([0]), [3])[0]
    both = mix_geometric([one, other], np.array([[0.5, 0.5]]), np.array([0]), 3).mixture
    assert 1 not in cells(both, 0)
    alone = mix_geometric([one, other], np.array([[1.0, 0.0]]), np.array([0]), 3).mixture
    assert cells(alone, 0)[1] == pytest.approx(0.5)


def test_teachers_that_exclude_each_other_have_no_geometric_mixture():
    ends = [np.array([[0.0, 0.0, -np.inf]]), np.array([[-np.inf, -np.inf, 0.0]])]
    components = components_of(ends, np.array([0]), [3, 3], View(gathered=True))
    with pytest.raises(MergeError, match="does not exist at 1 of 1 slots"):
        mix_geometric(components, np.array([[0.5, 0.5]]), np.array([0]), 3)
