"""How far teachers agree, pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ckd_cache.merge.voices import Voice, component_at, indices_of
from ckd_cache.numerics.component import Component
from ckd_cache.numerics.union import Block, unite
from ckd_cache.types import iter_ranges

__all__ = ["Pair", "PairSums", "add_pairs", "pair_sums", "pairs_of"]

_CANDIDATES_AT_ONCE = 1 << 18
"""Ids of both teachers that are worked on at a time."""


@dataclass(frozen=True, slots=True)
class PairSums:
    """Two teachers at the slots where both have a distribution; those of chunks can be added.

    The distance is the total variation at temperature 1 on the cells {each id that one of both
    keeps, everything else}. An id that a teacher does not keep counts there as 0 with it, and its
    mass as part of everything else: that is what is stored. The true total variation on these
    cells differs by at most ``doubt``, the sum over both teachers of min(r, n m) with tail r,
    smallest kept probability m and n ids that only the other one keeps (docs/merge.md); rounding
    comes on top.

    Attributes:
        slots: how many.
        same: at how many of them the most probable id is the same.
        distance: sum of the distances.
        doubt: sum of what the distances may be off.
    """

    slots: int
    same: int
    distance: float
    doubt: float


Pair = tuple[str, str]


def pairs_of(voices: Sequence[Voice]) -> dict[Pair, PairSums]:
    """Agreement of every two teachers, by their names.

    Args:
        voices: the S teachers at the same N slots.
    """
    said = [_Said.of(voice) for voice in voices]
    return {(one.name, other.name): pair_sums(one, other) for one, other in combinations(said, 2)}


def add_pairs(one: PairSums, other: PairSums) -> PairSums:
    """The slots of both."""
    return PairSums(
        one.slots + other.slots,
        one.same + other.same,
        one.distance + other.distance,
        one.doubt + other.doubt,
    )


@dataclass(frozen=True, slots=True)
class _Said:
    name: str
    present: NDArray[np.bool_]
    component: Component

    @classmethod
    def of(cls, voice: Voice) -> _Said:
        (at_1,) = indices_of(voice.capture, [1.0])
        index = np.full(voice.present.shape, at_1, np.int64)
        return cls(voice.name, voice.present, component_at(voice, index))


def pair_sums(one: _Said, other: _Said) -> PairSums:
    """Compare two teachers at N slots."""
    rows = np.flatnonzero(one.present & other.present)
    left, right = one.component, other.component
    same = left.ids[rows, 0] == right.ids[rows, 0]
    width = left.ids.shape[1] + right.ids.shape[1] + 1
    distance = doubt = 0.0
    for start, stop in iter_ranges(rows.size, max(1, _CANDIDATES_AT_ONCE // width)):
        apart, off = _distances(left, right, rows[start:stop])
        distance += float(apart.sum())
        doubt += float(off.sum())
    return PairSums(int(rows.size), int(same.sum()), distance, doubt)


def _distances(
    left: Component, right: Component, rows: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Total variation (n,) of two teachers at some slots, and what it may be off."""
    union = unite([_block(left, rows, 0), _block(right, rows, 1)])
    nothing = np.zeros((rows.size, 1))
    signed = np.concatenate([left.kept[rows], -right.kept[rows], nothing], axis=1)
    apart = union.gather(signed).ravel()
    total = np.abs(apart)
    # An id of both stands twice in a row, so its two masses are replaced by their difference.
    both = np.abs(apart[:-1] + apart[1:]) - total[:-1] - total[1:]
    total[:-1] += np.where(union.repeats, both, 0.0)
    shared = np.append(union.repeats, [False]).reshape(union.ids.shape).sum(axis=1)
    rest = np.abs(left.tail[rows] - right.tail[rows])
    distance = (total.reshape(union.ids.shape).sum(axis=1) + rest) / 2.0
    off = _hidden(left, rows, right.n_valid[rows] - shared) + _hidden(
        right, rows, left.n_valid[rows] - shared
    )
    return distance, off


def _block(component: Component, rows: NDArray[np.intp], source: int) -> Block:
    ids = component.ids[rows]
    return Block(ids, np.arange(ids.shape[1]) < component.n_valid[rows, None], source)


def _hidden(
    component: Component, rows: NDArray[np.intp], missing: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Most that a teacher can give to so many ids that it does not keep.

    Of a teacher over another support, several own ids can go to one, also to one that it keeps.
    """
    adopted = component.adopted
    if adopted is None:
        last = np.maximum(component.n_valid[rows] - 1, 0)
        return np.minimum(component.tail[rows], missing * component.kept[rows, last])
    left = np.maximum(component.tail - adopted.hidden, 0.0)[rows]
    own = missing * adopted.fibre + component.n_valid[rows] * (adopted.fibre - 1)
    most: NDArray[np.float64] = np.minimum(left, own * adopted.least[rows])
    return most
