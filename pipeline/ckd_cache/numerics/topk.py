"""The reference of every number that is cached of a teacher: dense, float64, slow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ckd_cache.numerics.logspace import logsumexp, softplus

__all__ = ["SlotDistributions", "reference_distributions", "top_k"]


@dataclass(frozen=True, slots=True)
class SlotDistributions:
    """Distributions at N slots, k kept entries, T temperatures.

    Attributes:
        ids: (N, k) int64 by rank; 0 from rank ``n_valid`` on.
        logprobs: (N, k) float64 at temperature 1; -inf from rank ``n_valid`` on.
        n_valid: (N,) int64, kept entries of non-zero probability.
        tail: (N, T) float64, log of the mass outside the k kept ids; -inf if nothing is outside.
        logsumexp: (N, T) float64, of logits / temperature.
        entropy: (N, T) float64, nats, over the whole support.
        gold_logprob: (N,) float64 at temperature 1.
        gold_rank: (N,) int64, ids that stand before gold over the whole support.
    """

    ids: NDArray[np.int64]
    logprobs: NDArray[np.float64]
    n_valid: NDArray[np.int64]
    tail: NDArray[np.float64]
    logsumexp: NDArray[np.float64]
    entropy: NDArray[np.float64]
    gold_logprob: NDArray[np.float64]
    gold_rank: NDArray[np.int64]


def top_k(logits: ArrayLike, k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The k largest logits of each row, values descending, equal values by ascending id.

    Args:
        logits: (N, V) without NaN.
        k: at most V.

    Returns:
        Ids (N, k) and their logits (N, k).
    """
    values = np.asarray(logits, dtype=np.float64)
    ids = np.argsort(-values, axis=-1, kind="stable")[:, :k].astype(np.int64)
    return ids, np.take_along_axis(values, ids, axis=-1)


def reference_distributions(
    logits: ArrayLike, gold: ArrayLike, k: int, temperatures: Sequence[float]
) -> SlotDistributions:
    """Distributions from dense logits; a logit of -inf is probability 0.

    The tail is ``-softplus(lse_head - lse_complement)``, both over their own entries, so that it
    keeps its relative precision when nearly all mass, or nearly none, is in the head.

    Args:
        logits: (N, V), without NaN or +inf, with a finite entry in every row.
        gold: (N,) ids.
        k: kept entries, at most V.
        temperatures: the T temperatures, > 0.
    """
    values = np.asarray(logits, dtype=np.float64)
    ids, head = top_k(values, k)
    outside = np.ones(values.shape, dtype=np.bool_)
    np.put_along_axis(outside, ids, values=False, axis=-1)
    by_temperature = [_moments(values / t, head / t, outside) for t in temperatures]
    tails, totals, entropies = zip(*by_temperature, strict=True)
    total = logsumexp(values)
    valid = np.isfinite(head)
    return SlotDistributions(
        ids=np.where(valid, ids, 0),
        logprobs=head - total[:, None],
        n_valid=valid.sum(axis=-1, dtype=np.int64),
        tail=np.stack(tails, axis=-1),
        logsumexp=np.stack(totals, axis=-1),
        entropy=np.stack(entropies, axis=-1),
        gold_logprob=_at(values, gold) - total,
        gold_rank=_rank(values, gold),
    )


def _moments(
    scaled: NDArray[np.float64], head: NDArray[np.float64], outside: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    inside = logsumexp(head)
    complement = logsumexp(scaled, where=outside)
    total: NDArray[np.float64] = np.logaddexp(inside, complement)
    logprobs = scaled - total[:, None]
    finite = np.where(np.isfinite(logprobs), logprobs, 0.0)
    # 0.0 - x rather than -x: a certain outcome has entropy 0, not -0.
    entropy: NDArray[np.float64] = 0.0 - (np.exp(logprobs) * finite).sum(axis=-1)
    return -softplus(inside - complement), total, entropy


def _at(values: NDArray[np.float64], gold: ArrayLike) -> NDArray[np.float64]:
    column = np.asarray(gold, dtype=np.int64)[:, None]
    picked: NDArray[np.float64] = np.take_along_axis(values, column, axis=-1)[:, 0]
    return picked


def _rank(values: NDArray[np.float64], gold: ArrayLike) -> NDArray[np.int64]:
    gold_values = _at(values, gold)[:, None]
    smaller_id = np.arange(values.shape[-1]) < np.asarray(gold, dtype=np.int64)[:, None]
    before = (values > gold_values) | ((values == gold_values) & smaller_id)
    rank: NDArray[np.int64] = before.sum(axis=-1, dtype=np.int64)
    return rank
