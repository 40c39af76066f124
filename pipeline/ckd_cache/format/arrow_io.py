"""Segments, documents and slots as Arrow IPC files (docs/format.md, Segments and Slots).

Arrow IPC carries no checksums: whoever reads from a cache checks the sha256 of a file first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ckd_cache.format.spec import ARROW_ZSTD_LEVEL, DOCUMENT_ROWS, Layout, id_dtype
from ckd_cache.types import Array, iter_ranges

__all__ = [
    "KEY_BYTES",
    "DocumentRow",
    "Ragged",
    "SegmentRows",
    "SlotRows",
    "Span",
    "encode_documents",
    "encode_segments",
    "encode_slots",
    "file_of",
    "read_document_keys",
    "read_documents",
    "read_ragged",
    "read_segments",
    "read_slots",
    "read_splits",
]

KEY_BYTES = 16
"""Of a document's text, by which duplicates are known."""
_SPAN_TYPE = pa.struct(
    [
        ("document", pa.uint64()),
        ("token_start", pa.uint32()),
        ("token_end", pa.uint32()),
        ("char_start", pa.uint64()),
        ("char_end", pa.uint64()),
    ]
)
_DOCUMENT_SCHEMA = pa.schema(
    [
        ("number", pa.uint64()),
        ("id", pa.string()),
        ("source", pa.string()),
        ("genre", pa.string()),
        ("split", pa.uint8()),
        ("characters", pa.uint64()),
        ("key", pa.binary(KEY_BYTES)),
    ]
)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one document in a segment, half-open.

    Attributes:
        document: number of the document.
        token_start: first token in the segment.
        token_end: token after the last one.
        char_start: first character (code point) in the document.
        char_end: character after the last one.
    """

    document: int
    token_start: int
    token_end: int
    char_start: int
    char_end: int


@dataclass(frozen=True, slots=True)
class SegmentRows:
    """Some consecutive segments.

    Attributes:
        input_ids: token ids of each, specials included, not padded.
        word_starts: bool for each token: it begins a word, or is special.
        spans: where the tokens of each come from.
        splits: (B,) uint8.
    """

    input_ids: list[Array]
    word_starts: list[NDArray[np.bool_]]
    spans: list[list[Span]]
    splits: NDArray[np.uint8]

    def __len__(self) -> int:
        """Number of segments."""
        return len(self.input_ids)


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """A document of the corpus.

    Attributes:
        number: from 0, over the increments of a set.
        key: of its text: the first 16 bytes of the sha256 by which duplicates are known.
    """

    number: int
    id: str
    source: str
    genre: str
    split: int
    characters: int
    key: bytes = bytes(KEY_BYTES)


@dataclass(frozen=True, slots=True)
class SlotRows:
    """The slots of some consecutive examples.

    Attributes:
        positions: token indices of the slots of each example, ascending.
        inputs: what the models see there.
        gold: what was there before.
    """

    positions: list[Array]
    inputs: list[Array]
    gold: list[Array]

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.positions)


@dataclass(frozen=True, slots=True)
class Ragged:
    """Rows of different lengths, end to end: row i is ``values[offsets[i]:offsets[i + 1]]``."""

    values: Array
    offsets: NDArray[np.int64]

    def rows(self) -> list[Array]:
        """The rows, as views."""
        return [self.values[start:stop] for start, stop in pairwise(self.offsets.tolist())]


def encode_segments(rows: SegmentRows, layout: Layout) -> bytes:
    """Bytes of a file of segments.

    Raises:
        ValueError: a token id does not fit the support, or lengths differ.
    """
    batches = [
        pa.RecordBatch.from_arrays(
            [
                _id_lists(rows.input_ids[i:j], layout),
                _lists(rows.word_starts[i:j], np.dtype(np.bool_)),
                _span_lists(rows.spans[i:j]),
                pa.array(np.ascontiguousarray(rows.splits[i:j], dtype=np.uint8)),
            ],
            schema=_segment_schema(layout),
        )
        for i, j in iter_ranges(len(rows), layout.chunk_examples)
    ]
    return file_of(batches, _segment_schema(layout))


def encode_slots(rows: SlotRows, layout: Layout) -> bytes:
    """Bytes of a file of slots.

    Raises:
        ValueError: a token id does not fit the support, a position does not fit uint16.
    """
    schema = _slot_schema(layout)
    batches = [
        pa.RecordBatch.from_arrays(
            [
                _lists(rows.positions[i:j], np.dtype(np.uint16)),
                _id_lists(rows.inputs[i:j], layout),
                _id_lists(rows.gold[i:j], layout),
            ],
            schema=schema,
        )
        for i, j in iter_ranges(len(rows), layout.chunk_examples)
    ]
    return file_of(batches, schema)


def encode_documents(rows: Sequence[DocumentRow]) -> bytes:
    """Bytes of a file of documents."""
    batches = []
    for i, j in iter_ranges(len(rows), DOCUMENT_ROWS):
        arrays = [
            pa.array([getattr(row, field.name) for row in rows[i:j]], field.type)
            for field in _DOCUMENT_SCHEMA
        ]
        batches.append(pa.RecordBatch.from_arrays(arrays, schema=_DOCUMENT_SCHEMA))
    return file_of(batches, _DOCUMENT_SCHEMA)


def read_segments(
    path: Path, start: int, stop: int, chunk_examples: int | None = None
) -> SegmentRows:
    """Segments ``start`` to ``stop`` of a file, counted within it.

    Args:
        path: the file.
        start: first row.
        stop: row after the last one.
        chunk_examples: rows of its record batches; without it all of them are decoded.

    Raises:
        pa.ArrowException, OSError: the file is not what was written.
    """
    columns = ["input_ids", "word_starts", "spans", "split"]
    ids, words, spans, splits = _read(path, columns, start, stop, chunk_examples)
    return SegmentRows(
        _ragged(ids).rows(), _ragged(words).rows(), _spans_of(spans), splits.to_numpy()
    )


def read_slots(path: Path, start: int, stop: int, chunk_examples: int | None = None) -> SlotRows:
    """Slots of examples ``start`` to ``stop`` of a file, counted within it.

    Raises:
        pa.ArrowException, OSError: the file is not what was written.
    """
    columns = read_ragged(path, ["positions", "inputs", "gold"], start, stop, chunk_examples)
    return SlotRows(*(column.rows() for column in columns))


def read_ragged(
    path: Path,
    columns: Sequence[str],
    start: int,
    stop: int,
    chunk_examples: int | None = None,
) -> list[Ragged]:
    """List columns of a range of rows of a file, without making a row an object.

    Raises:
        pa.ArrowException, OSError: the file is not what was written.
    """
    return [_ragged(column) for column in _read(path, columns, start, stop, chunk_examples)]


def read_splits(
    path: Path, start: int, stop: int, chunk_examples: int | None = None
) -> NDArray[np.uint8]:
    """Splits of a range of segments of a file.

    Raises:
        pa.ArrowException, OSError: the file is not what was written.
    """
    (splits,) = _read(path, ["split"], start, stop, chunk_examples)
    result: NDArray[np.uint8] = splits.to_numpy()
    return result


def read_documents(path: Path) -> list[DocumentRow]:
    """All documents of a file.

    Raises:
        pa.ArrowException, OSError: the file is not what was written.
    """
    with pa.OSFile(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    columns = [table[field.name].to_pylist() for field in _DOCUMENT_SCHEMA]
    return [DocumentRow(*row) for row in zip(*columns, strict=True)]


def read_document_keys(path: Path) -> list[bytes]:
    """The keys of all documents of a file.

    Raises:
        pa.ArrowException, OSError: the file is not what was written.
    """
    with pa.OSFile(str(path)) as source:
        keys: list[bytes] = pa.ipc.open_file(source).read_all()["key"].to_pylist()
    return keys


def _segment_schema(layout: Layout) -> pa.Schema:
    return pa.schema(
        [
            ("input_ids", pa.list_(_id_type(layout))),
            ("word_starts", pa.list_(pa.bool_())),
            ("spans", pa.list_(_SPAN_TYPE)),
            ("split", pa.uint8()),
        ]
    )


def _slot_schema(layout: Layout) -> pa.Schema:
    ids = pa.list_(_id_type(layout))
    return pa.schema([("positions", pa.list_(pa.uint16())), ("inputs", ids), ("gold", ids)])


def _id_type(layout: Layout) -> pa.DataType:
    return pa.from_numpy_dtype(np.dtype(id_dtype(layout.support_size)))


def _id_lists(rows: Sequence[Array], layout: Layout) -> pa.ListArray:
    values = _joined(rows)
    if values.size and not 0 <= values.min() <= values.max() < layout.support_size:
        message = (
            f"token ids from {values.min()} to {values.max()} do not fit a support of"
            f" {layout.support_size} entries"
        )
        raise ValueError(message)
    return _list_array(rows, pa.array(values.astype(id_dtype(layout.support_size))))


def _lists(rows: Sequence[Array], dtype: np.dtype[np.generic]) -> pa.ListArray:
    values = _joined(rows)
    stored = values.astype(dtype)
    if not np.array_equal(stored, values):
        message = f"numbers from {values.min()} to {values.max()} do not fit {dtype}"
        raise ValueError(message)
    return _list_array(rows, pa.array(stored))


def _joined(rows: Sequence[Array]) -> Array:
    return np.concatenate([np.asarray(row) for row in rows])


def _list_array(rows: Sequence[Array] | Sequence[list[Span]], values: pa.Array) -> pa.ListArray:
    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def _span_lists(rows: Sequence[list[Span]]) -> pa.ListArray:
    flat = [span for row in rows for span in row]
    columns = [
        pa.array([getattr(span, field.name) for span in flat], field.type) for field in _SPAN_TYPE
    ]
    return _list_array(rows, pa.StructArray.from_arrays(columns, fields=list(_SPAN_TYPE)))


def file_of(batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> bytes:
    """Bytes of an Arrow IPC file of some record batches."""
    options = pa.ipc.IpcWriteOptions(
        metadata_version=pa.ipc.MetadataVersion.V5,
        use_legacy_format=False,
        compression=pa.Codec("zstd", compression_level=ARROW_ZSTD_LEVEL),
        use_threads=False,
        emit_dictionary_deltas=False,
        unify_dictionaries=False,
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def _read(
    path: Path, columns: Sequence[str], start: int, stop: int, chunk_examples: int | None
) -> list[pa.Array]:
    """Columns of a range of rows; every record batch but the last has ``chunk_examples`` rows."""
    chunk = chunk_examples or max(stop, 1)
    first, last = start // chunk, -(-stop // chunk)
    with pa.memory_map(str(path)) as source:
        schema = pa.ipc.open_file(source).schema
        indices = [schema.get_field_index(name) for name in columns]
        if min(indices) < 0:
            message = f"it has the columns {schema.names}, not {list(columns)}"
            raise pa.ArrowInvalid(message)
        options = pa.ipc.IpcReadOptions(included_fields=indices, use_threads=False)
        reader = pa.ipc.open_file(source, options=options)
        batches = reader.num_record_batches
        last = batches if chunk_examples is None else min(last, batches)
        read = [reader.get_batch(index) for index in range(first, last)]
        table = pa.Table.from_batches(read, reader.schema).slice(
            start - first * chunk, stop - start
        )
        if table.num_rows != stop - start:
            message = f"rows {start} to {stop} are not all there"
            raise pa.ArrowInvalid(message)
        return [table[name].combine_chunks() for name in columns]


def _ragged(column: pa.ListArray) -> Ragged:
    offsets = np.zeros(len(column) + 1, np.int64)
    np.cumsum(pc.list_value_length(column).to_numpy(zero_copy_only=False), out=offsets[1:])
    return Ragged(column.flatten().to_numpy(zero_copy_only=False), offsets)


def _spans_of(column: pa.ListArray) -> list[list[Span]]:
    return [[Span(**span) for span in row] for row in column.to_pylist()]
