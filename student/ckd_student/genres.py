"""Finds the genre (kind of text) of the document that a slot stands in."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ckd_cache.format.reader import SetReader

__all__ = ["GenreLookup"]


@dataclass(slots=True)
class GenreLookup:
    """Genres by example and token; keeps what one run of examples needs.

    Attributes:
        examples: the set.
        run: examples that are looked up together.
    """

    examples: SetReader
    run: int = 256
    _start: int = field(default=-1, init=False, repr=False)
    _ends: list[list[int]] = field(default_factory=list, init=False, repr=False)
    _genres: list[list[str]] = field(default_factory=list, init=False, repr=False)

    def of(self, number: int, position: int) -> str:
        """Genre of the document at a token of an example.

        Args:
            number: of the example.
            position: index of the token.
        """
        start = number // self.run * self.run
        if start != self._start:
            self._load(start)
        ends = self._ends[number - start]
        at = min(bisect_right(ends, position), len(ends) - 1)
        return self._genres[number - start][at]

    def check(self, numbers: Iterable[int]) -> None:
        """Read once what is needed for examples, so that damage is found before it matters.

        Args:
            numbers: of the examples, ascending.

        Raises:
            CkdCacheError: a file of the cache is missing or damaged.
        """
        for start in dict.fromkeys(number // self.run * self.run for number in numbers):
            self._load(start)

    def _load(self, start: int) -> None:
        stop = min(start + self.run, self.examples.n_examples)
        spans = self.examples.examples.segments(start, stop).spans
        documents = self.examples.examples.documents(
            sorted({span.document for example in spans for span in example})
        )
        self._ends = [[span.token_end for span in example] for example in spans]
        self._genres = [[documents[span.document].genre for span in example] for example in spans]
        self._start = start
