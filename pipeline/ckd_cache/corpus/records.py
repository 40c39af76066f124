"""Documents, and the descriptions of where they come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

from ckd_cache.errors import CorpusError

__all__ = [
    "DocstringsSource",
    "Document",
    "FileSource",
    "JsonlSource",
    "OnError",
    "ParquetSource",
    "ReadReport",
    "SourceSpec",
    "TextSource",
    "refuse_or_skip",
]

OnError: TypeAlias = Literal["raise", "skip"]
_REASONS = 5


@dataclass(frozen=True, slots=True)
class Document:
    """A text with its origin.

    Attributes:
        id: stable and the same on every machine: ``<source>/<file>#<place in the file>``.
        text: as read, line ends as line feeds.
        source: name of the source.
        genre: kind of text.
    """

    id: str
    text: str
    source: str
    genre: str


@dataclass(slots=True)
class ReadReport:
    """What reading left out.

    Attributes:
        skipped: lines, rows or documents that could not be read and were skipped by choice.
        reasons: why, for the first few of them.
        duplicates: documents whose text an earlier document had.
        empty: documents without text.
    """

    skipped: int = 0
    reasons: list[str] = field(default_factory=list)
    duplicates: int = 0
    empty: int = 0

    def skip(self, reason: str) -> None:
        """Count one skipped line, row or document."""
        self.skipped += 1
        if len(self.reasons) < _REASONS:
            self.reasons.append(reason)


@dataclass(frozen=True, slots=True)
class TextSource:
    """Text files.

    Attributes:
        name: of the source.
        genre: kind of text.
        paths: globs, relative to ``root``.
        documents: what divides documents: blank lines, line ends or file ends.
        encoding: of the files, as Python names it.
        on_error: whether a document with undecodable bytes stops the reading or is skipped.
        root: the recipe's folder.
    """

    kind: ClassVar[str] = "text"
    name: str
    genre: str
    paths: tuple[str, ...]
    root: Path
    documents: Literal["blank-line", "line", "file"] = "blank-line"
    encoding: str = "utf-8"
    on_error: OnError = "raise"


@dataclass(frozen=True, slots=True)
class JsonlSource:
    """JSON Lines files in UTF-8; the text of a document is the string in ``field``.

    Attributes:
        name: of the source.
        genre: kind of text.
        paths: globs, relative to ``root``.
        field: name of the member that holds the text.
        on_error: whether a bad line stops the reading or is skipped.
        root: the recipe's folder.
    """

    kind: ClassVar[str] = "jsonl"
    name: str
    genre: str
    paths: tuple[str, ...]
    root: Path
    field: str = "text"
    on_error: OnError = "raise"


@dataclass(frozen=True, slots=True)
class ParquetSource:
    """Parquet files; the text of a document is the string in ``column``.

    Attributes:
        name: of the source.
        genre: kind of text.
        paths: globs, relative to ``root``.
        column: name of the column that holds the text.
        on_error: whether a bad row stops the reading or is skipped.
        root: the recipe's folder.
    """

    kind: ClassVar[str] = "parquet"
    name: str
    genre: str
    paths: tuple[str, ...]
    root: Path
    column: str = "text"
    on_error: OnError = "raise"


@dataclass(frozen=True, slots=True)
class DocstringsSource:
    """The docstrings of the running interpreter's standard library.

    A module that does not parse is always skipped: nobody corrects the standard library.

    Attributes:
        name: of the source.
        genre: kind of text.
        folder: read instead of the standard library's, if given.
    """

    kind: ClassVar[str] = "docstrings"
    name: str
    genre: str
    folder: Path | None = None


FileSource: TypeAlias = TextSource | JsonlSource | ParquetSource
SourceSpec: TypeAlias = FileSource | DocstringsSource


def refuse_or_skip(on_error: OnError, report: ReadReport, problem: str, advice: str) -> None:
    """Raise, or count what is skipped, as the source's ``on_error`` says.

    Args:
        on_error: the source's choice.
        report: where skipping is counted.
        problem: what was found, what was expected, and where.
        advice: what can be done besides skipping.

    Raises:
        CorpusError: ``on_error`` is ``raise``.
    """
    if on_error == "skip":
        report.skip(problem)
        return
    message = f"{problem}. {advice}, or set `on_error: skip` to leave out what cannot be read."
    raise CorpusError(message)
