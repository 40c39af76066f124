"""Sums over the slots of a segment, without a loop over slots.

All slots of an example count as one segment: the same segment in another view is another example.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["segment_means", "sums_of_others"]


def segment_means(
    values: NDArray[np.float64], counted: NDArray[np.bool_], example: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean of each teacher over the counted slots of the segment, at every slot of it.

    Args:
        values: (N, S), finite or -inf where counted.
        counted: (N,), the same slots for all teachers, so that means can be compared.
        example: (N,), ascending.

    Returns:
        (N, S); 0 where no slot of the segment counts, which makes all teachers equal there.
    """
    starts = np.flatnonzero(np.diff(example, prepend=-1))
    sums = np.add.reduceat(np.where(counted[:, None], values, 0.0), starts, axis=0)
    counts = np.add.reduceat(counted.astype(np.int64), starts)
    means = sums / np.maximum(counts, 1)[:, None]
    lengths = np.diff(starts, append=example.size)
    result: NDArray[np.float64] = np.repeat(means, lengths, axis=0)
    return result


def sums_of_others(
    values: NDArray[np.float64], group: NDArray[np.int64], unit: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Sum over the other units of a slot's group: all that is in the group but its own unit.

    Nothing is subtracted, so no digits are lost and -inf needs no care.

    Args:
        values: (N, S), finite or -inf; a unit has the sum of what its slots have.
        group: (N, G) numbers; slots with the same row are one group.
        unit: (N,) number of the slot's unit.

    Returns:
        (N, S); 0 where a group has no other unit.
    """
    order = np.lexsort((unit, *group.T))
    keys = np.column_stack([group, unit])[order]
    changed = np.ones(keys.shape, dtype=np.bool_)
    changed[1:] = keys[1:] != keys[:-1]
    starts = np.flatnonzero(np.logical_or.reduce(changed, axis=1))
    sums = np.add.reduceat(values[order], starts, axis=0)
    begins = np.logical_or.reduce(changed[starts, :-1], axis=1)
    ends = np.append(begins[1:], np.ones(1, dtype=np.bool_))[: begins.size]
    before = _sums_before(sums, _places(begins))
    after = _sums_before(sums[::-1], _places(ends[::-1]))[::-1]
    others = before + after
    result = np.empty_like(values)
    result[order] = np.repeat(others, np.diff(starts, append=unit.size), axis=0)
    return result


def _places(first: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Place 0, 1, … of each row in its run, given the rows that begin one."""
    rows = np.arange(first.size)
    place: NDArray[np.int64] = rows - np.maximum.accumulate(np.where(first, rows, 0))
    return place


def _sums_before(values: NDArray[np.float64], place: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum of the earlier rows of the same run, by doubling the reach until it covers the run."""
    sums = np.zeros_like(values)
    sums[1:] = np.where(place[1:, None] >= 1, values[:-1], 0.0)
    reach, longest = 1, int(place.max(initial=0))
    while reach < longest:
        earlier = np.where(place[reach:, None] >= reach, sums[:-reach], 0.0)
        sums[reach:] += earlier
        reach *= 2
    return sums
