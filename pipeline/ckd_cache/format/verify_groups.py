"""Checking supports, the groups of teachers and targets, and the documents of all groups."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import numpy as np

from ckd_cache.errors import DamagedCacheError
from ckd_cache.format.distribution_checks import check_stored, check_target, check_teacher
from ckd_cache.format.distributions import StoredArrays
from ckd_cache.format.encode import decode_target, decode_teacher
from ckd_cache.format.example_checks import Broken, SlotTruth
from ckd_cache.format.files import FileRow
from ckd_cache.format.findings import Finding
from ckd_cache.format.inventory import PartFiles
from ckd_cache.format.reader import TargetReader, TeacherReader
from ckd_cache.format.spec import WHOLE_PART
from ckd_cache.format.stats import add_stats, target_stats, teacher_stats
from ckd_cache.format.verify_scope import (
    Outcome,
    Scope,
    broken_finding,
    check_files,
    undecodable,
)
from ckd_cache.format.zarr_io import ZARR_JSON, describe
from ckd_cache.types import Array, JsonObject, JsonValue

__all__ = ["check_group_shard", "check_whole_part", "path_of_array"]

_Reader = TeacherReader | TargetReader


def check_whole_part(scope: Scope, part: PartFiles, rows: Sequence[FileRow]) -> Outcome:
    """Check the files that belong to no shard: those of a support, or a group's documents.

    Raises:
        StorageError: the system would not let a file be read.
    """
    outcome = Outcome()
    named = {row.path for row in rows}
    sound = check_files(scope, part, rows, outcome)
    if sound and named.issuperset(part.required[WHOLE_PART]):
        check = _check_support if part.artefact == "support" else _check_documents
        try:
            outcome.findings.extend(check(scope, part))
        except DamagedCacheError as error:
            outcome.findings.append(undecodable(scope, part, WHOLE_PART, rows, error))
        sound = not outcome.findings
    else:
        sound = False
    if not sound:
        scope.unusable.add(part.folder)
    return outcome


def check_group_shard(
    scope: Scope, group: PartFiles, shard: int, truth: SlotTruth | None, outcome: Outcome
) -> None:
    """Check one shard of a teacher or a target.

    Args:
        scope: of the verification.
        group: the part.
        shard: its number.
        truth: what the slots say, if that is known.
        outcome: takes what is found.

    Raises:
        StorageError: the system would not let a file be read.
    """
    rows = scope.rows(group, shard)
    sound = check_files(scope, group, rows, outcome)
    if not sound or len(rows) < len(group.required[shard]) or group.folder in scope.unusable:
        return
    tallies, findings, start = [], [], 0
    try:
        for broken, tally, size in _chunks(scope, group, shard, truth):
            if broken is not None:
                hit = np.zeros(group.rows_of(shard), np.bool_)
                hit[start : start + size] = broken.rows
                path = path_of_array(rows, broken.array)
                findings.append(broken_finding(group, shard, path, broken, hit))
            tallies.append(tally)
            start += size
    except DamagedCacheError as error:
        findings = [undecodable(scope, group, shard, rows, error)]
    if not findings:
        outcome.tallies[group.folder, group.artefact, shard] = add_stats(tallies)
    outcome.findings.extend(findings)


def _check_support(scope: Scope, part: PartFiles) -> Iterator[Finding]:
    record = next(
        reader for key, reader in scope.reader.supports.items() if part.folder.endswith(key)
    ).files.record
    for role, number in record.special.items():
        if number is not None and number >= record.size:
            path = part.required[WHOLE_PART][0]
            found = f"{role} is token id {number}, the support has {record.size} entries"
            hits = part.hits(WHOLE_PART)
            yield Finding(path, part.folder, WHOLE_PART, "support", "token ids", found, hits)


def _check_documents(scope: Scope, part: PartFiles) -> Iterator[Finding]:
    stored, access = _stored_of(scope, part), scope.reader.access
    has_order = part.artefact != "gather"
    nothing = np.arange(stored.layout.support_size) if has_order else None
    wanted = describe(part.folder, stored.specs, stored.layout, part.rows, nothing)
    for path, data in wanted.items():
        if not path.endswith(ZARR_JSON):
            continue
        with access.reading(path):
            fits = _described(access.verified(path).read_bytes()) == _described(data)
        if not fits:
            found = "it does not describe what the manifest speaks of"
            hits = part.hits(WHOLE_PART)
            yield Finding(path, part.folder, WHOLE_PART, part.artefact, "undecodable", found, hits)
    if has_order:
        stored.order(part.name)


def _stored_of(scope: Scope, part: PartFiles) -> StoredArrays:
    if part.artefact == "gather":
        return scope.set_of(part).gathers[part.owner].stored
    return _reader_of(scope, part).stored


def _described(document: bytes) -> JsonValue:
    members = json.loads(document)
    if isinstance(members, dict) and members.get("storage_transformers") == []:
        del members["storage_transformers"]
    return members


def _reader_of(scope: Scope, part: PartFiles) -> _Reader:
    text = scope.set_of(part)
    return (text.teachers if part.artefact == "teacher" else text.targets)[part.owner]


def _chunks(
    scope: Scope, group: PartFiles, shard: int, truth: SlotTruth | None
) -> Iterator[tuple[Broken | None, JsonObject, int]]:
    """Of each chunk of a shard: what does not hold, its figures, and how many examples it has."""
    reader = _reader_of(scope, group)
    (hit,) = group.hits(shard)
    for piece in reader.stored.pieces(hit.start, hit.stop):
        order = reader.stored.order(group.name)
        start = 0
        for stored in reader.stored.read(piece):
            stop = start + len(stored["n_valid"])
            there = None
            if truth is not None:
                there = SlotTruth(truth.mask[start:stop], truth.gold[start:stop])
            with reader.stored.access.reading(group.folder, piece.where):
                broken, tally = _check_chunk(reader, stored, order, there)
            yield broken, tally, stop - start
            start = stop


def _check_chunk(
    reader: _Reader, stored: Mapping[str, Array], order: Array, truth: SlotTruth | None
) -> tuple[Broken | None, JsonObject]:
    capture, support = reader.record.capture, len(order)
    # What the numbers of a broken slot do to arithmetic is no news.
    with np.errstate(all="ignore"):
        if isinstance(reader, TeacherReader):
            teacher = decode_teacher(stored, capture, order)
            stored_checks = check_stored(stored, teacher.n_valid, truth)
            checks = chain(stored_checks, check_teacher(teacher, truth, capture, support))
            broken = next(checks, None)
            return broken, {} if broken else teacher_stats(teacher, reader.temperatures)
        target = decode_target(stored, capture, order)
        stored_checks = check_stored(stored, target.n_valid, truth)
        checks = chain(stored_checks, check_target(target, capture, reader.temperature, support))
        broken = next(checks, None)
        return broken, {} if broken else target_stats(target, reader.teachers)


def path_of_array(rows: Sequence[FileRow], array: str) -> str:
    """The file of a shard that holds an array; any of them for what is no array's."""
    return next((row.path for row in rows if f"/{array}/c/" in row.path), rows[0].path)
