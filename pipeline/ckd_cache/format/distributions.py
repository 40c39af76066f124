"""Reading the distributions of a teacher or a target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zarr

from ckd_cache.errors import DamagedCacheError, IncompleteCacheError
from ckd_cache.format.access import FileAccess
from ckd_cache.format.encode import decode_target, decode_teacher
from ckd_cache.format.manifest import SetRecord, TargetRecord, TeacherRecord
from ckd_cache.format.paths import array_shard_path, target_part, teacher_part
from ckd_cache.format.ranges import Piece, check_range, pieces_of
from ckd_cache.format.spec import ArraySpec, Layout, target_specs, teacher_specs
from ckd_cache.format.support import SupportReader
from ckd_cache.format.zarr_io import ZARR_JSON, matches, open_stored, read_range
from ckd_cache.types import Array, TargetArrays, TeacherArrays, array_names

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
    _open: dict[str, zarr.Array[Any]] = field(default_factory=dict, repr=False)

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

    def read(self, piece: Piece) -> dict[str, Array]:
        """Stored numbers of the examples of a piece, by array.

        Raises:
            DamagedCacheError: a file is missing or damaged.
        """
        return {spec.name: self._read_array(piece, spec) for spec in self.specs}

    def none(self) -> dict[str, Array]:
        """Stored numbers of no examples."""
        return {
            spec.name: np.zeros(spec.shape(0, self.layout.slots), spec.dtype) for spec in self.specs
        }

    def path_of(self, piece: Piece, spec: ArraySpec) -> str:
        """The file of an array that holds a piece."""
        group = self.groups[piece.part.name]
        return array_shard_path(group, spec.name, len(spec.dimension_names), piece.shard)

    def _read_array(self, piece: Piece, spec: ArraySpec) -> Array:
        array = self._array(piece, spec)
        path = self.path_of(piece, spec)
        self.access.present(path)
        with self.access.reading(path, piece.where):
            return read_range(array, spec, piece.start, piece.stop)

    def _array(self, piece: Piece, spec: ArraySpec) -> zarr.Array[Any]:
        folder = f"{self.groups[piece.part.name]}/{spec.name}"
        if folder not in self._open:
            document = f"{folder}/{ZARR_JSON}"
            with self.access.reading(document):
                path = self.access.verified(document)
                fits = matches(path.read_bytes(), spec, self.layout, piece.part.examples)
                array = open_stored(path.parent) if fits else None
            if array is None:
                found = "it does not describe the array that the manifest speaks of"
                raise DamagedCacheError(self.access.damage(document, found))
            self._open[folder] = array
        return self._open[folder]


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
        capture, order = self.record.capture, self.support.files.order
        read = []
        for piece in self.stored.pieces(start, stop):
            stored = self.stored.read(piece)
            with self.stored.access.reading(self.stored.groups[piece.part.name], piece.where):
                read.append(decode_teacher(stored, capture, order))
        read = read or [decode_teacher(self.stored.none(), capture, order)]
        return TeacherArrays(**_joined(read, array_names(TeacherArrays)))


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
        capture, order = self.record.capture, self.support.files.order
        read = []
        for piece in self.stored.pieces(start, stop):
            stored = self.stored.read(piece)
            with self.stored.access.reading(self.stored.groups[piece.part.name], piece.where):
                read.append(decode_target(stored, capture, order))
        read = read or [decode_target(self.stored.none(), capture, order)]
        return TargetArrays(**_joined(read, array_names(TargetArrays)))


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
        f"If the recipe asks for it, finish it with {_build(access)}; if it was merged later, run"
        f" the same `ckd-cache merge {access.path} --name {name} …` again.",
        target_specs(target.capture, size, len(target.teachers)),
        {part: target_part(set_name, name, part) for part in target.parts},
    )
    return TargetReader(name, target, stored, support)


def _build(access: FileAccess) -> str:
    return f"`ckd-cache build RECIPE --cache {access.path}`"


def _joined(
    read: Sequence[TeacherArrays] | Sequence[TargetArrays], names: Sequence[str]
) -> dict[str, Array]:
    if len(read) == 1:
        return {name: read[0][name] for name in names}
    return {name: np.concatenate([part[name] for part in read]) for name in names}
