"""From logits to distributions on the device, in float32 and in bounded memory.

What ``ckd_cache.numerics.topk`` defines in float64 and at leisure, for the logits of a teacher:
top-k with the tie rule, tail, log-sum-exp and entropy at each temperature, logprob and rank of
gold. Sums run in coordinates shifted by the slot's largest logit, so that a slot of almost certain
prediction keeps the relative precision of its small numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

__all__ = ["DeviceDistributions", "NonFiniteLogitsError", "distributions", "logprobs_at"]

_TILE_BYTES = {"cpu": 1 << 22, "cuda": 1 << 27, "mps": 1 << 25}
"""Bytes of one float32 buffer of a tile; up to four of them live at a time."""
_NOTHING = -128.0
"""exp of this is 0 in float32, and its product with 0 is 0, unlike that of -inf."""


class NonFiniteLogitsError(ArithmeticError):
    """Some slots hold NaN or +inf, or nothing but -inf.

    Attributes:
        slots: ascending indices of such slots, beginning with the first.
    """

    def __init__(self, slots: list[int]) -> None:
        """For the slots of these indices."""
        super().__init__(f"{len(slots)} slots hold logits that are no distribution")
        self.slots = slots


@dataclass(frozen=True, slots=True)
class DeviceDistributions:
    """Distributions of N slots; tensors on the device of the logits.

    Attributes:
        ids: (N, k) int64, by rank; 0 from ``n_valid`` on.
        logprobs: (N, k) float32; -inf from ``n_valid`` on.
        n_valid: (N,) int64, entries of non-zero probability among the k.
        tail: (N, T) float32.
        logsumexp: (N, T) float32.
        entropy: (N, T) float32, nats.
        gold_logprob: (N,) float32.
        gold_rank: (N,) int64.
    """

    ids: Tensor
    logprobs: Tensor
    n_valid: Tensor
    tail: Tensor
    logsumexp: Tensor
    entropy: Tensor
    gold_logprob: Tensor
    gold_rank: Tensor


@dataclass(frozen=True, slots=True)
class _Top:
    """The k largest logits of each slot in order, and the largest of the others (-inf if none)."""

    ids: Tensor
    values: Tensor
    next_value: Tensor


@dataclass(frozen=True, slots=True)
class _Sums:
    """At one temperature, in coordinates where the slot's largest logit is 0."""

    logsumexp: Tensor
    tail: Tensor
    entropy: Tensor


def distributions(
    logits: Tensor, gold: Tensor, k: int, temperatures: Sequence[float]
) -> DeviceDistributions:
    """Distributions of N slots over a support of V entries.

    Args:
        logits: (N, V) of any floating dtype; -inf is probability 0.
        gold: (N,) int64, below V.
        k: entries to keep; at most V are kept.
        temperatures: T positive numbers.

    Raises:
        NonFiniteLogitsError: some slots hold NaN or +inf, or nothing but -inf.
    """
    k = min(k, logits.shape[1])
    tiles = [
        _of_tile(logits[start:stop].float(), gold[start:stop], k, temperatures, start)
        for start, stop in _tiles(logits)
    ]
    columns = {f.name: [getattr(tile, f.name) for tile in tiles] for f in fields(tiles[0])}
    return DeviceDistributions(**{name: torch.cat(parts) for name, parts in columns.items()})


def logprobs_at(logits: Tensor, ids: Tensor) -> Tensor:
    """Logprobs of given ids at N slots, over a support of V entries.

    Args:
        logits: (N, V) of any floating dtype; -inf is probability 0.
        ids: (N, g) int64, below V; -1 where none is wanted.

    Returns:
        (N, g) float32; -inf where the probability is 0, and where no id is wanted.

    Raises:
        NonFiniteLogitsError: some slots hold NaN or +inf, or nothing but -inf.
    """
    tiles = [
        _logprobs_of_tile(logits[start:stop].float(), ids[start:stop], start)
        for start, stop in _tiles(logits)
    ]
    return torch.cat(tiles)


def _logprobs_of_tile(x: Tensor, ids: Tensor, first: int) -> Tensor:
    largest = x.amax(1, keepdim=True)
    _check(largest, first)
    shifted = x - largest
    values = shifted.gather(1, ids.clamp(min=0)) - shifted.logsumexp(1, keepdim=True)
    return values.masked_fill_(ids < 0, -torch.inf)


