"""Documents of Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ckd_cache.corpus.files import list_files
from ckd_cache.corpus.records import Document, ParquetSource, ReadReport, refuse_or_skip
from ckd_cache.errors import CorpusError

__all__ = ["read_parquet"]

_BATCH_ROWS = 1024


def read_parquet(spec: ParquetSource, report: ReadReport) -> Iterator[Document]:
    """The documents of Parquet files, one file after the other, a batch of rows at a time.

    Ids end in the row's number in its file, from 0.

    Raises:
        CorpusError: a glob matches no file, a file is no Parquet file, its column is missing or
            holds no strings, or a row has no text and ``on_error`` is ``raise``.
    """
    for file in list_files(spec):
        for row, value in enumerate(_values(spec, file.path)):
            text = _text_of(value)
            if text is None:
                found = "null" if value is None else "bytes that are not utf-8"
                problem = f"{file.path}, row {row}: column {spec.column!r} holds {found}"
                refuse_or_skip(spec.on_error, report, problem, "Correct the row")
                continue
            yield Document(f"{spec.name}/{file.name}#{row}", text, spec.name, spec.genre)


def _text_of(value: bytes | None) -> str | None:
    if value is None:
        return None
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _values(spec: ParquetSource, path: Path) -> Iterator[bytes | None]:
    try:
        with pq.ParquetFile(path) as file:
            _check_column(spec, path, file.schema_arrow)
            batches = file.iter_batches(
                batch_size=_BATCH_ROWS, columns=[spec.column], use_threads=False
            )
            for batch in batches:
                # As bytes, so that undecodable strings are found row by row.
                yield from batch.column(0).cast(pa.large_binary()).to_pylist()
    except (pa.ArrowException, OSError) as error:
        message = f"{path}: cannot be read as Parquet ({error}). Correct `paths` or the file."
        raise CorpusError(message) from error


def _check_column(spec: ParquetSource, path: Path, schema: pa.Schema) -> None:
    names = list(schema.names)
    if names.count(spec.column) != 1:
        message = (
            f"{path}: found {names.count(spec.column)} columns called {spec.column!r}, expected "
            f"one; there are {', '.join(map(repr, names))}. Correct `column`."
        )
        raise CorpusError(message)
    found = schema.field(spec.column).type
    kind = found.value_type if pa.types.is_dictionary(found) else found
    if not (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    ):
        message = (
            f"{path}: column {spec.column!r} is of type {found}, expected strings. "
            "Correct `column`, or store the text as strings."
        )
        raise CorpusError(message)
