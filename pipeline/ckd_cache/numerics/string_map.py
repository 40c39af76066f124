"""From one support to another by the text of tokens, and distributions carried over by it.

docs/merge.md (Teachers with another tokenizer).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ckd_cache.numerics.component import Adopted, Component

__all__ = ["NOWHERE", "StringMap", "adopt", "carried_mass", "string_map"]

NOWHERE = -1
"""Id of the set where a twin's id has none."""


@dataclass(frozen=True, slots=True)
class StringMap:
    """Where the ids of a twin go in the support of the set.

    Attributes:
        ids: (V of the twin,) int32, ids of the set; ``NOWHERE`` for none.
        fibre: most ids of the twin that go to one id of the set.
    """

    ids: NDArray[np.int32]
    fibre: int


def string_map(own: Sequence[str | None], twin: Sequence[str | None]) -> StringMap:
    """The map by equal texts; several ids of the twin may go to one of the set.

    Args:
        own: texts of the set's ids that can be reached, None for others; of two that are equal the
            lower id is taken.
        twin: texts of the twin's ids, written as the set writes them; None for those that go
            nowhere.
    """
    known: dict[str, int] = {}
    for number, text in enumerate(own):
        if text is not None:
            known.setdefault(text, number)
    ids = [NOWHERE if text is None else known.get(text, NOWHERE) for text in twin]
    fibres = Counter(one for one in ids if one != NOWHERE)
    return StringMap(np.array(ids, dtype=np.int32), max(fibres.values(), default=1))


def adopt(
    twin: Component,
    mapped: NDArray[np.int64],
    gold_ids: NDArray[np.int64],
    gold_kept: NDArray[np.bool_],
    fibre: int,
) -> Component:
    """A distribution over a twin's support as one over the set's.

    Masses that meet in one id are added up. What goes nowhere joins the tail, where it is known
    to be no id's. What the twin gives to gold without keeping it is added to
    gold if something else that is kept goes there.

    Args:
        twin: at N slots.
        mapped: (N, k) where its kept ids go; ``NOWHERE`` for none.
        gold_ids: (N,) gold of the set.
        gold_kept: (N,) bool, whether the twin keeps its own gold.
        fibre: most ids of the twin that go to one id of the set.
    """
    used = np.arange(mapped.shape[1]) < twin.n_valid[:, None]
    goes = used & (mapped != NOWHERE)
    ids, masses = _summed(np.where(goes, mapped, _LAST), np.where(goes, twin.kept, 0.0))
    hidden = np.where(used & ~goes, twin.kept, 0.0).sum(axis=1)
    is_gold = ids == gold_ids[:, None]
    found = is_gold.any(axis=1)
    # Rounding may put gold above the tail it belongs to: it gets no more than the tail has.
    unkept = np.where(gold_kept, 0.0, np.minimum(twin.gold, twin.tail))
    gold = (masses * is_gold).sum(axis=1) + unkept
    joined = np.where(found, unkept, 0.0)
    masses += is_gold * joined[:, None]
    ids, masses, n_valid = _ranked(ids, masses)
    last = np.maximum(twin.n_valid - 1, 0)[:, None]
    return Component(
        ids=ids,
        kept=masses,
        n_valid=n_valid,
        tail=twin.tail - joined + hidden,
        gold=gold,
        adopted=Adopted(
            hidden=hidden,
            tail=twin.tail,
            n_valid=twin.n_valid,
            least=np.take_along_axis(twin.kept, last, axis=1)[:, 0],
            gold=unkept,
            fibre=fibre,
        ),
    )


def carried_mass(adopted: Component) -> NDArray[np.float64]:
    """(N,) the part of a twin's distribution that is known of ids of the set."""
    mass: NDArray[np.float64] = adopted.kept.sum(axis=1)
    return mass


_LAST = np.iinfo(np.int64).max


def _summed(
    ids: NDArray[np.int64], masses: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Masses of equal ids of a row added up at the first of them, by ascending id."""
    order = np.argsort(ids, axis=1, kind="stable")
    ids = np.take_along_axis(ids, order, axis=1)
    masses = np.take_along_axis(masses, order, axis=1)
    first = np.ones(ids.shape, np.bool_)
    first[:, 1:] = ids[:, 1:] != ids[:, :-1]
    sums = np.zeros(ids.size)
    starts = np.flatnonzero(first)
    if starts.size:
        sums[starts] = np.add.reduceat(masses.ravel(), starts)
    return np.where(first, ids, _LAST), sums.reshape(ids.shape)


def _ranked(
    ids: NDArray[np.int64], masses: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Ids by falling mass, equal ones by ascending id; their masses, and how many there are."""
    there = ids != _LAST
    order = np.lexsort((ids, np.where(there, -masses, np.inf)), axis=1)
    ids = np.take_along_axis(ids, order, axis=1)
    masses = np.take_along_axis(masses, order, axis=1)
    n_valid = np.count_nonzero(there, axis=1)
    kept = np.arange(ids.shape[1]) < n_valid[:, None]
    return np.where(kept, ids, 0), np.where(kept, masses, 0.0), n_valid
