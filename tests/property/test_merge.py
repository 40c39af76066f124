"""What holds of every target, whatever the teachers say."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckd_cache.format.spec import Capture
from ckd_cache.merge.merge import merge_arrays
from ckd_cache.merge.rule import TargetRule
from ckd_cache.numerics.quantise import from_drops, step_of, to_drops, to_grid, to_half
from ckd_cache.numerics.topk import reference_distributions
from ckd_cache.types import Array, TargetArrays, TeacherArrays, array_names

TEMPERATURES = (1.0, 2.0, 0.5)


class Case:
    """Dense logits of some teachers at N slots, and what a cache keeps of them."""

    def __init__(self, seed: int, teachers: int, k: int, size: int, max_nats: float = 0.0) -> None:
        rng = np.random.default_rng(seed)
        n = 12
        # A common Zipf-like part and a part of their own: peaked, and agreeing on some ids only.
        common = -1.5 * np.log1p(rng.permuted(np.tile(np.arange(size), (n, 1)), axis=1))
        self.logits = [common + rng.normal(scale=2.0, size=(n, size)) for _ in range(teachers)]
        for logits in self.logits:
            # Some ids are impossible for a teacher, but never the first.
            logits[:, 1:][rng.random((n, size - 1)) < 0.05] = -np.inf
        self.gold = rng.integers(0, size, size=n)
        self.size = size
        self.capture = Capture(k, TEMPERATURES, max_nats, step_of(max_nats))
        self.teachers = [_stored(z, self.gold, self.capture) for z in self.logits]

    def dense(self, temperature: float) -> list[Array]:
        powers = [np.exp((z - z.max(axis=1, keepdims=True)) / temperature) for z in self.logits]
        return [p / p.sum(axis=1, keepdims=True) for p in powers]

    def merge(self, order: list[int] | None = None, **changes: Any) -> TargetArrays:
        order = list(range(len(self.teachers))) if order is None else order
        max_nats = changes.pop("max_nats", 0.0)
        fields: dict[str, Any] = {"weighting": "gold", "tau": 1.0, "temperature": 1.0}
        fields |= {"top_k": self.capture.k, "teachers": tuple(str(t) for t in order)} | changes
        return merge_arrays(
            [self.teachers[t] for t in order],
            [self.capture] * len(order),
            self.gold[None],
            np.ones((1, self.gold.size), dtype=bool),
            TargetRule(**fields),
            self.size,
            max_nats,
        )


def _stored(logits: Array, gold: Array, capture: Capture) -> TeacherArrays:
    """What is read back of a teacher: one example of N slots."""
    exact = reference_distributions(logits, gold, capture.k, capture.temperatures)
    arrays = {name: getattr(exact, name) for name in array_names(TeacherArrays)}
    if capture.step:
        tail = to_half(exact.tail)
        drops = to_drops(exact.logprobs, exact.n_valid, capture.step)
        arrays["tail"] = tail
        arrays["logprobs"] = from_drops(drops, exact.n_valid, tail[:, 0], capture.step)
        arrays["logsumexp"] = to_grid(exact.logsumexp)
        arrays["gold_logprob"] = to_grid(exact.gold_logprob)
    floating = {"logprobs", "tail", "logsumexp", "entropy", "gold_logprob"}
    return TeacherArrays(
        **{
            name: values[None].astype(np.float32 if name in floating else np.int32)
            for name, values in arrays.items()
        }
    )


def _cells(target: TargetArrays, i: int) -> dict[int, float]:
    n = int(target.n_valid[0, i])
    probabilities = np.exp(target.logprobs[0, i, :n].astype(np.float64)).tolist()
    return dict(zip(target.ids[0, i, :n].tolist(), probabilities, strict=True))


def _expand(target: TargetArrays, size: int) -> Array:
    dense = np.zeros((target.ids.shape[1], size))
    for i in range(dense.shape[0]):
        for v, p in _cells(target, i).items():
            dense[i, v] = p
    return dense


def _distance(target: TargetArrays, truth: Array) -> Array:
    """Total variation on the cells {each kept id, everything else}."""
    found = []
    for i, row in enumerate(truth):
        cells = _cells(target, i)
        on_kept = sum(abs(p - row[v]) for v, p in cells.items())
        rest = np.delete(row, list(cells)).sum()
        found.append(0.5 * (on_kept + abs(np.exp(float(target.tail[0, i])) - rest)))
    return np.array(found)


cases = st.builds(
    Case,
    seed=st.integers(0, 10_000),
    teachers=st.integers(1, 4),
    k=st.sampled_from([1, 4, 10]),
    size=st.sampled_from([11, 60]),
)
rules = st.fixed_dictionaries(
    {
        "weighting": st.sampled_from(["gold", "uniform"]),
        "tau": st.sampled_from([0.1, 1.0, 5.0]),
        "temperature": st.sampled_from(TEMPERATURES),
        "top_k": st.sampled_from([1, 4, 10, 25]),
    }
)


@given(cases, rules)
def test_weights_and_cells_are_distributions(case, rule):
    target = case.merge(**rule)
    assert (target.weights >= 0).all()
    np.testing.assert_allclose(target.weights.sum(axis=-1), 1.0, rtol=1e-6)
    total = np.exp(target.logprobs.astype(float)).sum(axis=-1) + np.exp(target.tail.astype(float))
    np.testing.assert_allclose(total, 1.0, rtol=2e-6)
    assert (target.logprobs <= 0).all()
    assert (target.tail <= 0).all()
    assert (target.gold_logprob <= 0).all()
    assert (target.uncertain >= 0).all()


@given(cases, rules)
def test_ids_stand_by_probability_then_id(case, rule):
    target = case.merge(**rule)
    for i in range(case.gold.size):
        n = int(target.n_valid[0, i])
        ranked = list(zip(-target.logprobs[0, i, :n], target.ids[0, i, :n], strict=True))
        assert ranked == sorted(ranked)
        assert len(set(target.ids[0, i, :n].tolist())) == n


@given(cases, rules)
def test_targets_equal_a_slow_reference(case, rule):
    """Dictionaries and float sums, one slot at a time."""
    target = case.merge(**rule)
    dense = case.dense(rule["temperature"])
    for i, y in enumerate(case.gold.tolist()):
        w = target.weights[0, i].astype(float)
        known: dict[int, float] = defaultdict(float)
        for t, arrays in enumerate(case.teachers):
            kept = arrays.ids[0, i, : arrays.n_valid[0, i]].tolist()
            for v in {*kept, y}:
                known[v] += w[t] * dense[t][i, v]
        ranked = sorted(((-p, v) for v, p in known.items() if p > 0))[: target.ids.shape[-1]]
        cells = _cells(target, i)
        assert len(cells) == len(ranked)
        np.testing.assert_allclose(list(cells.values()), [-p for p, _ in ranked], rtol=2e-5)
        for v, p in cells.items():
            assert p == pytest.approx(known[v], rel=2e-5)
        gold = sum(w[t] * dense[t][i, y] for t in range(len(dense)))
        assert np.exp(target.gold_logprob[0, i]) == pytest.approx(gold, rel=2e-5, abs=1e-30)


@given(cases, rules, st.randoms(use_true_random=False))
def test_the_order_of_teachers_changes_no_bit(case, rule, random):
    order = list(range(len(case.teachers)))
    random.shuffle(order)
    one, other = case.merge(**rule), case.merge(order=order, **rule)
    np.testing.assert_array_equal(one.weights[..., order], other.weights)
    for name in array_names(TargetArrays):
        if name != "weights":
            np.testing.assert_array_equal(one[name], other[name])


@given(cases, rules)
def test_one_teacher_alone_is_itself(case, rule):
    teacher = case.teachers[0]
    target = case.merge(order=[0], **(rule | {"top_k": case.capture.k}))
    np.testing.assert_array_equal(target.n_valid, teacher.n_valid)
    kept = np.arange(case.capture.k) < teacher.n_valid[..., None]
    j = TEMPERATURES.index(rule["temperature"])
    np.testing.assert_allclose(target.tail, teacher.tail[..., j], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(target.ids, np.where(kept, teacher.ids, 0))
    if rule["temperature"] == 1.0:
        np.testing.assert_allclose(
            target.logprobs[kept], teacher.logprobs[kept], rtol=1e-5, atol=1e-6
        )
        np.testing.assert_allclose(target.gold_logprob, teacher.gold_logprob, rtol=1e-5, atol=1e-6)
    assert (target.weights == 1.0).all()
    assert (target.uncertain == 0.0).all()


@given(st.integers(0, 10_000), st.integers(1, 4), rules)
def test_with_the_whole_support_a_target_is_the_dense_mixture(seed, teachers, rule):
    case = Case(seed, teachers, k=15, size=15)
    target = case.merge(**(rule | {"top_k": 15}))
    # In particular at temperature 2: a mixture of tempered softmaxes, not a tempered mixture.
    dense = np.stack(case.dense(rule["temperature"]))
    truth = (target.weights[0].astype(float).T[..., None] * dense).sum(axis=0)
    np.testing.assert_allclose(_expand(target, 15), truth, rtol=2e-5, atol=1e-12)
    assert (target.tail == -np.inf).all()
    assert (target.uncertain == 0.0).all()


@given(cases, st.sampled_from([0.05, 0.5, 1.0, 3.0, 100.0]))
def test_gold_gives_gold_no_less_than_uniform(case, tau):
    """Chebyshev's sum inequality."""
    gold = case.merge(weighting="gold", tau=tau).gold_logprob
    uniform = case.merge(weighting="uniform").gold_logprob
    assert (gold >= uniform - 1e-5).all()


