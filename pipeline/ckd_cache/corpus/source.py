"""Sources: where documents come from, in reading order.

report = ReadReport()
for document in read_documents(TextSource("books", "fiction", ("*.txt",), root), report): …
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ckd_cache.corpus.docstrings import hash_docstrings, read_docstrings
from ckd_cache.corpus.files import hash_files, list_files
from ckd_cache.corpus.jsonl import read_jsonl
from ckd_cache.corpus.parquet import read_parquet
from ckd_cache.corpus.records import (
    DocstringsSource,
    Document,
    JsonlSource,
    ParquetSource,
    ReadReport,
    SourceSpec,
    TextSource,
)
from ckd_cache.corpus.text import read_text
from ckd_cache.errors import CorpusError

__all__ = [
    "DocstringsSource",
    "Document",
    "JsonlSource",
    "ParquetSource",
    "ReadReport",
    "SourceSpec",
    "TextSource",
    "check_sources",
    "contents_of",
    "read_documents",
]

_NAME = re.compile(r"[^/#\s]+")


def read_documents(spec: SourceSpec, report: ReadReport) -> Iterator[Document]:
    """The documents of a source, streamed; duplicates and empty ones are still among them.

    Args:
        spec: the source.
        report: counts what is skipped.

    Raises:
        CorpusError: the source cannot be read; the message names file and line.
    """
    match spec:
        case TextSource():
            return read_text(spec, report)
        case JsonlSource():
            return read_jsonl(spec, report)
        case ParquetSource():
            return read_parquet(spec, report)
        case DocstringsSource():
            return read_docstrings(spec, report)


def contents_of(spec: SourceSpec) -> str:
    """Fingerprint of what a source holds: sha256 over the (name, sha256) pairs of its files.

    Raises:
        CorpusError: a glob matches no file, or a file cannot be read.
    """
    if isinstance(spec, DocstringsSource):
        return hash_docstrings(spec)
    return hash_files(list_files(spec))


def check_sources(specs: Sequence[SourceSpec]) -> None:
    """Check that no two documents of a corpus can get the same id.

    Raises:
        CorpusError: there is no source, two have the same name, or a name cannot stand in ids.
    """
    if not specs:
        message = "The corpus has no sources, expected at least one. Add one to `sources`."
        raise CorpusError(message)
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1 or not _NAME.fullmatch(name):
            message = (
                f"Sources are called {', '.join(map(repr, names))}; expected a name of its own "
                f"without `/`, `#` and blanks for each. Rename {name!r} with `name: …`."
            )
            raise CorpusError(message)
