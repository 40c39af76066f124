"""Evidence of some teachers, made up: ties, impossible golds, words, absent teachers and all."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ckd_cache.merge.evidence import Evidence
from ckd_cache.types import Array

NAMES = ("delta", "alpha", "gamma", "beta")
_BY_TEACHER = (
    "gold_logprob",
    "max_logprob",
    "entropy",
    "correct",
    "present",
    "unit_logprob",
)


def make_evidence(
    seed: int,
    teachers: int = 3,
    lengths: tuple[int, ...] = (5, 1, 7),
    grid: float = 2.0**-10,
    absent: float = 0.0,
    impossible: float = 0.0,
    words: bool = False,
) -> Evidence:
    """Evidence at sum(lengths) slots of examples of these lengths.

    All scalars are multiples of ``grid``, as they are in a cache, so that their sums are exact and
    a coarse grid makes ties.
    """
    rng = np.random.default_rng(seed)
    n, shape = sum(lengths), (sum(lengths), teachers)
    example = 3 + np.repeat(np.arange(len(lengths)), lengths)
    slot = np.concatenate([np.arange(length) for length in lengths])
    # Up to three documents a segment; one goes on in the next example.
    document = example + np.minimum(rng.integers(0, 1 + rng.integers(0, 3), n), slot)
    present = rng.random(shape) >= absent
    present[np.arange(n), rng.integers(0, teachers, n)] = True
    gold = _rounded(-rng.exponential(4.0, shape), grid)
    gold[rng.random(shape) < impossible] = -np.inf
    unit, unit_logprob = np.arange(n), gold
    if words:
        same = (np.diff(example, prepend=-1) == 0) & (np.diff(document, prepend=-1) == 0)
        joined = same & (rng.random(n) < 0.5)
        unit = np.cumsum(~joined) - 1
        seen = ~joined[:, None] & (rng.random(shape) < 0.8)
        unit_logprob = np.where(seen, gold + _rounded(-rng.exponential(1.0, shape), grid), np.nan)
    entropy = _rounded(rng.exponential(2.0, shape), grid)
    entropy[rng.random(n) < 0.1] = 0.0
    return Evidence(
        gold_logprob=np.where(present, gold, np.nan),
        max_logprob=np.where(present, _rounded(-rng.exponential(1.0, shape), grid), np.nan),
        entropy=np.where(present, entropy, np.nan),
        correct=present & (rng.random(shape) < 0.4),
        present=present,
        unit_logprob=unit_logprob if words else np.where(present, gold, np.nan),
        example=example,
        slot=slot,
        unit=unit,
        document=document,
        kind=rng.integers(0, 2, n),
        masked=rng.random(n) < 0.8,
    )


def with_teachers(evidence: Evidence, order: list[int]) -> Evidence:
    """The same slots, of these teachers in this order."""
    columns: dict[str, Any] = {name: getattr(evidence, name)[:, order] for name in _BY_TEACHER}
    return replace(evidence, **columns)


def at_slots(evidence: Evidence, chosen: Array) -> Evidence:
    """The same teachers, at these slots alone."""
    return Evidence(**{one.name: getattr(evidence, one.name)[chosen] for one in fields(Evidence)})


def _rounded(values: Array, grid: float) -> Array:
    return np.clip(np.round(values / grid) * grid, -24.0, 24.0)


evidences = st.builds(
    make_evidence,
    seed=st.integers(0, 10_000),
    teachers=st.integers(1, 4),
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=3).map(tuple),
    grid=st.sampled_from([2.0**-10, 2.0]),
    absent=st.sampled_from([0.0, 0.4]),
    impossible=st.sampled_from([0.0, 0.3]),
    words=st.booleans(),
)