@given(cases, rules)
def test_keeping_fewer_ids_changes_none_of_those_kept(case, rule):
    wide = case.merge(**(rule | {"top_k": 40}))
    narrow = case.merge(**(rule | {"top_k": 3}))
    np.testing.assert_array_equal(narrow.ids, wide.ids[..., :3])
    np.testing.assert_array_equal(narrow.logprobs, wide.logprobs[..., :3])
    np.testing.assert_array_equal(narrow.gold_logprob, wide.gold_logprob)
    assert (narrow.uncertain <= wide.uncertain + 1e-7).all()


@given(cases, rules)
def test_the_true_mixture_is_within_the_bound(case, rule):
    target = case.merge(**rule)
    dense = np.stack(case.dense(rule["temperature"]))
    truth = (target.weights[0].astype(float).T[..., None] * dense).sum(axis=0)
    assert (_distance(target, truth) <= target.uncertain[0] + 2e-6).all()


@given(
    st.integers(0, 10_000),
    st.integers(1, 3),
    st.sampled_from([1e-5, 1e-4, 1e-3, 1e-2]),
    rules,
)
def test_the_true_mixture_is_within_the_bound_when_all_is_rounded(seed, teachers, max_nats, rule):
    case = Case(seed, teachers, k=10, size=60, max_nats=max_nats)
    target = case.merge(**rule, max_nats=max_nats)
    step, n_valid = step_of(max_nats), target.n_valid
    tail = to_half(target.tail)
    drops = to_drops(target.logprobs, n_valid, step)
    read = {name: target[name] for name in array_names(TargetArrays)}
    read |= {"tail": tail.astype(np.float32), "logprobs": from_drops(drops, n_valid, tail, step)}
    dense = np.stack(case.dense(rule["temperature"]))
    truth = (target.weights[0].astype(float).T[..., None] * dense).sum(axis=0)
    assert (_distance(TargetArrays(**read), truth) <= target.uncertain[0] + 2e-6).all()
