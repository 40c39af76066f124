"""Adaptive k: as many entries as hold a wanted mass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ckd_cache.numerics.logspace import logsumexp
from ckd_cache.types import TeacherArrays

__all__ = ["narrow"]


def narrow(arrays: TeacherArrays, top_p: float, temperatures: Sequence[float]) -> TeacherArrays:
    """Keep, of each slot, the fewest most probable entries whose mass is at least ``top_p``.

    What is dropped joins the tail of each temperature exactly: the logprob of an entry at T is
    (logprob + logsumexp_1)/T - logsumexp_T. This is the nucleus of Holtzman et al., "The Curious
    Case of Neural Text Degeneration" (2020), capped by the entries that are there.

    Args:
        arrays: of B examples, unquantised.
        top_p: mass at temperature 1, in (0, 1]; 1 keeps everything.
        temperatures: of the arrays, 1.0 among them.

    Returns:
        The arrays with a smaller or equal ``n_valid``, at least 1 at used slots.
    """
    if top_p >= 1.0:
        return arrays
    k = arrays.ids.shape[-1]
    valid = np.arange(k) < arrays.n_valid[..., None]
    logprobs = np.where(valid, arrays.logprobs.astype(np.float64), -np.inf)
    before = np.cumsum(np.exp(logprobs), axis=-1) - np.exp(logprobs)
    kept = valid & (before < top_p)
    dropped = valid & ~kept
    used = arrays.n_valid > 0
    tail = np.where(used[..., None], arrays.tail.astype(np.float64), -np.inf)
    at_1 = arrays.logsumexp[..., temperatures.index(1.0), None].astype(np.float64)
    for index, temperature in enumerate(temperatures):
        lse = arrays.logsumexp[..., index, None].astype(np.float64)
        moved = np.where(dropped, (logprobs + at_1) / temperature - lse, -np.inf)
        tail[..., index] = np.minimum(np.logaddexp(tail[..., index], logsumexp(moved)), 0.0)
    return replace(
        arrays,
        ids=np.where(kept, arrays.ids, 0),
        logprobs=np.where(kept, arrays.logprobs, np.where(used, -np.inf, np.nan)[..., None]).astype(
            np.float32
        ),
        n_valid=kept.sum(axis=-1, dtype=np.int32),
        tail=np.where(used[..., None], tail, np.nan).astype(np.float32),
    )
