"""What the tokens of a support say: their text, and whether a space stands before it.

Read from ``tokenizer.json`` alone, so that a merge needs no tokenizer.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ckd_cache.errors import MergeError
from ckd_cache.format.paths import support_part
from ckd_cache.format.support import SupportReader
from ckd_cache.types import JsonObject, JsonValue

__all__ = ["TokenStrings", "normalised", "read_token_strings", "token_strings"]

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
_FORMS = ("NFC", "NFD", "NFKC", "NFKD")


@dataclass(frozen=True, slots=True)
class TokenStrings:
    """The tokens of a support that can be a whole word, V entries.

    Attributes:
        texts: by id, without the mark of a space before it; None for special and added tokens,
            for those that only go on with a word, and for bytes that are no text.
        marked: (V,) bool, whether a space stands before the token.
        marks: whether the tokenizer tells words after a space from others at all.
        normalizer: as ``tokenizer.json`` describes it; None if there is none.
    """

    texts: tuple[str | None, ...]
    marked: NDArray[np.bool_]
    marks: bool
    normalizer: JsonObject | None


def read_token_strings(support: SupportReader) -> TokenStrings:
    """The tokens of a support of a cache.

    Raises:
        DamagedCacheError: its ``tokenizer.json`` is missing or damaged.
        MergeError: it is of a kind whose tokens cannot be told apart by their text.
    """
    path = f"{support_part(support.fingerprint)}/tokenizer.json"
    with support.access.reading(path):
        description = json.loads(support.access.verified(path).read_bytes())
    special = [one for one in support.record.special.values() if one is not None]
    return token_strings(description, special)


def token_strings(description: JsonObject, special: Sequence[int]) -> TokenStrings:
    """The tokens that a tokenizer describes.

    Args:
        description: ``tokenizer.json``.
        special: ids of its special tokens.

    Raises:
        MergeError: it is of a kind whose tokens cannot be told apart by their text.
    """
    vocabulary = _vocabulary(description["model"])
    added = {one["id"]: one["content"] for one in description.get("added_tokens") or ()}
    size = 1 + max([*vocabulary.values(), *added], default=-1)
    names: list[str | None] = [None] * size
    for name, number in vocabulary.items():
        names[number] = name
    for number in (*added, *special):
        names[number] = None
    kind = _kind(description)
    read = [(None, False) if name is None else _READERS[kind](name) for name in names]
    if kind == "pieces":
        prefix = description["model"].get("continuing_subword_prefix") or "##"
        read = [
            (None, False) if text and text.startswith(prefix) else (text, False) for text, _ in read
        ]
    return TokenStrings(
        texts=tuple(text or None for text, _ in read),
        marked=np.array([mark for _, mark in read], dtype=np.bool_),
        marks=kind in {"bytes", "spaces"},
        normalizer=description.get("normalizer"),
    )


def normalised(text: str, normalizer: JsonObject | None) -> str:
    """A text as a tokenizer changes it before it looks for words.

    What is changed by other means than case, accents, Unicode forms and blanks stays as it is.

    Args:
        text: any.
        normalizer: as ``tokenizer.json`` describes it.
    """
    if normalizer is None:
        return text
    match normalizer["type"]:
        case "Sequence":
            for one in normalizer["normalizers"]:
                text = normalised(text, one)
        case "BertNormalizer":
            text = _bert(text, normalizer)
        case "Lowercase":
            text = text.lower()
        case "StripAccents":
            text = _without_accents(text)
        case "Strip":
            text = text.strip()
        case "NFC" | "NFD" | "NFKC" | "NFKD" as form:
            text = unicodedata.normalize(form, text)
        case "Precompiled":
            text = unicodedata.normalize("NFKC", text)
        case _:
            pass
    return text


def _bert(text: str, normalizer: JsonObject) -> str:
    lowercase, strip = normalizer.get("lowercase"), normalizer.get("strip_accents")
    if lowercase if strip is None else strip:
        text = _without_accents(unicodedata.normalize("NFD", text))
    return text.lower() if lowercase else text


def _without_accents(text: str) -> str:
    return "".join(sign for sign in text if unicodedata.category(sign) != "Mn")


def _vocabulary(model: JsonObject) -> Mapping[str, int]:
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):
        return {name: number for number, (name, _) in enumerate(vocabulary)}
    return dict(vocabulary)


def _kind(description: JsonObject) -> str:
    """How the tokens are written: ``pieces``, ``words``, ``bytes`` or ``spaces``."""
    model = description["model"]
    found = {one["type"] for one in _steps(description.get("pre_tokenizer"))}
    found |= {one["type"] for one in _steps(description.get("decoder"))}
    if model["type"] == "WordPiece":
        return "pieces"
    if "ByteLevel" in found:
        return "bytes"
    if "Metaspace" in found:
        return "spaces"
    if model["type"] == "WordLevel":
        return "words"
    message = (
        f"a tokenizer has a model {model['type']} with {', '.join(sorted(found)) or 'nothing else'}"
        "; expected WordPiece, WordLevel, a byte-level BPE, or one that writes spaces as U+2581: "
        "only of these is it known which tokens are whole words. Leave out the teacher, or the "
        "target, that needs it."
    )
    raise MergeError(message)


def _steps(step: JsonValue) -> Iterator[JsonObject]:
    """A step of a tokenizer, and all that it is made of."""
    if isinstance(step, dict):
        yield step
        for name in ("pretokenizers", "decoders"):
            for one in step.get(name) or ():
                yield from _steps(one)


def _plain(name: str) -> tuple[str | None, bool]:
    return name, False


def _spaced(name: str) -> tuple[str | None, bool]:
    marked = name.startswith(_SPACE)
    text = name[1:] if marked else name
    return (None if _SPACE in text else text), marked


def _bytes(name: str) -> tuple[str | None, bool]:
    try:
        text = bytes(_BYTES[sign] for sign in name).decode("utf-8")
    except (KeyError, UnicodeDecodeError):
        return None, False
    marked = text.startswith(" ")
    text = text[1:] if marked else text
    return (None if text != text.strip() else text), marked


def _byte_signs() -> dict[str, int]:
    """The signs by which byte-level tokenizers write bytes: printable ones stand for themselves."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    signs = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in printable]
    return signs | {chr(256 + number): byte for number, byte in enumerate(others)}


_BYTES = _byte_signs()
_READERS = {"pieces": _plain, "words": _plain, "bytes": _bytes, "spaces": _spaced}
