"""Reading the distributions of a teacher or a target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np

from ckd_cache.errors import DamagedCacheError, IncompleteCacheError
from ckd_cache.format.access import FileAccess
from ckd_cache.format.encode import decode_target, decode_teacher
from ckd_cache.format.manifest import SetRecord, TargetRecord, TeacherRecord
from ckd_cache.format.paths import array_shard_path, target_part, teacher_part
from ckd_cache.format.ranges import Piece, check_range, pieces_of
from ckd_cache.format.shards import decode_order, read_chunks
from ckd_cache.format.spec import ORDER_ARRAY, ArraySpec, Layout, target_specs, teacher_specs
from ckd_cache.format.support import SupportReader
from ckd_cache.format.zarr_io import ZARR_JSON, array_metadata, matches, order_metadata
from ckd_cache.types import Array, JsonObject, TargetArrays, TeacherArrays, array_names

__all__ = ["StoredArrays", "TargetReader", "TeacherReader", "target_reader", "teacher_reader"]


@dataclass(frozen=True)
class StoredArrays:
    """The groups of one teacher or target, as stored numbers.

    Attributes:
        access: the cache's files.
        set_name: name of the set.
        record: its record in the manifest.
        layout: how it is cut.
        what: such as ``teacher a``, for messages.
        remedy: what fills its parts, for messages.
        specs: arrays of each group.
        groups: folder of the group by part.
    """

    access: FileAccess
    set_name: str
    record: SetRecord
    layout: Layout
    what: str
    remedy: str
    specs: Sequence[ArraySpec]
    groups: Mapping[str, str]
    _checked: set[str] = field(default_factory=set, repr=False)
    _orders: dict[str, Array] = field(default_factory=dict, repr=False)

    def pieces(self, start: int, stop: int) -> Iterator[Piece]:
        """The shards of a read.

        Raises:
            IncompleteCacheError: the range is not one of the set's, or a part is not filled yet.
        """
        where = f"{self.access.path}: set {self.set_name}"
        check_range(start, stop, self.record.examples, where)
        for piece in pieces_of(self.record, self.layout, start, stop):
            if piece.part.name not in self.groups:
                message = (
                    f"{where}: {self.what} has nothing yet for part {piece.part.name} (examples"
                    f" from {piece.part.first_example}). {self.remedy}"
                )
                raise IncompleteCacheError(message)
            yield piece

    def read(self, piece: Piece) -> Iterator[dict[str, Array]]:
        """Stored numbers of the examples of a piece by array, a chunk at a time.

        Raises:
            DamagedCacheError: a file is missing or damaged.
        """
        names = [spec.name for spec in self.specs]
        for chunks in zip(*(self._chunks(piece, spec) for spec in self.specs), strict=True):
            yield dict(zip(names, chunks, strict=True))

    def order(self, part: str) -> Array:
        """(V,) the id that each stored number of a part's ``ids`` means.

        Raises:
            DamagedCacheError: a file is missing or damaged.
        """
        folder = f"{self.groups[part]}/{ORDER_ARRAY}"
        if folder not in self._orders:
            size = self.layout.support_size
            self._check_document(folder, order_metadata(size))
            path = f"{folder}/c/0"
            with self.access.reading(path):
                data = self.access.verified(path).read_bytes()
                self._orders[folder] = decode_order(data, size)
        return self._orders[folder]

    def none(self) -> dict[str, Array]:
        """Stored numbers of no examples."""
        return {
            spec.name: np.zeros(spec.shape(0, self.layout.slots), spec.dtype) for spec in self.specs
        }

    def path_of(self, piece: Piece, spec: ArraySpec) -> str:
        """The file of an array that holds a piece."""
        group = self.groups[piece.part.name]
        return array_shard_path(group, spec.name, len(spec.dimension_names), piece.shard)

    def _chunks(self, piece: Piece, spec: ArraySpec) -> Iterator[Array]:
        folder = f"{self.groups[piece.part.name]}/{spec.name}"
        self._check_document(folder, array_metadata(spec, self.layout, piece.part.examples))
        relative = self.path_of(piece, spec)
        path = self.access.present(relative)
        start, stop = piece.start - piece.shard_start, piece.stop - piece.shard_start
        with self.access.reading(relative, piece.where):
            yield from read_chunks(path, spec, self.layout, start, stop)

    def _check_document(self, folder: str, metadata: JsonObject) -> None:
        """Check, once, that Zarr would read an array as this reader does."""
        if folder in self._checked:
            return
        document = f"{folder}/{ZARR_JSON}"
        with self.access.reading(document):
            fits = matches(self.access.verified(document).read_bytes(), metadata)
        if not fits:
            found = "it does not describe the array that the manifest speaks of"
            raise DamagedCacheError(self.access.damage(document, found))
        self._checked.add(folder)


@dataclass(frozen=True)
class TeacherReader:
    """The distributions of one teacher of a set.

    Attributes:
        name: of the teacher.
        record: its record in the manifest.
        stored: its groups.
        support: what it distributes over.
    """

    name: str
    record: TeacherRecord
    stored: StoredArrays
    support: SupportReader

    @property
    def k(self) -> int:
        """Entries kept of a slot."""
        return self.record.k

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Temperatures of ``tail``, ``logsumexp`` and ``entropy``."""
        return tuple(self.record.temperatures)

    def read(self, start: int, stop: int) -> TeacherArrays:
        """Decoded distributions of examples ``start`` to ``stop``.

        Raises:
            IncompleteCacheError: the range is not one of the set's, or not captured yet.
            DamagedCacheError: a file is missing or damaged.
        """
        decode = partial(decode_teacher, capture=self.record.capture)
        return TeacherArrays(**_read(self.stored, start, stop, decode, array_names(TeacherArrays)))


