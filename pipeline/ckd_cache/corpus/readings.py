"""How a tokenizer reads a document, by the characters that its tokens show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ckd_cache.corpus.tokenizer import Encoded

__all__ = ["Reading", "reading_of", "word_of"]

_BLANKS = np.array([code for code in range(0x3001) if chr(code).isspace()], dtype=np.uint32)
"""White space; Unicode has none beyond."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A document in tokens, with the characters of each but white space at its ends.

    Attributes:
        tokens: as they were encoded.
        starts: (n,) int64, first character of each token, never falling; for white space alone the
            character after it.
        ends: (n,) int64, character after the last one, never falling.
    """

    tokens: Encoded
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of tokens."""
        return len(self.tokens)


def reading_of(text: str, tokens: Encoded) -> Reading:
    """How a text was read."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    blank = np.isin(codes, _BLANKS)
    places = np.arange(len(codes))
    # The next character that is shown, at or after a place; and the end of the last one before it.
    after = np.append(np.where(blank, len(codes), places), len(codes))
    after = np.minimum.accumulate(after[::-1])[::-1]
    before = np.append(0, np.maximum.accumulate(np.where(blank, 0, places + 1)))
    starts = np.minimum(after[tokens.char_starts], tokens.char_ends)
    ends = np.maximum(before[tokens.char_ends], starts)
    return Reading(tokens, np.maximum.accumulate(starts), np.maximum.accumulate(ends))


def word_of(word_starts: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(n,) number of the word of each token, from 0; the first token begins one."""
    numbers = np.cumsum(word_starts, dtype=np.int64)
    return numbers - numbers[:1]
