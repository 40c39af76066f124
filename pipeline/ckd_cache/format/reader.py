"""Opening a cache for reading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ckd_cache.errors import IncompleteCacheError
from ckd_cache.format.access import FileAccess
from ckd_cache.format.distributions import (
    TargetReader,
    TeacherReader,
    target_reader,
    teacher_reader,
)
from ckd_cache.format.examples import ExamplesReader
from ckd_cache.format.files import FilesTable
from ckd_cache.format.gathers import GatherReader, gather_reader
from ckd_cache.format.manifest import Manifest, SetRecord, loads
from ckd_cache.format.opening import manifest_bytes
from ckd_cache.format.ranges import ShardRange, shard_ranges
from ckd_cache.format.spec import MANIFEST_NAME, SPLIT_NAMES, Layout
from ckd_cache.format.support import SupportReader

__all__ = [
    "CacheReader",
    "ExamplesReader",
    "GatherReader",
    "SetReader",
    "ShardRange",
    "TargetReader",
    "TeacherReader",
    "open_cache",
]


@dataclass(frozen=True)
class SetReader:
    """One set of a cache.

    Attributes:
        name: of the set.
        record: its record in the manifest.
        layout: how its examples are cut.
        support: what its tokens are of.
        examples: what the models see.
        teachers: by name.
        targets: by name.
        gathers: by name.
    """

    name: str
    record: SetRecord
    layout: Layout
    support: SupportReader
    examples: ExamplesReader
    teachers: Mapping[str, TeacherReader]
    targets: Mapping[str, TargetReader]
    gathers: Mapping[str, GatherReader]

    @property
    def n_examples(self) -> int:
        """Number of examples of all parts."""
        return self.record.examples

    @property
    def n_slots(self) -> int:
        """Number of used slots of all parts."""
        return sum(part.slots for part in self.record.parts)

    @property
    def split_names(self) -> tuple[str, ...]:
        """Names of the splits by their number."""
        return SPLIT_NAMES

    def shards(self) -> list[ShardRange]:
        """All shards in order, by the examples of the set that they hold."""
        return shard_ranges(self.record, self.layout)


@dataclass(frozen=True)
class CacheReader:
    """An open cache: one generation, which later commits do not disturb.

    Attributes:
        path: its folder.
        manifest: its description.
        access: its files.
        supports: by fingerprint.
        sets: by name.
    """

    path: Path
    manifest: Manifest
    access: FileAccess
    supports: Mapping[str, SupportReader]
    sets: Mapping[str, SetReader]

    @property
    def files(self) -> FilesTable:
        """The files table, read when it is first needed.

        Raises:
            DamagedCacheError: it is missing or damaged.
        """
        return self.access.files

    def set(self, name: str) -> SetReader:
        """The set of a name.

        Raises:
            IncompleteCacheError: there is none.
        """
        if name in self.sets:
            return self.sets[name]
        names = ", ".join(sorted(self.sets)) or "none"
        message = f"{self.path}: the cache has no set {name!r}; it has {names}."
        raise IncompleteCacheError(message)


def open_cache(path: Path) -> CacheReader:
    """Open a cache; reads its manifest only.

    Raises:
        CacheNotFoundError: there is no cache at ``path``.
        IncompleteCacheError: a build was interrupted before its first commit.
        DamagedCacheError: the manifest is damaged.
        FormatVersionError: the cache was written by a newer format.
        StorageError: the manifest cannot be read.
    """
    manifest = loads(manifest_bytes(path), str(path / MANIFEST_NAME))
    access = FileAccess(path, manifest.files, manifest.generation)
    supports = {
        fingerprint: SupportReader(access, fingerprint, record)
        for fingerprint, record in manifest.supports.items()
    }
    sets = {
        name: _set_reader(access, name, record, supports[record.support])
        for name, record in manifest.sets.items()
    }
    return CacheReader(path, manifest, access, supports, sets)


def _set_reader(
    access: FileAccess, name: str, record: SetRecord, support: SupportReader
) -> SetReader:
    layout = record.layout(support.record.size)
    teachers = {
        teacher: teacher_reader(access, name, record, teacher, support)
        for teacher in record.teachers
    }
    return SetReader(
        name=name,
        record=record,
        layout=layout,
        support=support,
        examples=ExamplesReader(access, name, record, layout, support.record.pad_id),
        teachers=teachers,
        targets={
            target: target_reader(access, name, record, target, support)
            for target in record.targets
        },
        gathers={
            gather: gather_reader(access, name, record, gather, teachers)
            for gather in record.gathers
        },
    )