@dataclass(frozen=True)
class TargetReader:
    """The distributions of one target of a set.

    Attributes:
        name: of the target.
        record: its record in the manifest.
        stored: its groups.
        support: what it distributes over.
    """

    name: str
    record: TargetRecord
    stored: StoredArrays
    support: SupportReader

    @property
    def teachers(self) -> tuple[str, ...]:
        """Teachers, in the order of the prediction weights."""
        return tuple(self.record.teachers)

    @property
    def temperature(self) -> float:
        """Temperature of the distributions."""
        return self.record.temperature

    def read(self, start: int, stop: int) -> TargetArrays:
        """Decoded distributions of examples ``start`` to ``stop``.

        Raises:
            IncompleteCacheError: the range is not one of the set's, or not merged yet.
            DamagedCacheError: a file is missing or damaged.
        """
        decode = partial(decode_target, capture=self.record.capture)
        return TargetArrays(**_read(self.stored, start, stop, decode, array_names(TargetArrays)))


def teacher_reader(
    access: FileAccess, set_name: str, record: SetRecord, name: str, support: SupportReader
) -> TeacherReader:
    """Reader of a teacher that the manifest names."""
    teacher = record.teachers[name]
    size = support.record.size
    stored = StoredArrays(
        access,
        set_name,
        record,
        record.layout(size),
        f"teacher {name}",
        f"Finish it with {_build(access)}.",
        teacher_specs(teacher.capture, size),
        {part: teacher_part(set_name, name, part) for part in teacher.parts},
    )
    return TeacherReader(name, teacher, stored, support)


def target_reader(
    access: FileAccess, set_name: str, record: SetRecord, name: str, support: SupportReader
) -> TargetReader:
    """Reader of a target that the manifest names."""
    target = record.targets[name]
    size = support.record.size
    stored = StoredArrays(
        access,
        set_name,
        record,
        record.layout(size),
        f"target {name}",
        _remedy(access, name, target),
        target_specs(target.capture, size, len(target.teachers)),
        {part: target_part(set_name, name, part) for part in target.parts},
    )
    return TargetReader(name, target, stored, support)


def _remedy(access: FileAccess, name: str, target: TargetRecord) -> str:
    if not target.stored:
        return (
            f"It is a rule that is only recorded: students merge it with --target live:{name},"
            f" and `ckd-cache inspect {access.path} --target {name}` says what it does."
        )
    return (
        f"If the recipe asks for it, finish it with {_build(access)}; if it was merged later, run"
        f" the same `ckd-cache merge {access.path} --name {name} …` again."
    )


def _build(access: FileAccess) -> str:
    return f"`ckd-cache build RECIPE --cache {access.path}`"


class _Decode(Protocol):
    """Turns stored numbers into distributions."""

    def __call__(self, stored: Mapping[str, Array], *, order: Array) -> _Arrays: ...


class _Arrays(Protocol):
    """Arrays by name."""

    def __getitem__(self, name: str) -> Array: ...


def _read(
    stored: StoredArrays, start: int, stop: int, decode: _Decode, names: Sequence[str]
) -> dict[str, Array]:
    result: dict[str, Array] = {}
    done = 0
    for chunk in _decoded(stored, start, stop, decode):
        count = chunk[names[0]].shape[0]
        if count == stop - start:
            return {name: chunk[name] for name in names}
        # Filled as chunks come, so that the memory of one is used for the next.
        for name in names:
            values = chunk[name]
            if name not in result:
                result[name] = np.empty((stop - start, *values.shape[1:]), values.dtype)
            result[name][done : done + count] = values
        done += count
    return result


def _decoded(stored: StoredArrays, start: int, stop: int, decode: _Decode) -> Iterator[_Arrays]:
    """Distributions of a range, a chunk at a time; once nothing for an empty range."""
    for piece in stored.pieces(start, stop):
        part = piece.part.name
        order = stored.order(part)
        for chunk in stored.read(piece):
            with stored.access.reading(stored.groups[part], piece.where):
                decoded = decode(chunk, order=order)
            yield decoded
    if start == stop:
        yield decode(stored.none(), order=np.zeros(1, np.uint32))
