"""Files by which a folder is known to hold a tokenizer. Names only; no framework is imported."""

from __future__ import annotations

from pathlib import Path

__all__ = ["TOKENIZER_FILES", "holds_tokenizer"]

TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "spm.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)
"""One of these is in every folder from which transformers can load a tokenizer."""


def holds_tokenizer(folder: Path) -> bool:
    """Whether a tokenizer lies in a folder; transformers would make one up where none does."""
    return any((folder / file).is_file() for file in TOKENIZER_FILES)
