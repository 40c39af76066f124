"""Mixtures and distances in dictionaries and float sums, one slot at a time, from docs/merge.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ckd_cache.numerics.mixture import Component, Mixture


@dataclass(frozen=True)
class Slot:
    """What is made of one slot."""

    kept: dict[int, float]
    tail: float
    missing: list[int]


@dataclass(frozen=True)
class Told:
    """What one teacher with weight tells of one slot."""

    weight: float
    known: dict[int, float]
    left: float


def told_of(components: Sequence[Component], weights: np.ndarray, gold: int, i: int) -> list[Told]:
    """In the order of the components; those without weight tell nothing."""
    return [
        _told(one, float(weights[i, t]), gold, i) if weights[i, t] > 0 else Told(0.0, {}, 0.0)
        for t, one in enumerate(components)
    ]


def _told(one: Component, weight: float, gold: int, i: int) -> Told:
    n = int(one.n_valid[i])
    known = dict(zip(one.ids[i, :n].tolist(), one.kept[i, :n].tolist(), strict=True))
    tail = float(one.tail[i])
    outside = {} if gold in known else {gold: float(one.gold[i])}
    if one.more_ids is not None:
        pairs = zip(one.more_ids[i].tolist(), one.more[i].tolist(), strict=True)
        outside |= {v: p for v, p in pairs if v >= 0 and v != gold}
    total = sum(outside.values())
    scale = tail / total if total > tail else 1.0
    known |= {v: scale * p for v, p in outside.items()}
    return Told(weight, known, max(tail - scale * total, 0.0))


def arithmetic(told: Sequence[Told], k: int, size: int, *, spread: bool) -> Slot:
    """Over all V ids of the support."""
    shares = [
        one.left / (size - len(one.known)) if spread and len(one.known) < size else 0.0
        for one in told
    ]
    union = set().union(*(one.known for one in told if one.weight > 0))
    dense = {
        v: sum(one.weight * one.known.get(v, s) for one, s in zip(told, shares, strict=True))
        for v in union
    }
    return _kept(dense, 1.0 - sum(dense.values()), told, k)


def common_of(told: Sequence[Told]) -> set[int]:
    """Ids that all with weight know."""
    return set.intersection(*(set(one.known) for one in told if one.weight > 0))


def outside_common(told: Sequence[Told]) -> list[float]:
    """What each has outside these ids; 0 for those without weight."""
    common = common_of(told)
    return [one.left + sum(p for v, p in one.known.items() if v not in common) for one in told]


def geometric(told: Sequence[Told], outside: Sequence[float], k: int) -> tuple[Slot, float]:
    """The slot, and Z; X is the product of what is outside, to which it is very sensitive."""
    heard = [one for one in told if one.weight > 0]
    product = {v: math.prod(one.known[v] ** one.weight for one in heard) for v in common_of(told)}
    inside = sum(product.values())
    rest = math.prod(r**one.weight for r, one in zip(outside, told, strict=True) if one.weight > 0)
    if inside + rest == 0.0:
        return Slot({}, 0.0, []), 0.0
    dense = {v: p / (inside + rest) for v, p in product.items()}
    return _kept(dense, rest / (inside + rest), (), k), inside


def _kept(dense: dict[int, float], rest: float, told: Sequence[Told], k: int) -> Slot:
    possible = [v for v, p in dense.items() if p > 0.0]
    ranked = sorted(possible, key=lambda v: (-np.float32(math.log(dense[v])), v))
    kept = {v: dense[v] for v in ranked[:k]}
    dropped = sum(dense[v] for v in ranked[k:])
    missing = [len(set(kept) - set(one.known)) if one.weight > 0 else 0 for one in told]
    return Slot(kept, rest + dropped, missing)


def distance(mixture: Mixture, truth: np.ndarray) -> np.ndarray:
    """Total variation on the cells {each kept id, everything else}, (N,)."""
    found = []
    for i, row in enumerate(truth):
        n = int(mixture.n_valid[i])
        ids = mixture.ids[i, :n]
        head = np.abs(np.exp(mixture.logprobs[i, :n].astype(float)) - row[ids]).sum()
        found.append(0.5 * (head + abs(mixture.tail[i] - np.delete(row, ids).sum())))
    return np.array(found)


def check_bound(found: np.ndarray, bound: np.ndarray) -> None:
    """Fail where a distance exceeds its bound by more than rounding to float32."""
    worst = (found - bound).argmax()
    assert (found <= bound + 2e-6).all(), f"slot {worst}: {found[worst]} above {bound[worst]}"
