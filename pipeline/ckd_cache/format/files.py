"""The files table: a row for every file of a cache but the manifest and the table itself."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ckd_cache.errors import DamagedCacheError
from ckd_cache.fingerprint import hash_bytes
from ckd_cache.format.paths import UNSAFE_PATTERN

__all__ = [
    "FILES_PATTERN",
    "FileRow",
    "FilesTable",
    "encode_files",
    "files_name",
    "merge_files",
    "read_files",
]

_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("part", pa.string(), nullable=False),
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("sha256", pa.binary(32), nullable=False),
    ]
)
FILES_PATTERN = re.compile(r"files-[0-9a-f]{64}\.parquet")
"""Names that files tables have."""
_ROW_GROUP_ROWS = 131_072
_ZSTD_LEVEL = 3
_PAGE_BYTES = 1 << 20
_LARGEST_ROW, _LARGEST_EMPTY = 4096, 1 << 20
"""Bytes that a row may take before compression, and those that are there without any rows."""


@dataclass(frozen=True, slots=True)
class FileRow:
    """One file.

    Attributes:
        path: relative to the cache.
        part: folder of the part it belongs to, such as ``text/teachers/a/v0-0000``.
        shard: number of the shard, -1 if it belongs to the whole part.
        bytes: its size.
        sha256: of its bytes, in hexadecimal.
    """

    path: str
    part: str
    shard: int
    bytes: int
    sha256: str


class FilesTable:
    """The rows of a files table, found by path or by part without making all of them.

    Args:
        table: with the columns of the format, sorted by path.
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self._paths = table["path"].combine_chunks()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def rows(self) -> tuple[FileRow, ...]:
        """All rows, by path."""
        return tuple(_rows_of(self.table))

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that have files, sorted."""
        return tuple(sorted(pc.unique(self.table["part"]).to_pylist()))

    def get(self, path: str) -> FileRow | None:
        """The row of a file, or None if the table does not name it."""
        index = self._first_at_least(path)
        rows = _rows_of(self.table.slice(index, 1))
        return rows[0] if rows and rows[0].path == path else None

    def of_part(self, part: str) -> list[FileRow]:
        """The rows of a part, by path."""
        return _rows_of(self._slice_of(part))

    def bytes_of(self, part: str) -> int:
        """Bytes of all files of a part, or of everything below a folder such as ``text``."""
        return int(pc.sum(self._slice_of(part)["bytes"], min_count=0).as_py())

    def _slice_of(self, folder: str) -> pa.Table:
        # Whatever lies below a folder is contiguous: "0" is the character after "/".
        start = self._first_at_least(f"{folder}/")
        return self.table.slice(start, self._first_at_least(f"{folder}0") - start)

    def _first_at_least(self, path: str) -> int:
        return bisect_left(range(len(self)), path, key=lambda index: self._paths[index].as_py())


def encode_files(rows: Iterable[FileRow]) -> bytes:
    """Bytes of the files table of some rows; the last row of a path counts."""
    return merge_files(None, rows)


def merge_files(before: FilesTable | None, rows: Iterable[FileRow]) -> bytes:
    """Bytes of the files table that has the rows of an older one and further ones.

    Args:
        before: the older table.
        rows: further rows; they replace those of the same path.
    """
    added = _table_of(rows)
    tables = [added]
    if before is not None:
        known = pc.is_in(before.table["path"], value_set=added["path"].combine_chunks())
        tables.append(before.table.filter(pc.invert(known)))
    return _parquet(pa.concat_tables(tables).sort_by("path"))


def files_name(data: bytes) -> str:
    """Name of the file that holds a files table."""
    return f"files-{hash_bytes(data)}.parquet"


def read_files(path: Path, rows: int | None = None) -> FilesTable:
    """The files table stored at ``path``.

    Args:
        path: of the table.
        rows: number of rows that the manifest gives it; None if there is no manifest yet.

    Raises:
        DamagedCacheError: it is missing, its bytes are not those that were written, it has another
            number of rows, or it would take far more memory than so many rows need.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        message = (
            f"{path}: the files table cannot be read ({error.strerror}). If a build committed"
            " since the cache was opened, open the cache again; else it is damaged."
            f" {_way_out(path)}"
        )
        raise DamagedCacheError(message) from error
    if files_name(data) != path.name:
        raise DamagedCacheError(_damage(path, "its bytes are not those that were written"))
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        _check_size(file.metadata, path, rows)
        # A thread of Arrow's pool sometimes aborts the interpreter when this one ends.
        table = file.read(use_threads=False).cast(_SCHEMA)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise DamagedCacheError(_damage(path, str(error))) from error
    _check_paths(table, path)
    return FilesTable(table)


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=_ROW_GROUP_ROWS,
        version="2.6",
        data_page_version="2.0",
        data_page_size=_PAGE_BYTES,
        compression="zstd",
        compression_level=_ZSTD_LEVEL,
        use_dictionary=True,
        write_statistics=False,
        write_page_checksum=True,
        write_page_index=False,
        store_schema=False,
    )
    return bytes(sink.getvalue().to_pybytes())


def _table_of(rows: Iterable[FileRow]) -> pa.Table:
    by_path = {row.path: row for row in rows}
    values = list(by_path.values())
    columns = [
        [row.path for row in values],
        [row.part for row in values],
        [row.shard for row in values],
        [row.bytes for row in values],
        [bytes.fromhex(row.sha256) for row in values],
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=_SCHEMA)


def _rows_of(table: pa.Table) -> list[FileRow]:
    columns = [table[field.name].to_pylist() for field in _SCHEMA]
    return [
        FileRow(path, part, shard, size, sha256.hex())
        for path, part, shard, size, sha256 in zip(*columns, strict=True)
    ]


def _check_size(metadata: pq.FileMetaData, where: Path, rows: int | None) -> None:
    """Look at what a table says of itself, before anything is allocated for it."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    found = sum(group.num_rows for group in groups)
    if rows is not None and found != rows:
        message = _damage(where, f"it has {found:,} rows, the manifest says {rows:,}")
        raise DamagedCacheError(message)
    size, most = sum(group.total_byte_size for group in groups), _LARGEST_ROW * found
    if size > most + _LARGEST_EMPTY:
        message = _damage(where, f"its {found:,} rows would take {size:,} bytes")
        raise DamagedCacheError(message)


def _check_paths(table: pa.Table, where: Path) -> None:
    paths = table["path"].combine_chunks()
    unsafe = paths.filter(pc.match_substring_regex(paths, UNSAFE_PATTERN))
    if len(unsafe):
        found = f"it names {unsafe[0].as_py()!r}, which leads out of the cache"
        raise DamagedCacheError(_damage(where, found))
    if len(paths) > 1 and not pc.all(pc.less(paths[:-1], paths[1:])).as_py():
        raise DamagedCacheError(_damage(where, "its rows are not sorted by path"))


def _damage(path: Path, found: str) -> str:
    return f"{path}: the files table is damaged: {found}. {_way_out(path)}"


def _way_out(path: Path) -> str:
    cache = path.parent
    return (
        "It cannot be computed again: restore it from a copy, and let"
        f" `ckd-cache verify {cache} --repair --recipe RECIPE` compute again what does not fit it."
        f" As the last resort, where there is no copy, delete {cache} and build the cache again:"
        f" `ckd-cache build RECIPE --cache {cache}`."
    )
