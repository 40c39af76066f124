"""Computing damaged shards again, and nothing else.

A part is repaired by the stage that made it: its journal is drawn up from the files table without
the damaged shards, which are therefore due. Where the same machine computes the same bytes nothing
else changes; where it does not, the files table and the part's figures follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from ckd_cache.build.part_figures import with_figures_of
from ckd_cache.build.recipe import Recipe
from ckd_cache.build.repair_inputs import RepairInputs
from ckd_cache.build.repair_stages import repairing_stage
from ckd_cache.build.session import Session
from ckd_cache.errors import CkdCacheError, MismatchError, StorageError
from ckd_cache.fingerprint import hash_bytes
from ckd_cache.format.files import FileRow
from ckd_cache.format.findings import Finding
from ckd_cache.format.inventory import PartFiles, inventory_of
from ckd_cache.format.journal import Journal, ShardLine, journal_path
from ckd_cache.format.manifest import Manifest
from ckd_cache.format.paths import order_path
from ckd_cache.format.reader import open_cache
from ckd_cache.format.workspace import CacheWriter, ShardFiles
from ckd_cache.progress import SILENT, Progress
from ckd_cache.types import JsonObject

__all__ = ["Repair", "repair_cache"]

_FILES_ALONE = {"missing", "size", "unreadable", "sha256"}
_CONTENTS = {
    "undecodable", "token ids", "segments", "spans", "documents", "slots", "gold", "used slots",
    "logprobs", "mass", "tail", "logsumexp", "entropy", "weights", "uncertain",
}  # fmt: skip
_FIGURES = {"teacher", "target", "gather"}
"""Artefacts whose parts carry figures, and may have other last digits on another machine."""
_ORDER = ("support", "segments", "slots", "teacher", "gather", "target")
"""Each is made of those before it, and that of a twin set of that of its set."""


@dataclass(frozen=True, slots=True)
class Repair:
    """What repairing a cache did.

    Attributes:
        restored: files that have their old bytes again.
        replaced: files whose shard was computed anew with other bytes.
        left: what could not be repaired, a line each.
    """

    restored: int
    replaced: int
    left: tuple[str, ...]


def repair_cache(
    cache: Path,
    findings: Sequence[Finding],
    recipe: tuple[Recipe, Path] | None,
    progress: Progress = SILENT,
) -> Repair:
    """Compute the shards again that findings name.

    May be interrupted anywhere: what is left is found when the cache is verified again.

    Args:
        cache: folder of the cache.
        findings: what verifying it found.
        recipe: says where sources and teachers are, with the folder that its relative paths are
            relative to; without it segments, documents, tokenizer files and teachers are left as
            they are. Only what damaged parts need has to be there.
        progress: who listens.

    Raises:
        CacheLockedError: another process is writing to the cache.
        StorageError: the disk refused.
    """
    with CacheWriter.begin(cache) as writer:
        manifest = open_cache(cache).manifest
        session = Session(writer, manifest.recipe, manifest.provenance, progress, manifest.complete)
        inputs = None if recipe is None else RepairInputs(session, *recipe)
        restored = replaced = 0
        left = [_left(one, _why_not(one)) for one in findings if not _due(one)]
        for part, damaged in _by_part(manifest, findings):
            try:
                same, other = _repair_part(session, inputs, part, damaged)
            except StorageError:
                raise
            except CkdCacheError as error:
                left.extend(_left(one, str(error)) for one in damaged)
            else:
                restored, replaced = restored + same, replaced + other
        return Repair(restored, replaced, tuple(left))


def _due(finding: Finding) -> bool:
    if finding.problem == "sums":
        return finding.artefact in _FIGURES
    return bool(finding.part) and finding.problem in _FILES_ALONE | _CONTENTS


def _why_not(finding: Finding) -> str:
    if finding.problem in {"kind", "link"}:
        return "something else stands in its place; move it away, then repair again"
    return "it cannot be computed again; restore it from a copy"


def _left(finding: Finding, why: str) -> str:
    return f"{finding.path}: {why}"


def _by_part(
    manifest: Manifest, findings: Iterable[Finding]
) -> Iterator[tuple[PartFiles, list[Finding]]]:
    parts = {part.folder: part for part in inventory_of(manifest)}
    due = [one for one in findings if _due(one) and one.part in parts]
    twins = {name for name, record in manifest.sets.items() if record.twin_of is not None}

    def place(one: Finding) -> tuple[int, bool, str]:
        part = parts[one.part]
        return _ORDER.index(part.artefact), part.set_name in twins, one.part

    due.sort(key=place)
    for folder, group in groupby(due, key=lambda one: one.part):
        yield parts[folder], list(group)


def _repair_part(
    session: Session, inputs: RepairInputs | None, part: PartFiles, damaged: Sequence[Finding]
) -> tuple[int, int]:
    """Repair one part; how many files have their old bytes again, and how many have others.

    Each shard with other bytes is committed by itself, so that an interruption leaves nothing that
    verifying does not find and repairing does not mend.
    """
    paths = {one.path for one in damaged if one.problem != "sums"}
    made = list(_recompute(session, inputs, part, damaged, paths)) if paths else []
    changed = [row for row, is_same in made if not is_same]
    if changed or len(paths) < len({one.path for one in damaged}):
        session.writer.commit(with_figures_of(open_cache(session.writer.path), part))
    return sum(is_same and row.path in paths for row, is_same in made), len(changed)


def _recompute(
    session: Session,
    inputs: RepairInputs | None,
    part: PartFiles,
    damaged: Sequence[Finding],
    paths: set[str],
) -> Iterator[tuple[FileRow, bool]]:
    """Put damaged shards in their places again; rows, and whether they are those of the table."""
    rows = {row.path: row for row in open_cache(session.writer.path).files.of_part(part.folder)}
    gathers = _gathers_of(session, part)
    with repairing_stage(session, inputs, part, paths) as stage:
        due = _due_shards(part, damaged)
        journal = _journal(session.writer.path, part.folder, stage.profile, rows, due)
        for files in stage.shards(journal):
            _refuse_other_bytes(part, files, rows, gathers)
            made = session.writer.restore(part.folder, files)
            changed = [row for row in made if row != rows.get(row.path)]
            if changed:
                session.writer.commit(session.manifest, extra=changed)
            yield from ((row, row not in changed) for row in made)


def _due_shards(part: PartFiles, damaged: Sequence[Finding]) -> set[int]:
    due = {one.shard for one in damaged if one.problem != "sums"}
    if any(one.path == order_path(part.folder) for one in damaged):
        # The order of ids is made of the first shard's.
        due |= {0} & set(part.shards)
    return due


def _journal(
    cache: Path,
    folder: str,
    profile: JsonObject,
    rows: Mapping[str, FileRow],
    due: set[int],
) -> Journal:
    """A journal, only in memory, that lists the shards which are not due."""
    by_shard: dict[int, list[FileRow]] = {}
    for row in rows.values():
        by_shard.setdefault(row.shard, []).append(row)
    lines = [
        ShardLine(shard, by_shard[shard], {}) for shard in sorted(by_shard) if shard not in due
    ]
    return Journal(journal_path(cache, folder), folder, profile, lines)


def _gathers_of(session: Session, part: PartFiles) -> list[str]:
    """Names of the gathers that say which ids they are of by what a part of a teacher keeps."""
    if part.artefact != "teacher":
        return []
    gathers = session.record(part.set_name).gathers
    return [
        name
        for name, gather in gathers.items()
        if part.owner in gather.group and part.name in gather.parts
    ]


def _refuse_other_bytes(
    part: PartFiles, files: ShardFiles, rows: Mapping[str, FileRow], gathers: Sequence[str]
) -> None:
    """Check that what others were made of, or are written in, comes out as it was.

    Distributions may differ in their last digits from one machine to another. Segments, slots and
    supports may not, nor an order of ids in which other shards are written, nor kept ids that say
    which ids something was gathered at.

    Raises:
        MismatchError: it does not.
    """
    exact = part.artefact not in _FIGURES
    kept = tuple(f"{part.folder}/{array}/c/" for array in ("ids", "n_valid"))
    for path, data in files.files.items():
        if path not in rows or hash_bytes(data) == rows[path].sha256:
            continue
        if gathers and path.startswith(kept):
            drop = " ".join(f"--gather {name}" for name in gathers)
            message = (
                f"computed again, {path} keeps other ids, and gathered logprobs of"
                f" {', '.join(gathers)} are read by those that were kept. Restore the file from a"
                f" copy, or give them up first: `ckd-cache drop CACHE {drop}`."
            )
            raise MismatchError(message)
        if exact or (path == order_path(part.folder) and len(part.shards) > 1):
            message = (
                f"computed again, {path} has other bytes than those that were written, and what"
                " else is in the cache depends on them. Restore the file from a copy, or build"
                " into another folder with --cache."
            )
            raise MismatchError(message)
