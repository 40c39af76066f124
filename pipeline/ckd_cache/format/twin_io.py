"""Twin sets as Arrow IPC files: segments and slots with a few columns more (docs/format.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ckd_cache.format.arrow_io import (
    Ragged,
    SegmentRows,
    SlotRows,
    encode_segments,
    encode_slots,
    file_of,
    read_ragged,
)
from ckd_cache.format.spec import Layout
from ckd_cache.types import Array

__all__ = [
    "ALIGNMENT_COLUMNS",
    "WORD_COLUMNS",
    "Alignment",
    "SlotWords",
    "encode_twin_segments",
    "encode_twin_slots",
    "read_alignment",
]

ALIGNMENT_COLUMNS = ("first", "last", "exact")
"""Of the segments of a twin set, beside those of every set."""
WORD_COLUMNS = ("words", "exact")
"""Of the slots of a twin set, beside those of every set."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """How the tokens of some twin segments lie to those of the set's segments; a row a segment.

    Attributes:
        first: first token of the segment that a token shares a character with.
        last: token after the last of these; equal to ``first`` where there is none.
        exact: bool, whether a token's word has exactly the characters of its tokens here.
    """

    first: list[Array]
    last: list[Array]
    exact: list[NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class SlotWords:
    """Which words the slots of some examples of a twin set belong to; a row an example.

    Attributes:
        words: number of each slot's word among the masked words of the example, ascending.
        exact: bool, whether the word's slots have exactly its characters.
    """

    words: list[Array]
    exact: list[NDArray[np.bool_]]


def encode_twin_segments(rows: SegmentRows, alignment: Alignment, layout: Layout) -> bytes:
    """Bytes of a file of a twin set's segments.

    Raises:
        ValueError: a token id does not fit the support, or lengths differ.
    """
    columns = {"first": alignment.first, "last": alignment.last, "exact": alignment.exact}
    return _with_columns(encode_segments(rows, layout), columns)


def encode_twin_slots(rows: SlotRows, words: SlotWords, layout: Layout) -> bytes:
    """Bytes of a file of a twin set's slots.

    Raises:
        ValueError: a token id does not fit the support, a position does not fit uint16.
    """
    return _with_columns(encode_slots(rows, layout), {"words": words.words, "exact": words.exact})


def read_alignment(
    path: Path, start: int, stop: int, chunk_examples: int | None = None
) -> list[Ragged]:
    """``input_ids``, ``first``, ``last`` and ``exact`` of a range of segments of a file.

    Raises:
        pa.ArrowException, OSError: the file is not what was written.
    """
    return read_ragged(path, ["input_ids", *ALIGNMENT_COLUMNS], start, stop, chunk_examples)


def _with_columns(data: bytes, columns: Mapping[str, Sequence[Array]]) -> bytes:
    """A file with list columns added: of bools where they are named ``exact``, else of uint16."""
    source = pa.ipc.open_file(pa.BufferReader(data))
    types = {name: pa.bool_() if name == "exact" else pa.uint16() for name in columns}
    schema = source.schema
    for name, kind in types.items():
        schema = schema.append(pa.field(name, pa.list_(kind)))
    batches, at = [], 0
    for number in range(source.num_record_batches):
        batch = source.get_batch(number)
        stop = at + batch.num_rows
        added = [_lists(rows[at:stop], types[name]) for name, rows in columns.items()]
        batches.append(pa.RecordBatch.from_arrays([*batch.columns, *added], schema=schema))
        at = stop
    return file_of(batches, schema)


def _lists(rows: Sequence[Array], kind: pa.DataType) -> pa.ListArray:
    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    values = pa.array(np.concatenate(rows).astype(kind.to_pandas_dtype()))
    return pa.ListArray.from_arrays(pa.array(offsets), values)
