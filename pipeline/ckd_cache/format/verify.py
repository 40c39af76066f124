"""Reading all of a cache: every file, every number, and whether they fit each other.

One pass, a shard at a time a worker: its files are hashed, then decoded while they are still in
memory. First come the files of whole parts and the documents, without which shards cannot be read.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

from ckd_cache.format.example_checks import Documents
from ckd_cache.format.files import FileRow
from ckd_cache.format.findings import Finding, Verification, put_together
from ckd_cache.format.intact import IntactFiles, previous_table, unnamed_files
from ckd_cache.format.inventory import PartFiles, inventory_of
from ckd_cache.format.lost_documents import examples_without_documents
from ckd_cache.format.reader import CacheReader, open_cache
from ckd_cache.format.spec import WHOLE_PART
from ckd_cache.format.verify_gathers import check_gather_shard
from ckd_cache.format.verify_groups import check_group_shard, check_whole_part
from ckd_cache.format.verify_manifest import check_fingerprints, check_sums, check_table
from ckd_cache.format.verify_scope import Outcome, Scope
from ckd_cache.format.verify_text import (
    check_documents_shard,
    check_segments_shard,
    check_slots_shard,
)
from ckd_cache.progress import SILENT, Progress, ProgressTask

__all__ = ["available_cores", "verify_cache"]

_Job = Callable[[], Outcome]
_AHEAD = 4
"""Jobs that wait for each worker."""


def verify_cache(
    path: Path,
    *,
    quick: bool = False,
    workers: int | None = None,
    progress: Progress = SILENT,
) -> Verification:
    """Compare everything in a cache with what was written.

    Args:
        path: the cache.
        quick: look at presence and sizes of files only.
        workers: threads; default: as many as there are cores.
        progress: where to report, in bytes.

    Raises:
        CacheNotFoundError: there is no cache at ``path``.
        IncompleteCacheError: a build was interrupted before its first commit.
        DamagedCacheError: the manifest or the files table is damaged, without which nothing else
            can be told.
        FormatVersionError: the cache was written by a newer format.
        StorageError: the system would not let a file be read.
    """
    reader = open_cache(path.absolute())
    parts = inventory_of(reader.manifest)
    scope = Scope(reader, IntactFiles(reader.path, hashing=not quick), quick)
    task = progress.task("verify", total=_bytes(reader), unit="bytes")
    outcome = Outcome(findings=[*check_table(reader, parts), *check_fingerprints(reader, parts)])
    before = list(previous_table(reader))
    pool = _Pool(scope, workers or available_cores(), task)
    pool.run(_first_jobs(scope, parts), outcome)
    outcome.findings.extend(_gather_documents(scope, parts, outcome))
    pool.run(_shard_jobs(scope, parts), outcome)
    task.done()
    if not quick:
        outcome.findings.extend(check_sums(reader, parts, outcome.tallies))
    located = [_located(scope, parts, finding) for finding in outcome.findings]
    gone, newer = _given_up_meanwhile(reader)
    return Verification(
        files=len(reader.files),
        bytes=_bytes(reader),
        examples=sum(text.n_examples for text in reader.sets.values()),
        findings=put_together(one for one in located if one.path not in gone),
        notes=tuple(newer or sorted([*before, *unnamed_files(reader)])),
        quick=quick,
    )


def _given_up_meanwhile(reader: CacheReader) -> tuple[set[str], list[str]]:
    """Files that a newer generation, committed while this one was verified, does not have."""
    now = open_cache(reader.path)
    if now.manifest.generation == reader.manifest.generation:
        return set(), []
    before, after = (set(one.files.table["path"].to_pylist()) for one in (reader, now))
    note = (
        f"generation {reader.manifest.generation} was verified; the cache has a newer one,"
        f" {now.manifest.generation}, since. Verify again to see that one"
    )
    return before - after, [note]


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Pool:
    """Runs jobs on threads, a bounded number ahead; what they find is put together here.

    Args:
        scope: of the verification; told to stop when the caller is interrupted.
        workers: threads.
        task: advanced by the bytes that were looked at.
    """

    def __init__(self, scope: Scope, workers: int, task: ProgressTask) -> None:
        self._scope = scope
        self._workers = workers
        self._task = task

    def run(self, jobs: Iterable[_Job], into: Outcome) -> None:
        """Run all jobs to their end.

        Raises:
            StorageError: the system would not let a file be read.
        """
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="verify")
        waiting: set[Future[Outcome]] = set()
        try:
            for job in jobs:
                waiting.add(pool.submit(job))
                if len(waiting) >= _AHEAD * self._workers:
                    waiting = self._take(waiting, into)
            while waiting:
                waiting = self._take(waiting, into)
        except BaseException:
            self._scope.stopped.set()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _take(self, waiting: set[Future[Outcome]], into: Outcome) -> set[Future[Outcome]]:
        done, rest = wait(waiting, return_when=FIRST_COMPLETED)
        for future in done:
            outcome = future.result()
            into.findings.extend(outcome.findings)
            into.tallies.update(outcome.tallies)
            into.documents.update(outcome.documents)
            self._task.advance(sum(outcome.sizes))
        return rest


def _bytes(reader: CacheReader) -> int:
    return sum(reader.files.bytes_of(part) for part in reader.files.parts)


def _first_jobs(scope: Scope, parts: Iterable[PartFiles]) -> Iterator[_Job]:
    for part in parts:
        rows = _whole_part_rows(scope, part)
        if WHOLE_PART in part.required:
            yield partial(check_whole_part, scope, part, rows)
        if part.artefact == "segments":
            for shard in part.shards:
                yield partial(check_documents_shard, scope, part, shard)


def _whole_part_rows(scope: Scope, part: PartFiles) -> list[FileRow]:
    if part.is_open:
        return scope.reader.files.of_part(part.folder)
    return scope.rows(part, WHOLE_PART) if WHOLE_PART in part.required else []


def _shard_jobs(scope: Scope, parts: Iterable[PartFiles]) -> Iterator[_Job]:
    groups: dict[tuple[str, str], list[PartFiles]] = defaultdict(list)
    for part in parts:
        if part.owner:
            groups[part.set_name, part.name].append(part)
    for part in parts:
        if part.artefact == "segments":
            for shard in part.shards:
                yield partial(check_segments_shard, scope, part, shard)
        if part.artefact == "slots":
            for shard in part.shards:
                here = groups[part.set_name, part.name]
                yield partial(_check_view_shard, scope, part, here, shard)


def _check_view_shard(
    scope: Scope, part: PartFiles, groups: Iterable[PartFiles], shard: int
) -> Outcome:
    """Check one shard of slots, and what teachers, targets and gathers hold there."""
    outcome = Outcome()
    truth = check_slots_shard(scope, part, shard, outcome)
    for group in groups:
        if group.artefact == "gather":
            check_gather_shard(scope, group, shard, outcome)
        else:
            check_group_shard(scope, group, shard, truth, outcome)
    return outcome


def _gather_documents(
    scope: Scope, parts: Iterable[PartFiles], outcome: Outcome
) -> Iterator[Finding]:
    """Put the documents of each set together; they are numbered from 0 without gaps."""
    for name in scope.reader.sets:
        pieces: list[Documents] = []
        whole, expected = True, 0
        for part in parts:
            if part.set_name != name or part.artefact != "segments":
                continue
            for shard in part.shards:
                piece = outcome.documents.pop((name, part.name, shard), None)
                if piece is None:
                    whole = False
                    continue
                first = int(piece.numbers[0]) if len(piece.numbers) else expected
                if first < expected or (whole and first > expected):
                    path = next(p for p in part.required[shard] if "/documents-" in p)
                    found = f"document {first} is the first one listed, expected {expected}"
                    yield Finding(path, part.folder, shard, "documents", "documents", found)
                    whole = False
                    continue
                pieces.append(piece)
                expected = first + len(piece.numbers)
        scope.documents[name] = Documents.together(pieces, whole=whole)


def _located(scope: Scope, parts: Iterable[PartFiles], finding: Finding) -> Finding:
    """The finding; one about a file of documents with the examples that it hits."""
    if finding.artefact != "documents":
        return finding
    part = next(part for part in parts if part.folder == finding.part)
    hits = examples_without_documents(scope, part, finding.shard)
    return Finding(
        finding.path,
        finding.part,
        finding.shard,
        finding.artefact,
        finding.problem,
        finding.detail,
        hits,
    )
