"""Which divergences from several teachers are divergences from one mixture, and which are not."""

from __future__ import annotations

import numpy as np
import pytest

from ckd_cache.numerics.geometric import mix_geometric
from ckd_cache.numerics.mixture import Component, mix

SIZE, N, S = 12, 40, 3


@pytest.fixture(scope="module")
def world():
    """Teachers over a small support, weights, and two students."""
    rng = np.random.default_rng(0)
    teachers = rng.dirichlet(np.full(SIZE, 0.4), size=(S, N)) + 1e-3
    teachers /= teachers.sum(axis=-1, keepdims=True)
    students = rng.dirichlet(np.ones(SIZE), size=(2, N))
    return teachers, rng.dirichlet(np.ones(S), size=N), students


def _kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return (p * np.log(p / q)).sum(axis=-1)


def _whole(teachers: np.ndarray) -> list[Component]:
    ids = np.argsort(-teachers, axis=-1, kind="stable")
    kept = np.take_along_axis(teachers, ids, axis=-1)
    return [
        Component(i, p, np.full(N, SIZE), np.zeros(N), p_all[:, 0])
        for i, p, p_all in zip(ids, kept, teachers, strict=True)
    ]


def _expanded(mixture) -> np.ndarray:
    full = np.empty((N, SIZE))
    np.put_along_axis(full, mixture.ids, np.exp(mixture.logprobs.astype(float)), axis=1)
    return full


def _sum(weights: np.ndarray, values: list[np.ndarray]) -> np.ndarray:
    return (weights * np.stack(values, axis=1)).sum(axis=1)


def test_forward_kl_from_all_teachers_is_that_from_the_mixture_up_to_a_constant(world):
    teachers, weights, students = world
    pooled = _expanded(mix(_whole(teachers), weights, np.zeros(N, np.int64), SIZE))
    rest = [_sum(weights, [_kl(p, q) for p in teachers]) - _kl(pooled, q) for q in students]
    np.testing.assert_allclose(rest[0], rest[1], atol=1e-6)
    assert (rest[0] > 0.0).all()


def test_reverse_kl_goes_with_the_geometric_mixture(world):
    teachers, weights, students = world
    found = mix_geometric(_whole(teachers), weights, np.zeros(N, np.int64), SIZE)
    pooled = _expanded(found.mixture)
    for q in students:
        of_all = _sum(weights, [_kl(q, p) for p in teachers])
        np.testing.assert_allclose(of_all, _kl(q, pooled) - found.log_inside, atol=1e-5)


def test_neither_goes_with_the_other_one(world):
    teachers, weights, students = world
    gold = np.zeros(N, np.int64)
    arithmetic = _expanded(mix(_whole(teachers), weights, gold, SIZE))
    geometric = _expanded(mix_geometric(_whole(teachers), weights, gold, SIZE).mixture)
    for wrong, forward in ((geometric, True), (arithmetic, False)):
        rest = []
        for q in students:
            of_all = [_kl(p, q) if forward else _kl(q, p) for p in teachers]
            of_one = _kl(wrong, q) if forward else _kl(q, wrong)
            rest.append(_sum(weights, of_all) - of_one)
        assert np.abs(rest[0] - rest[1]).max() > 0.01


def test_weights_that_follow_the_student_leave_no_constant(world):
    teachers, _, students = world
    rest = []
    for q in students:
        near = np.exp(-np.stack([_kl(p, q) for p in teachers], axis=1))
        weights = near / near.sum(axis=1, keepdims=True)
        pooled = _expanded(mix(_whole(teachers), weights, np.zeros(N, np.int64), SIZE))
        rest.append(_sum(weights, [_kl(p, q) for p in teachers]) - _kl(pooled, q))
    assert np.abs(rest[0] - rest[1]).max() > 0.01


def test_cells_must_be_the_same_for_all_teachers(world):
    """Each teacher on its own kept ids and its tail, against the mixture on the union of them."""
    teachers, weights, students = world
    k = 4
    ids = np.argsort(-teachers, axis=-1, kind="stable")[..., :k]
    rest, same = [], []
    for q in students:
        own, shared, pooled = [], [], np.zeros(N)
        for i in range(N):
            union = sorted(set(ids[:, i].ravel().tolist()))
            own.append([_on_cells(p[i], q[i], ids[t, i].tolist()) for t, p in enumerate(teachers)])
            shared.append([_on_cells(p[i], q[i], union) for p in teachers])
            mean = (weights[i][:, None] * teachers[:, i]).sum(axis=0)
            pooled[i] = _on_cells(mean, q[i], union)
        rest.append((weights * np.array(own)).sum(axis=1) - pooled)
        same.append((weights * np.array(shared)).sum(axis=1) - pooled)
    np.testing.assert_allclose(same[0], same[1], atol=1e-12)
    assert np.abs(rest[0] - rest[1]).max() > 0.01


def _on_cells(p: np.ndarray, q: np.ndarray, kept: list[int]) -> float:
    cells = [np.append(one[kept], 1.0 - one[kept].sum()) for one in (p, q)]
    used = cells[0] > 1e-15
    return float((cells[0][used] * np.log(cells[0][used] / cells[1][used])).sum())
