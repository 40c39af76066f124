"""Whether the manifest, the files table and what was read say the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from ckd_cache.fingerprint import fingerprint
from ckd_cache.format.files import FileRow
from ckd_cache.format.findings import Finding
from ckd_cache.format.identities import (
    gather_part_identity,
    target_part_identity,
    teacher_part_identity,
)
from ckd_cache.format.intact import IntactFiles
from ckd_cache.format.inventory import PartFiles
from ckd_cache.format.manifest import FilesRecord, Manifest
from ckd_cache.format.reader import CacheReader
from ckd_cache.format.spec import MANIFEST_NAME, WHOLE_PART
from ckd_cache.format.stats import add_stats
from ckd_cache.format.tallies import difference
from ckd_cache.types import JsonObject, JsonValue

__all__ = ["check_fingerprints", "check_sums", "check_table"]

_COUNTED = ("segments", "tokens", "splits", "documents", "genres")
"""What can be counted again of an increment."""


def check_table(reader: CacheReader, parts: Sequence[PartFiles]) -> Iterator[Finding]:
    """What the manifest and the files table say differently.

    Args:
        reader: the cache.
        parts: what the manifest calls for.

    Raises:
        DamagedCacheError: the files table is missing or damaged.
    """
    files, record = reader.files, reader.manifest.files
    if record is not None:
        yield from _check_record(reader, record)
    seen = 0
    for part in parts:
        rows = files.of_part(part.folder)
        seen += len(rows)
        yield from _check_part(part, rows)
    if seen != len(files):
        folders = tuple(f"{part.folder}/" for part in parts)
        for row in files.rows:
            if not row.path.startswith(folders):
                yield _stray(row, f"the manifest lists no part {row.part}")


def check_fingerprints(reader: CacheReader, parts: Sequence[PartFiles]) -> Iterator[Finding]:
    """Fingerprints in the manifest that are not made of the identities beside them.

    Those of supports, whose identity is not in the manifest, and of targets of which a teacher was
    dropped are left out.

    Args:
        reader: the cache.
        parts: what the manifest calls for.
    """
    for part in parts:
        if part.artefact == "support":
            continue
        stored, identity = _fingerprinted(reader.manifest, part)
        made = stored if identity is None else fingerprint(identity)
        if made != stored:
            found = f"the fingerprint is {stored}, its identity makes {made}"
            hits = part.hits(WHOLE_PART)
            yield Finding(
                MANIFEST_NAME, part.folder, WHOLE_PART, part.artefact, "manifest", found, hits
            )


def check_sums(
    reader: CacheReader,
    parts: Sequence[PartFiles],
    tallies: Mapping[tuple[str, str, int], JsonObject],
) -> Iterator[Finding]:
    """Where the manifest's counts and stats are not those of what was read.

    Parts of which something could not be read are left out.

    Args:
        reader: the cache.
        parts: what the manifest calls for.
        tallies: figures of shards, by folder, kind of file and shard.
    """
    shards: dict[tuple[str, str], dict[int, JsonObject]] = defaultdict(dict)
    for (folder, kind, shard), tally in tallies.items():
        shards[folder, kind][shard] = tally
    for part in parts:
        for kind in ("segments", "documents") if part.artefact == "segments" else (part.artefact,):
            figures = shards[part.folder, kind]
            if part.artefact == "support" or len(figures) < len(part.shards):
                continue
            found = difference(
                _recorded(reader, part), add_stats(v for _, v in sorted(figures.items()))
            )
            if found is not None:
                hits = part.hits(WHOLE_PART)
                yield Finding(
                    MANIFEST_NAME, part.folder, WHOLE_PART, part.artefact, "sums", found, hits
                )


def _check_record(reader: CacheReader, record: FilesRecord) -> Iterator[Finding]:
    row = FileRow(record.path, "", WHOLE_PART, record.bytes, "")
    damage = IntactFiles(reader.path, hashing=False).damage_of(row)
    if damage is not None:
        yield Finding(record.path, "", WHOLE_PART, "files table", damage.problem, damage.detail)


def _check_part(part: PartFiles, rows: Sequence[FileRow]) -> Iterator[Finding]:
    shards = {path: shard for shard, paths in part.required.items() for path in paths}
    for row in rows:
        shard = shards.pop(row.path, WHOLE_PART if part.is_open else None)
        if shard is None:
            yield _stray(row, f"the part {part.folder} has no such file")
        elif (row.part, row.shard) != (part.folder, shard):
            found = f"shard {row.shard} of {row.part}, expected shard {shard} of {part.folder}"
            artefact = part.artefact_of(row.path)
            hits = part.hits(shard)
            yield Finding(row.path, part.folder, shard, artefact, "misplaced", found, hits)
    for path, shard in shards.items():
        found = "the files table does not name this file, which the manifest calls for"
        artefact = part.artefact_of(path)
        yield Finding(path, part.folder, shard, artefact, "unlisted", found, part.hits(shard))


def _stray(row: FileRow, found: str) -> Finding:
    return Finding(row.path, row.part, row.shard, "files table", "stray", found)


def _fingerprinted(manifest: Manifest, part: PartFiles) -> tuple[str, JsonObject | None]:
    """Fingerprint of a part and the identity it is made of; None where that is not known."""
    record = manifest.sets[part.set_name]
    if part.artefact == "segments":
        increment = next(one for one in record.increments if one.name == part.name)
        return increment.fingerprint, increment.identity
    slots = next(one for one in record.parts if one.name == part.name)
    if part.artefact == "slots":
        return slots.fingerprint, slots.identity
    if part.artefact == "teacher":
        teacher = record.teachers[part.owner]
        identity = teacher_part_identity(slots.fingerprint, teacher.identity)
        return teacher.parts[part.name].fingerprint, identity
    if part.artefact == "gather":
        gather = record.gathers[part.owner]
        group = [record.teachers[one].parts[part.name].fingerprint for one in gather.group]
        identity = gather_part_identity(group, gather.identity)
        return gather.parts[part.name].fingerprint, identity
    target = record.targets[part.owner]
    stored = target.parts[part.name].fingerprint
    twins = [one for one in manifest.sets.values() if one.twin_of == part.set_name]
    teachers = {name: one for each in (*twins, record) for name, one in each.teachers.items()}
    there = [teachers[one].parts for one in target.teachers if one in teachers]
    made_of = [filled[part.name].fingerprint for filled in there if part.name in filled]
    if len(made_of) < len(target.teachers):
        return stored, None
    return stored, target_part_identity(made_of, target.identity)


def _recorded(reader: CacheReader, part: PartFiles) -> Mapping[str, JsonValue]:
    """What the manifest says of a part."""
    record = reader.manifest.sets[part.set_name]
    if part.artefact == "segments":
        increment = next(one for one in record.increments if one.name == part.name)
        return {name: getattr(increment, name) for name in _COUNTED}
    if part.artefact == "slots":
        return {"slots": next(one.slots for one in record.parts if one.name == part.name)}
    if part.artefact == "teacher":
        return record.teachers[part.owner].parts[part.name].stats
    if part.artefact == "gather":
        return record.gathers[part.owner].parts[part.name].stats
    return record.targets[part.owner].parts[part.name].stats
