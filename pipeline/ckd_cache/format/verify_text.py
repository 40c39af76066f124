"""Checking shards of documents, segments and slots."""

from __future__ import annotations

from pathlib import Path

from ckd_cache.errors import DamagedCacheError
from ckd_cache.format.arrow_io import read_documents, read_ragged, read_segments
from ckd_cache.format.example_checks import (
    Broken,
    Documents,
    SlotTruth,
    check_documents,
    check_segments,
    check_slots,
    slot_truth,
)
from ckd_cache.format.findings import Finding
from ckd_cache.format.inventory import PartFiles
from ckd_cache.format.paths import segments_path
from ckd_cache.format.tallies import documents_tally, segments_tally
from ckd_cache.format.twin_checks import check_alignment, check_words
from ckd_cache.format.twin_io import WORD_COLUMNS, read_alignment
from ckd_cache.format.verify_scope import (
    Outcome,
    Scope,
    broken_finding,
    check_files,
    undecodable,
)

__all__ = ["check_documents_shard", "check_segments_shard", "check_slots_shard"]


def check_documents_shard(scope: Scope, part: PartFiles, shard: int) -> Outcome:
    """Check the documents that one shard of segments lists.

    Raises:
        StorageError: the system would not let a file be read.
    """
    outcome = Outcome()
    rows = [row for row in scope.rows(part, shard) if _lists_documents(part, row.path)]
    if not check_files(scope, part, rows, outcome) or not rows:
        return outcome
    path, access = rows[0].path, scope.reader.access
    try:
        with access.reading(path):
            documents = read_documents(access.verified(path))
    except DamagedCacheError as error:
        outcome.findings.append(undecodable(scope, part, shard, rows, error))
        return outcome
    problem = check_documents(documents)
    if problem is not None:
        finding = Finding(path, part.folder, shard, "documents", "documents", problem)
        outcome.findings.append(finding)
        return outcome
    outcome.tallies[part.folder, "documents", shard] = documents_tally(documents)
    outcome.documents[part.set_name, part.name, shard] = Documents.of(documents)
    return outcome


def check_segments_shard(scope: Scope, part: PartFiles, shard: int) -> Outcome:
    """Check one shard of segments.

    Raises:
        StorageError: the system would not let a file be read.
    """
    outcome = Outcome()
    rows = [row for row in scope.rows(part, shard) if not _lists_documents(part, row.path)]
    if not check_files(scope, part, rows, outcome) or not rows:
        return outcome
    text, access, path = scope.set_of(part), scope.reader.access, rows[0].path
    try:
        with access.reading(path):
            chunk = text.layout.chunk_examples
            segments = read_segments(access.verified(path), 0, part.rows_of(shard), chunk)
            documents = scope.documents[part.set_name]
            checks = check_segments(segments, text.record, text.support.record, documents)
            broken = next(checks, None) or _broken_alignment(scope, part, shard, access.path / path)
    except DamagedCacheError as error:
        outcome.findings.append(undecodable(scope, part, shard, rows, error))
        return outcome
    if broken is None:
        outcome.tallies[part.folder, "segments", shard] = segments_tally(segments)
    else:
        outcome.findings.append(broken_finding(part, shard, path, broken, broken.rows))
    return outcome


def check_slots_shard(
    scope: Scope, part: PartFiles, shard: int, outcome: Outcome
) -> SlotTruth | None:
    """Check one shard of slots; what they say, if they and their segments are sound.

    Raises:
        StorageError: the system would not let a file be read.
    """
    rows = scope.rows(part, shard)
    segments = segments_path(part.set_name, part.name.partition("-")[2], shard)
    if not check_files(scope, part, rows, outcome) or not rows or not _is_sound(scope, segments):
        return None
    text, access, path = scope.set_of(part), scope.reader.access, rows[0].path
    size = (0, part.rows_of(shard), text.layout.chunk_examples)
    try:
        with access.reading(segments):
            (tokens,) = read_ragged(access.verified(segments), ["input_ids"], *size)
    except DamagedCacheError:
        # The check of the segments says so.
        return None
    try:
        with access.reading(path):
            columns = ["positions", "inputs", "gold"]
            slots = read_ragged(access.verified(path), columns, *size)
            checks = check_slots(tokens, slots, text.record, text.support.record)
            broken = next(checks, None)
            if broken is None and text.record.twin_of is not None:
                words = read_ragged(access.path / path, WORD_COLUMNS, *size)
                broken = next(check_words(slots[0], words), None)
    except DamagedCacheError as error:
        outcome.findings.append(undecodable(scope, part, shard, rows, error))
        return None
    if broken is not None:
        outcome.findings.append(broken_finding(part, shard, path, broken, broken.rows))
        return None
    outcome.tallies[part.folder, "slots", shard] = {"slots": len(slots[0].values)}
    return slot_truth(slots[2], text.layout.slots)


def _broken_alignment(scope: Scope, part: PartFiles, shard: int, path: Path) -> Broken | None:
    """What does not hold of how a twin set's segments lie to those of its set."""
    text = scope.set_of(part)
    if text.record.twin_of is None:
        return None
    source, size = scope.reader.sets[text.record.twin_of], (0, part.rows_of(shard))
    own = None
    segments = segments_path(source.name, part.name, shard)
    if _is_sound(scope, segments):
        (own,) = read_ragged(scope.reader.path / segments, ["word_starts"], *size)
    columns = read_alignment(path, *size, text.layout.chunk_examples)
    return next(check_alignment(columns, own, source.record.segment_tokens), None)


def _lists_documents(part: PartFiles, path: str) -> bool:
    return part.artefact_of(path) == "documents"


def _is_sound(scope: Scope, path: str) -> bool:
    row = scope.reader.files.get(path)
    return row is not None and scope.intact.damage_of(row) is None
