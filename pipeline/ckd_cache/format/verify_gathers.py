"""Checking what was gathered, which only the kept ids of its group's teachers make readable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ckd_cache.errors import DamagedCacheError
from ckd_cache.format.distribution_checks import check_gathered
from ckd_cache.format.example_checks import Broken
from ckd_cache.format.files import FileRow
from ckd_cache.format.findings import Finding
from ckd_cache.format.gathers import GatherReader, decode_gather, implied_ids
from ckd_cache.format.inventory import PartFiles
from ckd_cache.format.ranges import Piece
from ckd_cache.format.stats import add_stats, gather_stats
from ckd_cache.format.verify_groups import path_of_array
from ckd_cache.format.verify_scope import Outcome, Scope, broken_finding, check_files, undecodable
from ckd_cache.types import Array, GatherArrays, JsonObject, TeacherArrays

__all__ = ["check_gather_shard"]


def check_gather_shard(scope: Scope, gather: PartFiles, shard: int, outcome: Outcome) -> None:
    """Check one shard of a gather.

    Where a teacher of its group is damaged, only its files are looked at: nobody could read it.

    Args:
        scope: of the verification.
        gather: the part.
        shard: its number.
        outcome: takes what is found.

    Raises:
        StorageError: the system would not let a file be read.
    """
    rows = scope.rows(gather, shard)
    sound = check_files(scope, gather, rows, outcome)
    if not sound or len(rows) < len(gather.required[shard]) or gather.folder in scope.unusable:
        return
    reader = scope.set_of(gather).gathers[gather.owner]
    tallies: list[JsonObject] = []
    findings: list[Finding] = []
    try:
        for broken, tally, start in _chunks(reader, gather, shard):
            if broken is not None:
                findings.append(_finding(gather, shard, rows, broken, start))
            tallies.append(tally)
    except _TeacherError:
        return
    except DamagedCacheError as error:
        findings = [undecodable(scope, gather, shard, rows, error)]
    if not findings:
        outcome.tallies[gather.folder, gather.artefact, shard] = add_stats(tallies)
    outcome.findings.extend(findings)


class _TeacherError(Exception):
    """A teacher of the group cannot be read, which is said of the teacher."""


def _finding(
    gather: PartFiles, shard: int, rows: Sequence[FileRow], broken: Broken, start: int
) -> Finding:
    hit = np.zeros(gather.rows_of(shard), np.bool_)
    hit[start : start + len(broken.rows)] = broken.rows
    return broken_finding(gather, shard, path_of_array(rows, broken.array), broken, hit)


def _chunks(
    reader: GatherReader, gather: PartFiles, shard: int
) -> Iterator[tuple[Broken | None, JsonObject, int]]:
    """Of each chunk of a shard: what does not hold, its figures, and its first example."""
    (hit,) = gather.hits(shard)
    for piece in reader.stored.pieces(hit.start, hit.stop):
        start = 0
        for stored in reader.stored.read(piece):
            levels = stored["logprobs"]
            broken, tally = _check_chunk(reader, levels, _kept(reader, piece, start, len(levels)))
            yield broken, tally, start
            start += len(levels)


def _kept(
    reader: GatherReader, piece: Piece, start: int, examples: int
) -> dict[str, TeacherArrays]:
    """What the group's teachers hold at some examples of a piece."""
    first = piece.part.first_example + piece.start + start
    try:
        return {
            name: teacher.read(first, first + examples) for name, teacher in reader.members.items()
        }
    except DamagedCacheError as error:
        raise _TeacherError from error


def _check_chunk(
    reader: GatherReader, stored: Array, kept: dict[str, TeacherArrays]
) -> tuple[Broken | None, JsonObject]:
    own = kept[reader.record.teacher]
    # What the numbers of a broken slot do to arithmetic is no news.
    with np.errstate(all="ignore"):
        ids, n_valid = implied_ids(reader.record, kept)
        logprobs = decode_gather(stored, n_valid, reader.step)
        arrays = GatherArrays(ids=ids, logprobs=logprobs, n_valid=n_valid)
        capture = reader.members[reader.record.teacher].record.capture
        broken = next(check_gathered(stored, arrays, own, capture), None)
        used: NDArray[np.bool_] = own.n_valid > 0
        return broken, {} if broken else gather_stats(arrays, used)
