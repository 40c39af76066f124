"""Reading the documents of an increment again, as they were kept when it was made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ckd_cache.corpus.deduplicate import text_key
from ckd_cache.corpus.pack import KeptDocument
from ckd_cache.corpus.source import ReadReport, SourceSpec, read_documents
from ckd_cache.errors import CorpusError
from ckd_cache.format.arrow_io import DocumentRow

__all__ = ["reread"]


def reread(sources: Sequence[SourceSpec], rows: Iterable[DocumentRow]) -> Iterator[KeptDocument]:
    """The documents that an increment kept, with their texts, in its order.

    Args:
        sources: those of the increment, in reading order.
        rows: what it lists of the documents it kept, in order.

    Raises:
        CorpusError: a document is gone or has another text; names it and its source.
    """
    listed = iter(rows)
    row = next(listed, None)
    for spec in sources:
        for document in read_documents(spec, ReadReport()):
            if row is None:
                return
            if document.id != row.id:
                continue
            if text_key(document.text) != row.key:
                raise CorpusError(_changed(row, "has another text now"))
            yield KeptDocument(row.number, row.split, document)
            row = next(listed, None)
    if row is not None:
        raise CorpusError(_changed(row, "is no longer there, or no longer in its place"))


def _changed(row: DocumentRow, what: str) -> str:
    return (
        f"source {row.source}: document {row.id}, number {row.number} of the set, {what}. A twin "
        "set is made of the very texts that the set was made of: restore the source, or build "
        "into another folder with --cache."
    )
