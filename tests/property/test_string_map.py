"""Teachers carried over to another support, held to dense matrices from one support to the other.

The dense reference adds up p(u) over all ids u of the twin that go to an id v; what goes nowhere
belongs to no id.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckd_cache.numerics.bounds import rounding_at, uncertain
from ckd_cache.numerics.component import Component
from ckd_cache.numerics.mixture import mix
from ckd_cache.numerics.string_map import NOWHERE, StringMap, adopt, carried_mass, string_map

EXACT = rounding_at(0.0, 1.0)
POLICIES = ("bucket", "spread")


def random_map(generator: np.random.Generator, size: int, twin_size: int) -> StringMap:
    """A map whose fibres have several ids, and that has no place for some."""
    ids = generator.integers(-2, size, twin_size).clip(NOWHERE).astype(np.int32)
    fibre = int(np.bincount(ids[ids >= 0], minlength=size).max())
    return StringMap(ids, max(fibre, 1))


def dense_matrix(one: StringMap, size: int) -> np.ndarray:
    """(V of the twin, V) ones where an id goes."""
    matrix = np.zeros((len(one.ids), size))
    goes = np.flatnonzero(one.ids != NOWHERE)
    matrix[goes, one.ids[goes]] = 1.0
    return matrix


def truncated(dense: np.ndarray, k: int, gold: np.ndarray) -> Component:
    """The k most probable ids of dense rows, and gold's probability."""
    order = np.argsort(-dense, axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(dense, order, axis=1)
    n = len(dense)
    return Component(
        ids=order.astype(np.int64),
        kept=kept,
        n_valid=np.full(n, k),
        tail=np.maximum(1.0 - kept.sum(axis=1), 0.0),
        gold=dense[np.arange(n), gold],
    )


class Case:
    """Some slots of a set of V ids, a teacher over it and one over a twin of W ids."""

    def __init__(self, seed: int, k: int, sharp: float) -> None:
        generator = np.random.default_rng(seed)
        self.n, self.size, self.twin_size = 5, 7, 13
        self.map = random_map(generator, self.size, self.twin_size)
        self.matrix = dense_matrix(self.map, self.size)
        self.own = self.rows(generator, self.size, sharp)
        self.twin = self.rows(generator, self.twin_size, sharp)
        reached = np.flatnonzero(self.map.ids != NOWHERE)
        if not len(reached):
            self.map.ids[0] = 0
            self.matrix, reached = dense_matrix(self.map, self.size), np.array([0])
        self.twin_gold = generator.choice(reached, self.n)
        self.gold = self.map.ids[self.twin_gold].astype(np.int64)
        self.weights = generator.dirichlet([1.0, 1.0], self.n)
        self.k = min(k, self.twin_size)

    @staticmethod
    def rows(generator: np.random.Generator, size: int, sharp: float) -> np.ndarray:
        logits = generator.normal(size=(5, size)) * sharp
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def adopted(self) -> Component:
        twin = truncated(self.twin, self.k, self.twin_gold)
        kept = (twin.ids == self.twin_gold[:, None]).any(axis=1)
        mapped = self.map.ids[twin.ids].astype(np.int64)
        return adopt(twin, mapped, self.gold, kept, self.map.fibre)

    def own_component(self) -> Component:
        return truncated(self.own, min(self.k, self.size), self.gold)


cases = st.builds(Case, st.integers(0, 2**32), st.integers(1, 13), st.sampled_from([0.3, 1.0, 3.0]))


def dense_of(component: Component, size: int) -> np.ndarray:
    found = np.zeros((len(component.ids), size))
    for row, count in enumerate(component.n_valid):
        np.add.at(found[row], component.ids[row, :count], component.kept[row, :count])
    return found


@given(cases)
def test_kept_masses_that_meet_in_an_id_are_added_up(case):
    adopted = case.adopted()
    order = np.argsort(-case.twin, axis=1, kind="stable")[:, : case.k]
    kept = np.zeros_like(case.twin)
    np.put_along_axis(kept, order, np.take_along_axis(case.twin, order, axis=1), axis=1)
    expected = kept @ case.matrix
    rows = np.arange(case.n)
    unkept = np.where(kept[rows, case.twin_gold] > 0, 0.0, case.twin[rows, case.twin_gold])
    expected[rows, case.gold] += np.where(expected[rows, case.gold] > 0, unkept, 0.0)
    np.testing.assert_allclose(dense_of(adopted, case.size), expected, atol=1e-12)
    np.testing.assert_allclose(adopted.kept.sum(axis=1) + adopted.tail, 1.0, atol=1e-12)
    np.testing.assert_allclose(carried_mass(adopted), expected.sum(axis=1), atol=1e-12)


@given(cases)
def test_ranks_are_by_mass_then_by_id_and_no_id_comes_twice(case):
    adopted = case.adopted()
    for row in range(case.n):
        count = int(adopted.n_valid[row])
        ids, kept = adopted.ids[row], adopted.kept[row]
        keys = [(-mass, number) for number, mass in zip(ids[:count], kept[:count], strict=True)]
        assert keys == sorted(keys)
        assert len(set(ids[:count].tolist())) == count
        assert not kept[count:].any()


@given(cases)
def test_golds_probability_is_what_is_kept_of_it_and_its_own_scalar(case):
    adopted = case.adopted()
    order = np.argsort(-case.twin, axis=1, kind="stable")[:, : case.k]
    for row in range(case.n):
        known = {*order[row].tolist(), int(case.twin_gold[row])}
        goes = [one for one in known if case.map.ids[one] == case.gold[row]]
        assert adopted.gold[row] == pytest.approx(case.twin[row, goes].sum(), abs=1e-12)


@given(cases, st.sampled_from(POLICIES))
def test_with_everything_kept_the_mixture_is_the_dense_one(case, policy):
    case.k = case.twin_size
    components = [case.own_component(), case.adopted()]
    mixture = mix(components, case.weights, case.gold, case.size, policy, case.size)
    dense = case.weights[:, :1] * case.own + case.weights[:, 1:] * (case.twin @ case.matrix)
    found = np.zeros_like(dense)
    for row, count in enumerate(mixture.n_valid):
        found[row, mixture.ids[row, :count]] = np.exp(mixture.logprobs[row, :count])
    np.testing.assert_allclose(found, dense, atol=1e-6)
    np.testing.assert_allclose(mixture.tail, 1.0 - dense.sum(axis=1), atol=1e-6)


@given(cases, st.integers(1, 7), st.sampled_from(POLICIES))
def test_the_bound_holds(case, k, policy):
    components = [case.own_component(), case.adopted()]
    mixture = mix(components, case.weights, case.gold, k, policy, case.size)
    bound = uncertain(components, case.weights, mixture, [EXACT, EXACT], EXACT)
    dense = case.weights[:, :1] * case.own + case.weights[:, 1:] * (case.twin @ case.matrix)
    for row, count in enumerate(mixture.n_valid):
        ids = mixture.ids[row, :count]
        error = np.exp(mixture.logprobs[row, :count].astype(float)) - dense[row, ids]
        rest = mixture.tail[row] - (1.0 - dense[row, ids].sum())
        distance = 0.5 * (np.abs(error).sum() + abs(rest))
        assert distance <= bound[row] + 1e-6


def test_the_bound_is_attained_by_ids_that_hide_behind_one():
    """What the twin does not keep all goes to the one id that the mixture keeps."""
    twin_map = StringMap(np.array([0, 0, 0, 0], np.int32), 4)
    dense = np.array([[0.4, 0.2, 0.2, 0.2]])
    gold = np.array([0])
    twin = truncated(dense, 1, gold)
    adopted = adopt(twin, twin_map.ids[twin.ids].astype(np.int64), gold, np.array([True]), 4)
    mixture = mix([adopted], np.ones((1, 1)), gold, 1)
    bound = uncertain([adopted], np.ones((1, 1)), mixture, [EXACT], EXACT)
    assert 1.0 - np.exp(mixture.logprobs[0, 0]) == pytest.approx(0.6, abs=1e-6)
    assert bound[0] == pytest.approx(0.6)


def test_mass_that_goes_nowhere_is_not_counted_as_hiding_on_an_id():
    ids = np.array([0, NOWHERE, NOWHERE, 1], np.int32)
    dense = np.array([[0.5, 0.3, 0.15, 0.05]])
    gold = np.array([0])
    twin = truncated(dense, 3, gold)
    adopted = adopt(twin, ids[twin.ids].astype(np.int64), gold, np.array([True]), 1)
    other = truncated(np.array([[0.1, 0.9]]), 2, gold)
    weights = np.array([[0.5, 0.5]])
    mixture = mix([adopted, other], weights, gold, 2)
    bound = uncertain([adopted, other], weights, mixture, [EXACT, EXACT], EXACT)
    assert bound[0] == pytest.approx(0.5 * 0.05)
    np.testing.assert_allclose(mixture.tail, 0.5 * 0.5)


def test_nothing_that_is_kept_goes_anywhere():
    ids = np.array([NOWHERE, 0], np.int32)
    twin = truncated(np.array([[0.8, 0.2]]), 1, np.array([1]))
    gold = np.array([0])
    adopted = adopt(twin, ids[twin.ids].astype(np.int64), gold, np.array([False]), 1)
    assert adopted.n_valid.tolist() == [0]
    assert adopted.gold == pytest.approx(0.2)
    mixture = mix([adopted], np.ones((1, 1)), gold, 1)
    assert np.exp(mixture.logprobs[0, 0]) == pytest.approx(0.2)
    bound = uncertain([adopted], np.ones((1, 1)), mixture, [EXACT], EXACT)
    assert bound[0] == pytest.approx(0.0, abs=1e-12)


def test_equal_texts_meet_and_absent_ones_go_nowhere():
    found = string_map(["the", None, "cat", "the"], ["the", "the", None, "dog", "cat"])
    assert found.ids.tolist() == [0, 0, NOWHERE, NOWHERE, 2]
    assert found.fibre == 2