def _tiles(logits: Tensor) -> Iterator[tuple[int, int]]:
    slots, support = logits.shape
    step = max(1, _TILE_BYTES.get(logits.device.type, 1 << 25) // (4 * support))
    for start in range(0, max(slots, 1), step):
        yield start, min(start + step, slots)


def _of_tile(
    x: Tensor, gold: Tensor, k: int, temperatures: Sequence[float], first: int
) -> DeviceDistributions:
    top = _top(x, k)
    _check(top.values[:, :1], first)
    largest = top.values[:, 0]
    others = x.scatter(1, top.ids, -torch.inf)
    by_temperature = {t: _sums(others, top, t) for t in {1.0, *temperatures}}
    plain = by_temperature[1.0]
    sums = [by_temperature[t] for t in temperatures]
    logprobs = (top.values - largest[:, None]) - plain.logsumexp[:, None]
    valid = ~torch.isneginf(top.values)
    gold_value = x.gather(1, gold[:, None])[:, 0]
    return DeviceDistributions(
        ids=torch.where(valid, top.ids, 0),
        logprobs=logprobs,
        n_valid=valid.sum(1),
        tail=_columns([s.tail for s in sums], x),
        logsumexp=_columns(
            [largest / t + s.logsumexp for t, s in zip(temperatures, sums, strict=True)], x
        ),
        entropy=_columns([s.entropy for s in sums], x),
        gold_logprob=(gold_value - largest) - plain.logsumexp,
        gold_rank=_ranks(x, gold, gold_value, top),
    )


def _columns(parts: list[Tensor], like: Tensor) -> Tensor:
    return torch.stack(parts, 1) if parts else like.new_zeros((like.shape[0], 0))


def _check(largest: Tensor, first: int) -> None:
    # Both topk and amax put NaN before everything, so the first value tells about the whole slot.
    bad = ~torch.isfinite(largest[:, 0])
    if bool(bad.any()):
        raise NonFiniteLogitsError([first + slot for slot in bad.nonzero()[:, 0].tolist()])


def _top(x: Tensor, k: int) -> _Top:
    """Top-k by (value descending, id ascending), whatever torch.topk does with ties."""
    support = x.shape[1]
    values, ids = torch.topk(x, min(k + 1, support), dim=1, sorted=True)
    next_value = values[:, k] if support > k else torch.full_like(values[:, 0], -torch.inf)
    values, ids = values[:, :k].contiguous(), ids[:, :k].contiguous()
    split = (values[:, -1] == next_value).nonzero()[:, 0]
    if split.numel():
        ids[split] = _smallest_ids(x[split], values[split], ids[split])
    tied = (values[:, 1:] == values[:, :-1]).any(1).nonzero()[:, 0]
    if tied.numel():
        ids[tied] = _ordered(values[tied], ids[tied])
    return _Top(ids, values, next_value)


def _smallest_ids(x: Tensor, values: Tensor, ids: Tensor) -> Tensor:
    """Replace the kept ids of the last value by the smallest ids that have this value."""
    last = values[:, -1:]
    kept = values == last
    equal = x == last
    chosen = equal & (equal.cumsum(1) <= kept.sum(1, keepdim=True))
    # Both masks have the same count in each row, and nonzero goes row by row with ids ascending.
    result = ids.clone()
    result[kept] = chosen.nonzero()[:, 1]
    return result


def _ordered(values: Tensor, ids: Tensor) -> Tensor:
    """Ids ascending within runs of equal values; the values are sorted already."""
    by_id = ids.argsort(dim=1)
    by_value = values.gather(1, by_id).argsort(dim=1, descending=True, stable=True)
    return ids.gather(1, by_id).gather(1, by_value)


def _sums(others: Tensor, top: _Top, temperature: float) -> _Sums:
    """Log-sum-exp, tail and entropy; ``others`` are the logits with the kept ones at -inf.

    With d = (logit - largest of the complement) / T and A = Σ exp(d), B = Σ d·exp(d) over the
    complement, its part of the entropy -Σ p·log p is exp(shift - lse)·((lse - shift)·A - B): all
    terms are non-negative, nothing cancels.
    """
    largest = top.values[:, 0]
    empty = torch.isneginf(top.next_value)
    base = torch.where(empty, largest, top.next_value)
    d = (others - base[:, None]).div_(temperature).clamp_(min=_NOTHING)
    weights = d.exp()
    a = weights.sum(1)
    b = weights.mul_(d).sum(1)
    shift = (base - largest) / temperature
    outside = shift + a.log()
    head = (top.values - largest[:, None]) / temperature
    inside = head[:, 1:].exp().sum(1).log1p()
    lse = torch.logaddexp(inside, outside)
    surprise = lse[:, None] - head
    kept = torch.where(torch.isneginf(head), 0.0, (-surprise).exp() * surprise).sum(1)
    rest = (shift - lse).exp() * ((lse - shift) * a - b)
    tail = -torch.nn.functional.softplus(inside - outside)
    return _Sums(lse, tail, kept + rest)


def _ranks(x: Tensor, gold: Tensor, gold_value: Tensor, top: _Top) -> Tensor:
    """How many entries of the support stand before gold."""
    found = (top.ids == gold[:, None]).to(torch.uint8)
    ranks = found.argmax(1)
    outside = (found.sum(1) == 0).nonzero()[:, 0]
    if outside.numel():
        rows, value = x[outside], gold_value[outside, None]
        earlier = torch.arange(x.shape[1], device=x.device) < gold[outside, None]
        ranks[outside] = ((rows > value) | ((rows == value) & earlier)).sum(1)
    return ranks
