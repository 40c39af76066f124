"""What must hold of decoded distributions (docs/format.md, Teachers, targets and gathers).

Computed in float64 from what a reader gets. The bounds follow from how numbers are rounded on
their way to disk. Each generator may rely on what it has checked before: whoever asks stops at
the first thing that does not hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ckd_cache.format.example_checks import Broken, SlotTruth
from ckd_cache.format.findings import Problem
from ckd_cache.format.spec import GRID_STEP, Capture
from ckd_cache.numerics.logspace import log1mexp
from ckd_cache.types import Array, GatherArrays, TargetArrays, TeacherArrays

__all__ = ["check_gathered", "check_stored", "check_target", "check_teacher"]

_EXACT_MASS = 1e-4
"""A sum of float32 over a support of 2^18 entries is off by less than 1e-5."""
_ARITHMETIC = 1e-4
"""Nats by which float32 arithmetic may move a number before it is rounded for the disk."""
_ROUNDING = 1e-5
_HALF_RELATIVE, _HALF_SMALLEST = 2.0**-11, 2.0**-25
"""Largest errors of a float16: of its value, and where that is too small for the former."""
_FLOAT_RELATIVE = 2.0**-24
_SATURATED = -700.0
"""Levels of logprobs end at 800 nats; of what lies beyond, only that it is small is known."""


@dataclass(frozen=True, slots=True)
class _Head:
    """The kept entries of N used slots.

    Attributes:
        examples: (N,) the example of each.
        count: number of examples.
        ids: (N, k).
        logprobs: (N, k) float64.
        kept: (N, k) below ``n_valid``.
        tail: (N,) float64, at the temperature of the logprobs.
    """

    examples: Array
    count: int
    ids: Array
    logprobs: NDArray[np.float64]
    kept: NDArray[np.bool_]
    tail: NDArray[np.float64]

    @classmethod
    def of(cls, arrays: TeacherArrays | TargetArrays, tail: Array) -> _Head:
        used = arrays.n_valid > 0
        kept = np.arange(arrays.ids.shape[-1]) < arrays.n_valid[used][:, None]
        return cls(
            np.nonzero(used)[0],
            len(used),
            arrays.ids[used],
            arrays.logprobs[used].astype(np.float64),
            kept,
            tail[used].astype(np.float64),
        )

    def broken(self, problem: Problem, wrong: Array, detail: str, array: str) -> Broken:
        """What does not hold at the slots ``wrong``, (N,)."""
        rows = np.bincount(self.examples[wrong], minlength=self.count) > 0
        return Broken(problem, rows, detail, array)


def check_stored(
    stored: Mapping[str, Array], n_valid: Array, truth: SlotTruth | None
) -> Iterator[Broken]:
    """Check which slots are used, and that nothing stands where nothing belongs.

    Args:
        stored: arrays as stored, (B, M) or (B, M, size).
        n_valid: (B, M) kept entries.
        truth: what the slots say, if that is known.
    """
    used = n_valid > 0
    if truth is not None and (wrong := _any(used != truth.mask)).any():
        example = int(np.argmax(wrong))
        found = (
            f"slots {np.flatnonzero(used[example]).tolist()} have kept ids, used are"
            f" {np.flatnonzero(truth.mask[example]).tolist()}"
        )
        yield Broken("used slots", wrong, found, "n_valid")
        return
    beyond = np.arange(stored["ids"].shape[-1]) >= n_valid[..., None]
    for name, values in stored.items():
        empty = beyond if name in {"ids", "logprobs"} else ~_like(used, values)
        wrong = _by_example((values != 0) & empty)
        if wrong.any():
            found = "a number stands at an unused slot or rank, expected 0"
            yield Broken("used slots", wrong, found, name)


def check_teacher(
    arrays: TeacherArrays, truth: SlotTruth | None, capture: Capture, support: int
) -> Iterator[Broken]:
    """What does not hold of a teacher's distributions, the most basic first.

    Args:
        arrays: B examples, decoded.
        truth: what the slots say, if that is known.
        capture: how they were stored.
        support: its size.
    """
    used = arrays.n_valid > 0
    head = _Head.of(arrays, arrays.tail[..., capture.temperatures.index(1.0)])
    yield from _check_head(used, head, arrays.tail, capture, support)
    total = arrays.logsumexp
    yield from _check_range(used, "logsumexp", "logsumexp", total, np.isfinite(total), "finite")
    entropy, most = arrays.entropy, math.log(support) * (1 + 2 * _HALF_RELATIVE) + _ARITHMETIC
    fine = (entropy >= -_ROUNDING) & (entropy <= most)
    wanted = f"0 to the log of the support's size, {math.log(support):.4f}"
    yield from _check_range(used, "entropy", "entropy", entropy, fine, wanted)
    gold = arrays.gold_logprob
    yield from _check_range(used, "gold", "gold_logprob", gold, gold <= _ROUNDING, "at most 0")
    rank = arrays.gold_rank
    wanted = f"less than {support}, the support's size"
    yield from _check_range(used, "gold", "gold_rank", rank, rank < support, wanted)
    yield from _check_gold(head, arrays, truth, capture)


def _check_head(
    used: NDArray[np.bool_], head: _Head, tail: Array, capture: Capture, support: int
) -> Iterator[Broken]:
    """What must hold of the kept entries and tails of teachers and targets alike."""
    yield from _check_ids(head, support)
    yield from _check_range(used, "tail", "tail", tail, tail <= 0.0, "at most 0")
    yield from _check_logprobs(head)
    yield from _check_mass(head, capture)


def check_target(
    arrays: TargetArrays, capture: Capture, temperature: float, support: int
) -> Iterator[Broken]:
    """What does not hold of a target, the most basic first.

    Args:
        arrays: B examples, decoded.
        capture: how they were stored.
        temperature: of the target.
        support: its size.
    """
    used = arrays.n_valid > 0
    head = _Head.of(arrays, arrays.tail)
    yield from _check_head(used, head, arrays.tail, capture, support)
    weights = arrays.weights
    yield from _check_range(used, "weights", "weights", weights, weights >= 0.0, "at least 0")
    total = weights.astype(np.float64).sum(axis=-1)
    fine = np.abs(total - 1.0) <= _ROUNDING
    yield from _check_range(used, "weights", "weights", total, fine, "a sum of 1")
    doubt = arrays.uncertain
    # A teacher's terms are r + h·tanh + e + g ≤ 1 + e + g, the target's own h·tanh(Δ/4) + e.
    gold_term = math.expm1(GRID_STEP / 2 * (1 + 2 / temperature))
    most = 1 + math.tanh(capture.step / 4) + gold_term + 4 * _HALF_RELATIVE
    fine = (doubt >= 0.0) & (doubt <= most)
    yield from _check_range(used, "uncertain", "uncertain", doubt, fine, f"0 to {most:.4f}")
    gold = arrays.gold_logprob
    yield from _check_range(used, "gold", "gold_logprob", gold, gold <= _ROUNDING, "at most 0")


def check_gathered(
    stored: Array, arrays: GatherArrays, own: TeacherArrays, capture: Capture
) -> Iterator[Broken]:
    """What does not hold of a teacher's gathered logprobs, the most basic first.

    An id that a teacher does not keep is no more probable than the last one that it keeps, and all
    of them together have no more than its tail.

    Args:
        stored: (B, M, width) as stored.
        arrays: the same, decoded.
        own: what the teacher keeps.
        capture: how that was stored.
    """
    there = np.arange(stored.shape[-1]) < arrays.n_valid[..., None]
    wrong = _by_example((stored != 0) & ~there)
    if wrong.any():
        found = "a number stands where no id is gathered, expected 0"
        yield Broken("used slots", wrong, found, "logprobs")
    head = _Head.of(own, own.tail[..., capture.temperatures.index(1.0)])
    used = own.n_valid > 0
    values, there = arrays.logprobs[used].astype(np.float64), there[used]
    last = np.maximum(own.n_valid[used].astype(np.int64) - 1, 0)[:, None]
    least = np.take_along_axis(head.logprobs, last, axis=1)[:, 0]
    most = least + _kept_bound(head, least, capture) + capture.step / 2
    above = there & ~(values <= most[:, None]) & (values > _SATURATED)
    wrong = _any(above | (there & np.isnan(values)))
    if wrong.any():
        n = int(np.argmax(wrong))
        found = (
            f"{_some(values[n][there[n]])}, expected none above that of the last kept rank,"
            f" {least[n]:.4f}"
        )
        yield head.broken("logprobs", wrong, found, "logprobs")
    mass = np.where(there, np.exp(values - capture.step / 2), 0.0).sum(axis=1)
    tail = np.exp(head.tail)
    if not capture.exact:
        tail *= np.exp(np.where(tail > 0.0, -head.tail, 0.0) * _HALF_RELATIVE + _HALF_SMALLEST)
    wrong = ~(mass <= tail + _EXACT_MASS)
    if wrong.any():
        found = f"the gathered ids have {mass[wrong][0]:.6f}, the tail has {tail[wrong][0]:.6f}"
        yield head.broken("mass", wrong, found, "logprobs")


def _check_range(
    used: NDArray[np.bool_],
    problem: Problem,
    array: str,
    values: Array,
    fine: NDArray[np.bool_],
    wanted: str,
) -> Iterator[Broken]:
    wrong = ~fine & _like(used, values)
    if wrong.any():
        found = f"{array} is {values[wrong][0]}, expected {wanted}"
        yield Broken(problem, _by_example(wrong), found, array)


def _check_ids(head: _Head, support: int) -> Iterator[Broken]:
    nothing = -1 - np.arange(head.ids.shape[-1])
    ids = np.sort(np.where(head.kept, head.ids, nothing), axis=-1)
    outside = ids[:, -1] >= support
    if outside.any():
        found = f"token id {ids[outside][0, -1]}, the support has {support} entries"
        yield head.broken("token ids", outside, found, "ids")
    twice = ids[:, 1:] == ids[:, :-1]
    if twice.any():
        found = f"a slot keeps token id {ids[:, 1:][twice][0]} twice"
        yield head.broken("token ids", _any(twice), found, "ids")


def _check_logprobs(head: _Head) -> Iterator[Broken]:
    values, kept = head.logprobs, head.kept
    wrong = _any(kept & ~(np.isfinite(values) & (values <= _ROUNDING)))
    if wrong.any():
        found = f"{_some(values[wrong][0])}, expected finite numbers of at most 0"
        yield head.broken("logprobs", wrong, found, "logprobs")
    wrong = _any(kept[:, 1:] & (values[:, 1:] > values[:, :-1]))
    if wrong.any():
        found = f"{_some(values[wrong][0])}, expected none above the one before it"
        yield head.broken("logprobs", wrong, found, "logprobs")


def _check_mass(head: _Head, capture: Capture) -> Iterator[Broken]:
    """Kept mass and tail sum to 1.

    A decoder rescales quantised entries, in float32 at the end: that moves the sum by at most
    2^-24 Σ p (2 |log p| + 2) and so by less than 2^-23 (log k + 2).
    """
    masses = np.where(head.kept, np.exp(np.where(head.kept, head.logprobs, 0.0)), 0.0)
    total = masses.sum(axis=1) + np.exp(head.tail)
    rescaled = 4 * _FLOAT_RELATIVE * (math.log(head.ids.shape[-1]) + 2)
    wrong = ~(np.abs(total - 1.0) <= (_EXACT_MASS if capture.exact else rescaled))
    if wrong.any():
        found = f"kept mass and tail sum to {total[wrong][0]:.6f}, expected 1"
        yield head.broken("mass", wrong, found, "logprobs")


def _check_gold(
    head: _Head, arrays: TeacherArrays, truth: SlotTruth | None, capture: Capture
) -> Iterator[Broken]:
    used = arrays.n_valid > 0
    rank = arrays.gold_rank[used].astype(np.int64)
    n_valid = arrays.n_valid[used].astype(np.int64)
    logprob = arrays.gold_logprob[used].astype(np.float64)
    among = rank < n_valid
    at = np.where(among, rank, n_valid - 1)[:, None]
    if truth is not None:
        gold = truth.gold[used]
        kept = _any(head.kept & (head.ids == gold[:, None]))
        picked = np.take_along_axis(head.ids, at, axis=1)[:, 0]
        wrong = (kept != among) | (among & (picked != gold))
        if wrong.any():
            n = int(np.argmax(wrong))
            found = f"gold_rank is {rank[n]}, but gold, {gold[n]}, is" + (
                f" kept at rank {int(np.argmax(head.ids[n] == gold[n]))}"
                if kept[n]
                else " not kept"
            )
            yield head.broken("gold", wrong, found, "gold_rank")
    kept_logprob = np.take_along_axis(head.logprobs, at, axis=1)[:, 0]
    bound = _gold_bound(head, kept_logprob, capture)
    above = logprob > kept_logprob + bound
    below = among & ~(logprob >= kept_logprob - bound)
    wrong = (above | below) & (np.maximum(logprob, kept_logprob) > _SATURATED)
    if wrong.any():
        n = int(np.argmax(wrong))
        what = "that of its rank is" if among[n] else "that of the last kept rank is"
        found = f"gold_logprob is {logprob[n]:.4f}, {what} {kept_logprob[n]:.4f}"
        yield head.broken("gold", wrong, found, "gold_logprob")


def _gold_bound(head: _Head, logprob: NDArray[np.float64], capture: Capture) -> NDArray[np.float64]:
    """How far the logprob of a kept entry may be from that stored for gold.

    Half a step of the grid for gold comes to what the kept entry may be off by.
    """
    own = 0.0 if capture.exact else GRID_STEP / 2
    return _kept_bound(head, logprob, capture) + own


def _kept_bound(head: _Head, logprob: NDArray[np.float64], capture: Capture) -> NDArray[np.float64]:
    """How far the logprob of a kept entry may be off: by Δ and the rounding of the tail."""
    if capture.exact:
        return _ROUNDING * (1.0 + np.abs(logprob))
    stored = np.where(np.isneginf(head.tail), -1e9, head.tail)
    error = np.abs(stored) * _HALF_RELATIVE + _HALF_SMALLEST
    kept = log1mexp(stored)
    largest, least = log1mexp(stored - error), log1mexp(np.minimum(stored + error, 0.0))
    rounding = np.maximum(largest - kept, kept - least)
    bound: NDArray[np.float64] = capture.step + rounding + _ARITHMETIC
    return bound


def _some(values: Array) -> str:
    """The first few of some numbers."""
    shown = ", ".join(f"{value:.4g}" for value in values[:6])
    return f"logprobs {shown}, …" if len(values) > 6 else f"logprobs {shown}"


def _like(used: NDArray[np.bool_], values: Array) -> NDArray[np.bool_]:
    return used if values.ndim == used.ndim else used[..., None]


def _by_example(wrong: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return _any(wrong.reshape(len(wrong), -1))


def _any(wrong: NDArray[np.bool_]) -> NDArray[np.bool_]:
    result: NDArray[np.bool_] = np.logical_or.reduce(wrong, axis=1)
    return result
