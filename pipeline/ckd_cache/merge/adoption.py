"""How a teacher with another tokenizer is carried over to the support of the set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ckd_cache.format.token_strings import TokenStrings, normalised
from ckd_cache.numerics.component import Component
from ckd_cache.numerics.string_map import NOWHERE, StringMap, adopt, string_map

__all__ = ["Adoption", "Maps", "maps_between"]


@dataclass(frozen=True, slots=True)
class Maps:
    """Maps from the support of a twin to that of its set, by whether a space stands before a word.

    Attributes:
        by_marks: maps at ``2 · twin marked + own marked``; a tokenizer that tells no words after a
            space from others marks none.
        own_marked: (V,) bool, ids of the set that are marked.
        twin_marked: (V of the twin,) bool.
    """

    by_marks: tuple[StringMap, ...]
    own_marked: NDArray[np.bool_]
    twin_marked: NDArray[np.bool_]

    @property
    def entropy_factor(self) -> float:
        """Log V / log V of the twin: entropies over supports of two sizes made comparable."""
        return float(np.log(self.own_marked.size) / np.log(self.twin_marked.size))

    def which(self, twin_gold: NDArray[np.int64], own_gold: NDArray[np.int64]) -> NDArray[np.int64]:
        """(N,) the map for each slot, by its gold on both sides."""
        chosen: NDArray[np.int64] = 2 * self.twin_marked[twin_gold] + self.own_marked[own_gold]
        return chosen

    def mapped(self, ids: NDArray[np.int64], which: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where ids of the twin go; ``NOWHERE`` for none.

        Args:
            ids: (N, k).
            which: (N,) the map for each slot.
        """
        result = np.full(ids.shape, NOWHERE, np.int64)
        for number, one in enumerate(self.by_marks):
            rows = which == number
            result[rows] = one.ids[ids[rows]]
        return result


@dataclass(frozen=True, slots=True)
class Adoption:
    """What carries a teacher over at N slots.

    Attributes:
        maps: between the supports.
        which: (N,) int64, the map for each slot.
        twin_gold: (N,) int64, gold as the twin has it.
        gold: (N,) int64, gold as the set has it.
    """

    maps: Maps
    which: NDArray[np.int64]
    twin_gold: NDArray[np.int64]
    gold: NDArray[np.int64]

    def only(self, chosen: slice | NDArray[np.int64]) -> Adoption:
        """The same at some of these slots."""
        return replace(
            self,
            which=self.which[chosen],
            twin_gold=self.twin_gold[chosen],
            gold=self.gold[chosen],
        )

    def of(self, twin: Component) -> Component:
        """A teacher over the support of the set.

        Args:
            twin: over its own, at the same N slots.
        """
        used = np.arange(twin.ids.shape[1]) < twin.n_valid[:, None]
        gold_kept = ((twin.ids == self.twin_gold[:, None]) & used).any(axis=1)
        fibre = max(one.fibre for one in self.maps.by_marks)
        return adopt(twin, self.maps.mapped(twin.ids, self.which), self.gold, gold_kept, fibre)


def maps_between(own: TokenStrings, twin: TokenStrings) -> Maps:
    """Maps by the text of tokens, after the twin's was written as the set's tokenizer would.

    Case, accents and Unicode forms follow the set's tokenizer. Only tokens that can be whole words
    are reached or go anywhere; special ones never. A marked token of the twin goes only where a
    marked one is expected, and the other way round.
    """
    written = [
        None if text is None else normalised(text, own.normalizer).strip() or None
        for text in twin.texts
    ]
    by_marks = tuple(
        string_map(_among(own.texts, own, own_mark), _among(written, twin, twin_mark))
        for twin_mark in (False, True)
        for own_mark in (False, True)
    )
    return Maps(by_marks, own.marked, twin.marked)


def _among(texts: Sequence[str | None], strings: TokenStrings, marked: bool) -> list[str | None]:
    """Texts of the tokens that are marked, or that are not; of all where no token ever is."""
    if not strings.marks:
        return list(texts)
    return [
        text if mark == marked else None
        for text, mark in zip(texts, strings.marked.tolist(), strict=True)
    ]
