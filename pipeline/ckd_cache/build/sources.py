"""A recipe's sources as the corpus package takes them."""

from __future__ import annotations

from pathlib import Path

from ckd_cache.build.recipe_sources import Docstrings, JsonLines, Source, TextFiles, source_name
from ckd_cache.corpus.source import (
    DocstringsSource,
    JsonlSource,
    ParquetSource,
    SourceSpec,
    TextSource,
)

__all__ = ["source_spec"]


def source_spec(source: Source, root: Path) -> SourceSpec:
    """The source, with its name and genre filled in and its paths relative to ``root``."""
    name = source_name(source)
    genre = source.genre or name
    match source:
        case Docstrings():
            # Files of the standard library that do not parse are no fault of the user's.
            return DocstringsSource(name, genre)
        case TextFiles():
            return TextSource(
                name,
                genre,
                tuple(source.paths),
                root,
                documents=source.documents,
                encoding=source.encoding,
                on_error=source.on_error,
            )
        case JsonLines():
            return JsonlSource(
                name, genre, tuple(source.paths), root, source.field, source.on_error
            )
        case _:
            return ParquetSource(
                name, genre, tuple(source.paths), root, source.column, source.on_error
            )
