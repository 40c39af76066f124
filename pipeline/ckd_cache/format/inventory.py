"""Which files a cache must have, from its manifest alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ckd_cache.format.findings import Artefact, Hit, joined
from ckd_cache.format.manifest import Manifest, PartRecord, SetRecord
from ckd_cache.format.paths import (
    array_shard_path,
    documents_path,
    gather_part,
    segments_part,
    segments_path,
    slots_part,
    slots_path,
    support_part,
    target_part,
    teacher_part,
)
from ckd_cache.format.spec import (
    ORDER_ARRAY,
    SUPPORT_NAME,
    WHOLE_PART,
    ArraySpec,
    Layout,
    gather_specs,
    shard_count,
    shard_range,
    target_specs,
    teacher_specs,
)
from ckd_cache.format.zarr_io import ZARR_JSON

__all__ = ["PartFiles", "Place", "inventory_of"]


@dataclass(frozen=True, slots=True)
class Place:
    """Examples that a part's files speak of: those of one part of a set."""

    set_name: str
    first: int
    examples: int
    layout: Layout

    def hit(self, shard: int) -> Hit:
        """The examples of a shard, or all of them."""
        start, stop = 0, self.examples
        if shard != WHOLE_PART:
            start, stop = shard_range(shard, self.examples, self.layout)
        return Hit(self.set_name, self.first + start, self.first + stop)


@dataclass(frozen=True, slots=True)
class PartFiles:
    """The files of one folder of the cache.

    Attributes:
        folder: the folder, which is also the ``part`` of its files in the files table.
        artefact: what it holds.
        set_name: the set; empty for a support.
        name: of the increment for segments, of the view's part for all else; empty for a support.
        owner: teacher, target or gather; empty for all else.
        required: paths of the files that must be there, by shard.
        is_open: whether further files may be there, such as those of a tokenizer.
        rows: segments or examples, of all shards.
        shard_rows: of a full shard.
        places: the examples it speaks of.
    """

    folder: str
    artefact: Artefact
    set_name: str
    name: str
    owner: str
    required: Mapping[int, tuple[str, ...]]
    is_open: bool
    rows: int
    shard_rows: int
    places: tuple[Place, ...]

    @property
    def shards(self) -> tuple[int, ...]:
        """Numbers of its shards, without what belongs to the whole part."""
        return tuple(shard for shard in self.required if shard != WHOLE_PART)

    def rows_of(self, shard: int) -> int:
        """Segments or examples of a shard."""
        return min(self.rows - shard * self.shard_rows, self.shard_rows)

    def artefact_of(self, path: str) -> Artefact:
        """What one of its files holds."""
        is_documents = self.artefact == "segments" and "/documents-" in path
        return "documents" if is_documents else self.artefact

    def hits(self, shard: int) -> tuple[Hit, ...]:
        """The examples that damage of a shard's file hits, of all views."""
        return joined(place.hit(shard) for place in self.places)


def inventory_of(manifest: Manifest) -> list[PartFiles]:
    """All parts of a cache and the files they must have."""
    parts = [_support(manifest, fingerprint) for fingerprint in manifest.supports]
    for name, record in manifest.sets.items():
        parts += _set(name, record, manifest.supports[record.support].size)
    return parts


def _support(manifest: Manifest, fingerprint: str) -> PartFiles:
    folder = support_part(fingerprint)
    places = [
        place
        for name, record in manifest.sets.items()
        if record.support == fingerprint
        for place in _places(name, record, record.parts)
    ]
    required = {WHOLE_PART: (f"{folder}/{SUPPORT_NAME}",)}
    return PartFiles(folder, "support", "", "", "", required, True, 0, 0, tuple(places))


def _set(set_name: str, record: SetRecord, size: int) -> Iterator[PartFiles]:
    layout = record.layout(size)
    for increment in record.increments:
        required = {
            shard: tuple(
                path(set_name, increment.name, shard) for path in (segments_path, documents_path)
            )
            for shard in range(shard_count(increment.segments, layout))
        }
        yield PartFiles(
            folder=segments_part(set_name, increment.name),
            artefact="segments",
            set_name=set_name,
            name=increment.name,
            owner="",
            required=required,
            is_open=False,
            rows=increment.segments,
            shard_rows=layout.shard_examples,
            places=_places(
                set_name, record, (p for p in record.parts if p.increment == increment.name)
            ),
        )
    for part in record.parts:
        required = {
            shard: (slots_path(set_name, part.name, shard),)
            for shard in range(shard_count(part.examples, layout))
        }
        yield _view(slots_part(set_name, part.name), "slots", set_name, record, part, "", required)
    yield from _groups(set_name, record, layout)


def _groups(set_name: str, record: SetRecord, layout: Layout) -> Iterator[PartFiles]:
    parts = {part.name: part for part in record.parts}
    for name, teacher in record.teachers.items():
        specs = teacher_specs(teacher.capture, layout.support_size)
        for part in (parts[filled] for filled in teacher.parts):
            folder = teacher_part(set_name, name, part.name)
            required = _group_files(folder, specs, part, layout)
            yield _view(folder, "teacher", set_name, record, part, name, required)
    for name, target in record.targets.items():
        specs = target_specs(target.capture, layout.support_size, len(target.teachers))
        for part in (parts[filled] for filled in target.parts):
            folder = target_part(set_name, name, part.name)
            required = _group_files(folder, specs, part, layout)
            yield _view(folder, "target", set_name, record, part, name, required)
    for name, gather in record.gathers.items():
        specs = gather_specs(gather.width, gather.step)
        for part in (parts[filled] for filled in gather.parts):
            folder = gather_part(set_name, name, part.name)
            required = _group_files(folder, specs, part, layout, ordered=False)
            yield _view(folder, "gather", set_name, record, part, name, required)


def _view(
    folder: str,
    artefact: Artefact,
    set_name: str,
    record: SetRecord,
    part: PartRecord,
    owner: str,
    required: Mapping[int, tuple[str, ...]],
) -> PartFiles:
    """What has a row for each example of a part."""
    return PartFiles(
        folder=folder,
        artefact=artefact,
        set_name=set_name,
        name=part.name,
        owner=owner,
        required=required,
        is_open=False,
        rows=part.examples,
        shard_rows=record.shard_examples,
        places=_places(set_name, record, [part]),
    )


def _group_files(
    group: str,
    specs: Sequence[ArraySpec],
    part: PartRecord,
    layout: Layout,
    *,
    ordered: bool = True,
) -> dict[int, tuple[str, ...]]:
    arrays = [*([ORDER_ARRAY] if ordered else []), *(spec.name for spec in specs)]
    folders = [group, *(f"{group}/{name}" for name in arrays)]
    documents = tuple(f"{folder}/{ZARR_JSON}" for folder in folders)
    chunks = {
        shard: tuple(
            array_shard_path(group, spec.name, len(spec.dimension_names), shard) for spec in specs
        )
        for shard in range(shard_count(part.examples, layout))
    }
    order = [f"{group}/{ORDER_ARRAY}/c/0"] if ordered else []
    return {WHOLE_PART: (*documents, *order), **chunks}


def _places(set_name: str, record: SetRecord, parts: Iterable[PartRecord]) -> tuple[Place, ...]:
    # The size of the support plays no part in how examples are cut.
    layout = record.layout(0)
    return tuple(Place(set_name, part.first_example, part.examples, layout) for part in parts)
