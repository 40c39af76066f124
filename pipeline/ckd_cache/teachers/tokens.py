"""Whether a teacher's own tokenizer says that its ids are those of the corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from ckd_cache.errors import TeacherError
from ckd_cache.modeling.tokenizer_files import TOKENIZER_FILES, holds_tokenizer
from ckd_cache.modeling.unreadable import is_unreadable
from ckd_cache.teachers.quiet import quiet_transformers

__all__ = ["ExpectedSupport", "check_tokens"]


@dataclass(frozen=True, slots=True)
class ExpectedSupport:
    """The support that a teacher's distributions are to be over.

    Attributes:
        tokens: token strings by id; an id without a token is the empty string.
        special: ids of ``mask``, ``pad``, ``cls``, ``sep``, ``unk``, ``bos``, ``eos``; None where
            there is no such token.
    """

    tokens: Sequence[str]
    special: Mapping[str, int | None]

    @property
    def size(self) -> int:
        """Entries of the support."""
        return len(self.tokens)


def check_tokens(
    name: str, folder: Path, support: ExpectedSupport, *, corpus_ids: bool, remote_code: bool
) -> None:
    """Check the tokenizer in a teacher's folder, token by token, against the support.

    Args:
        name: the teacher's name in the recipe.
        folder: its folder.
        support: what the corpus was tokenised with.
        corpus_ids: the recipe vouches for a folder without a tokenizer. One that has a tokenizer
            is checked all the same.
        remote_code: the tokenizer may run code from its folder.

    Raises:
        TeacherError: there is no tokenizer, it cannot be read, or it differs; names the first
            difference.
    """
    if not holds_tokenizer(folder):
        if corpus_ids:
            return
        message = (
            f"teacher {name}: there is no tokenizer in {folder}, expected one of "
            f"{', '.join(TOKENIZER_FILES)}. If its ids are those of the corpus's tokenizer, say "
            f"`tokenizer: corpus` for this teacher."
        )
        raise TeacherError(message)
    tokenizer = _read_tokenizer(name, folder, remote_code=remote_code)
    difference = _first_token(tokenizer, support) or _first_special(tokenizer, support)
    if difference is not None:
        message = (
            f"teacher {name}: the tokenizer in {folder} is not that of the corpus: {difference}. "
            f"Teachers of one set share one tokenizer: say `tokenizer: twin` for this teacher, so "
            f"that it reads the same words in its own tokens; leave it out; or set "
            f"corpus.tokenizer to the one that all share."
        )
        raise TeacherError(message)


def _read_tokenizer(name: str, folder: Path, *, remote_code: bool) -> Any:
    from transformers import AutoTokenizer

    try:
        with quiet_transformers():
            return AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=remote_code
            )
    except Exception as error:
        if not is_unreadable(error):
            raise
        message = f"teacher {name}: the tokenizer in {folder} cannot be read: {error}"
        raise TeacherError(message) from error


def _first_token(tokenizer: Any, support: ExpectedSupport) -> str | None:
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    tokens = [""] * (max(vocabulary.values(), default=-1) + 1)
    for token, index in vocabulary.items():
        tokens[index] = token
    pairs = zip_longest(tokens, (token or "" for token in support.tokens))
    for index, (own, expected) in enumerate(pairs):
        if own != expected:
            return (
                f"id {index} is {_shown(own)} there and {_shown(expected)} in the corpus "
                f"({len(tokens)} and {support.size} entries)"
            )
    return None


def _first_special(tokenizer: Any, support: ExpectedSupport) -> str | None:
    for role, expected in support.special.items():
        own = getattr(tokenizer, f"{role}_token_id", None)
        # A role that one side does not declare is no contradiction: the ids mean the same.
        if own is not None and expected is not None and own != expected:
            return f"its {role} token is id {own}, that of the corpus is id {expected}"
    return None


def _shown(token: str | None) -> str:
    return "nothing" if token is None else repr(token)
