"""From token ids to text a person reads, with the tokenizer that lies in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ckd_cache.format.paths import support_part
from ckd_cache.format.reader import CacheReader

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["TokenText", "load_token_text", "printable"]

TOKENIZER_FILE = "tokenizer.json"
_CONTEXT = 8
_BROKEN = "\N{REPLACEMENT CHARACTER}"
_WORD_START = "\N{LOWER ONE EIGHTH BLOCK}"


def load_token_text(cache: CacheReader, support: str) -> TokenText:
    """The tokenizer of a support.

    Args:
        cache: the cache.
        support: fingerprint of the support.

    Raises:
        DamagedCacheError: its ``tokenizer.json`` is missing or is not what was written.
    """
    from tokenizers import Tokenizer

    path = cache.access.verified(f"{support_part(support)}/{TOKENIZER_FILE}")
    return TokenText(Tokenizer.from_file(str(path)))


class TokenText:
    """Text of tokens, alone and in their sequence."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def alone(self, token: int) -> str:
        """Text of one token by itself.

        A low block (U+2581) stands where the token brings the space before it, and ``##`` where
        the tokenizer writes so that it continues a word.
        """
        name = self._tokenizer.id_to_token(token)
        if name is None:
            return f"id {token}"
        text = self._decode([token])
        if name.startswith("##") or _BROKEN in text or not text.strip():
            return printable(name)
        if text.startswith(" ") or name.startswith(_WORD_START):
            return _WORD_START + printable(text.strip())
        return printable(text)

    def in_sequence(self, tokens: Sequence[int]) -> list[str]:
        """Text that each token adds to those before it; joined, the text of all.

        A character that several tokens make together appears with the last of them; those before
        it add an empty text.
        """
        pieces = []
        shown = 0
        for stop in range(1, len(tokens) + 1):
            start = max(0, min(shown, stop - 1) - _CONTEXT)
            before = self._decode(tokens[start:shown])
            after = self._decode(tokens[start:stop])
            if after.endswith(_BROKEN) and stop - shown < _CONTEXT and stop < len(tokens):
                pieces.append("")
                continue
            added = (
                after[len(before) :]
                if after.startswith(before)
                else self._decode(tokens[shown:stop])
            )
            pieces.append(added)
            shown = stop
        return pieces

    def _decode(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=False)
        return text


def printable(text: str) -> str:
    """The text with control characters (which could drive a terminal) written as escapes."""
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii")
        for sign in text
    )
