"""Reading the examples of a set: segments and slots put together."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ckd_cache.errors import IncompleteCacheError
from ckd_cache.format.access import FileAccess
from ckd_cache.format.arrow_io import (
    DocumentRow,
    Ragged,
    SegmentRows,
    read_document_keys,
    read_documents,
    read_ragged,
    read_segments,
    read_splits,
)
from ckd_cache.format.manifest import SetRecord
from ckd_cache.format.paths import segments_part, segments_path, slots_path
from ckd_cache.format.ranges import Piece, check_range, pieces_of
from ckd_cache.format.spec import Layout
from ckd_cache.types import Examples, array_names

__all__ = ["ExamplesReader"]


@dataclass(frozen=True)
class ExamplesReader:
    """The examples of a set.

    Attributes:
        access: the cache's files.
        set_name: name of the set.
        record: its record in the manifest.
        layout: how it is cut.
        pad_id: what pads ``input_ids``.
    """

    access: FileAccess
    set_name: str
    record: SetRecord
    layout: Layout
    pad_id: int
    _documents: dict[str, list[DocumentRow]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        """Number of examples."""
        return self.record.examples

    def read(self, start: int, stop: int) -> Examples:
        """What the models see of examples ``start`` to ``stop``.

        Returns:
            B examples, padded to ``segment_tokens`` tokens and M slots.

        Raises:
            IncompleteCacheError: the range is not one of the set's.
            DamagedCacheError: a file is missing or damaged.
        """
        read = [self._read_piece(piece) for piece in self._pieces(start, stop)]
        if not read:
            return _empty(self.record)
        names = array_names(Examples)
        return Examples(**{name: np.concatenate([part[name] for part in read]) for name in names})

    def splits(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Split of each example: 0 train, 1 fit, 2 test.

        Raises:
            IncompleteCacheError: the range is not one of the set's.
            DamagedCacheError: a file is missing or damaged.
        """
        read = [np.zeros(0, np.uint8)]
        for piece in self._pieces(start, stop):
            path = self._segments_path(piece)
            with self.access.reading(path, piece.where):
                read.append(read_splits(self.access.verified(path), *self._rows(piece)))
        return np.concatenate(read)

    def segments(self, start: int, stop: int) -> SegmentRows:
        """The segments of examples ``start`` to ``stop``, as they were before masking.

        Raises:
            IncompleteCacheError: the range is not one of the set's.
            DamagedCacheError: a file is missing or damaged.
        """
        read = []
        for piece in self._pieces(start, stop):
            path = self._segments_path(piece)
            with self.access.reading(path, piece.where):
                read.append(read_segments(self.access.verified(path), *self._rows(piece)))
        return SegmentRows(
            [row for part in read for row in part.input_ids],
            [row for part in read for row in part.word_starts],
            [row for part in read for row in part.spans],
            np.concatenate([np.zeros(0, np.uint8), *(part.splits for part in read)]),
        )

    def segment_columns(self, columns: Sequence[str], start: int, stop: int) -> list[Ragged]:
        """List columns of the segments of examples ``start`` to ``stop``; see docs/format.md.

        Raises:
            IncompleteCacheError: the range is not one of the set's.
            DamagedCacheError: a file is missing or damaged.
        """
        return self._columns(columns, start, stop, self._segments_path)

    def slot_columns(self, columns: Sequence[str], start: int, stop: int) -> list[Ragged]:
        """List columns of the slots of examples ``start`` to ``stop``; see docs/format.md.

        Raises:
            IncompleteCacheError: the range is not one of the set's.
            DamagedCacheError: a file is missing or damaged.
        """
        return self._columns(columns, start, stop, self._slots_path)

    def documents(self, numbers: Iterable[int]) -> dict[int, DocumentRow]:
        """Documents by number.

        Raises:
            IncompleteCacheError: there is no document of a number.
            DamagedCacheError: a file is missing or damaged.
        """
        paths = self._document_paths()
        return {number: self._document(paths, number) for number in sorted(set(numbers))}

    def document_keys(self, increments: Iterable[str] | None = None) -> Iterator[list[bytes]]:
        """Keys of the texts of documents, a file at a time.

        Args:
            increments: names of those whose documents are meant; None for all.

        Raises:
            DamagedCacheError: a file is missing or damaged.
        """
        for path in self._document_paths(increments):
            with self.access.reading(path):
                yield read_document_keys(self.access.verified(path))

    def _pieces(self, start: int, stop: int) -> Iterator[Piece]:
        check_range(start, stop, len(self), f"{self.access.path}: set {self.set_name}")
        return pieces_of(self.record, self.layout, start, stop)

    def _segments_path(self, piece: Piece) -> str:
        return segments_path(self.set_name, piece.part.increment, piece.shard)

    def _slots_path(self, piece: Piece) -> str:
        return slots_path(self.set_name, piece.part.name, piece.shard)

    def _columns(
        self, columns: Sequence[str], start: int, stop: int, path_of: Callable[[Piece], str]
    ) -> list[Ragged]:
        read: list[list[Ragged]] = [[Ragged(np.zeros(0), _NO_ROWS)] for _ in columns]
        for piece in self._pieces(start, stop):
            path = path_of(piece)
            with self.access.reading(path, piece.where):
                found = read_ragged(self.access.verified(path), columns, *self._rows(piece))
            for pieces, one in zip(read, found, strict=True):
                pieces.append(one)
        return [_end_to_end(pieces[1:] or pieces) for pieces in read]

    def _rows(self, piece: Piece) -> tuple[int, int, int]:
        first = piece.shard_start
        return piece.start - first, piece.stop - first, self.layout.chunk_examples

    def _read_piece(self, piece: Piece) -> Examples:
        path = self._segments_path(piece)
        with self.access.reading(path, piece.where):
            (ids,) = read_ragged(self.access.verified(path), ["input_ids"], *self._rows(piece))
        path = self._slots_path(piece)
        with self.access.reading(path, piece.where):
            columns = ["positions", "inputs", "gold"]
            slots = read_ragged(self.access.verified(path), columns, *self._rows(piece))
            return self._together(ids, *slots)

    def _together(
        self, segments: Ragged, positions: Ragged, inputs: Ragged, gold: Ragged
    ) -> Examples:
        ids, attention = _padded(segments, self.record.segment_tokens, self.pad_id)
        places, slot_mask = _padded(positions, self.record.slots_per_example, 0)
        golds, gold_mask = _padded(gold, self.record.slots_per_example, 0)
        rows = np.nonzero(slot_mask)[0]
        if not (np.array_equal(slot_mask, gold_mask) and attention[rows, places[slot_mask]].all()):
            message = "its slots do not fit the segments"
            raise ValueError(message)
        ids[rows, places[slot_mask]] = inputs.values
        return Examples(
            input_ids=ids,
            attention_mask=attention.astype(np.int64),
            token_type_ids=np.zeros_like(ids),
            slot_positions=places,
            slot_mask=slot_mask,
            gold_ids=golds,
        )

    def _document_paths(self, increments: Iterable[str] | None = None) -> list[str]:
        names = [one.name for one in self.record.increments] if increments is None else increments
        paths: list[str] = []
        for name in names:
            rows = self.access.files.of_part(segments_part(self.set_name, name))
            rows = [row for row in rows if "/documents-" in row.path]
            paths.extend(row.path for row in sorted(rows, key=lambda row: row.shard))
        return paths

    def _document(self, paths: list[str], number: int) -> DocumentRow:
        after = bisect_right(range(len(paths)), number, key=lambda n: self._first(paths, n))
        for row in self._listed(paths[after - 1]) if after else []:
            if row.number == number:
                return row
        message = f"{self.access.path}: set {self.set_name} has no document {number}."
        raise IncompleteCacheError(message)

    def _first(self, paths: list[str], index: int) -> int:
        """Number of the first document of a file; of one without any, that of the next file."""
        for path in paths[index:]:
            rows = self._listed(path)
            if rows:
                return rows[0].number
        return 2**64

    def _listed(self, path: str) -> list[DocumentRow]:
        if path not in self._documents:
            with self.access.reading(path):
                rows = read_documents(self.access.verified(path))
            while len(self._documents) >= _DOCUMENT_FILES_KEPT:
                del self._documents[next(iter(self._documents))]
            self._documents[path] = rows
        return self._documents[path]


_DOCUMENT_FILES_KEPT = 16
_NO_ROWS = np.zeros(1, np.int64)


def _end_to_end(pieces: Sequence[Ragged]) -> Ragged:
    ends = np.concatenate([[0], *(np.diff(piece.offsets) for piece in pieces)])
    return Ragged(np.concatenate([piece.values for piece in pieces]), np.cumsum(ends))


def _padded(rows: Ragged, width: int, fill: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    lengths = np.diff(rows.offsets)
    if lengths.max(initial=0) > width:
        message = f"a row has {lengths.max()} entries, at most {width} are allowed"
        raise ValueError(message)
    mask = np.arange(width) < lengths[:, None]
    padded = np.full(mask.shape, fill, np.int64)
    padded[mask] = rows.values
    return padded, mask


def _empty(record: SetRecord) -> Examples:
    tokens = np.zeros((0, record.segment_tokens), np.int64)
    slots = np.zeros((0, record.slots_per_example), np.int64)
    return Examples(tokens, tokens, tokens, slots, slots.astype(np.bool_), slots)
