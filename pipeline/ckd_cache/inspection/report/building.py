"""From a cache to its report."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ckd_cache.errors import IncompleteCacheError, MergeError, StorageError
from ckd_cache.format.reader import CacheReader, open_cache
from ckd_cache.inspection.report.page import page_of
from ckd_cache.inspection.summary import summarise
from ckd_cache.inspection.target_figures import MOST_SLOTS, figures_of
from ckd_cache.merge.lineup import lineup_of
from ckd_cache.merge.live import check_live
from ckd_cache.progress import SILENT, Progress

__all__ = ["ReportRequest", "build_report", "check_output", "write_report"]


@dataclass(frozen=True, slots=True)
class ReportRequest:
    """What a report is to show.

    Attributes:
        targets: names; empty for all.
        set_name: the set whose targets are shown; None for all sets.
        most_slots: about how many slots to read for each target.
    """

    targets: Sequence[str] = ()
    set_name: str | None = None
    most_slots: int = MOST_SLOTS


def build_report(cache: Path, request: ReportRequest, progress: Progress = SILENT) -> str:
    """The report on a cache as one page of HTML; the same bytes for the same cache.

    Raises:
        CacheNotFoundError: there is no cache.
        IncompleteCacheError: there is no such set or target.
        CkdCacheError: the cache cannot be read.
    """
    reader = open_cache(cache.absolute())
    chosen, notes = [], []
    for set_name, target in _chosen(reader, request):
        reason = _cannot(reader, set_name, target)
        if reason is None:
            chosen.append((set_name, target))
        else:
            notes.append(f"Target {target} of set {set_name} is not drawn: {reason}.")
    figures = [figures_of(reader, *one, request.most_slots, progress) for one in chosen]
    if not figures and not notes:
        notes = ["There are no targets yet; `ckd-cache merge` adds some."]
    return page_of(summarise(cache), figures, notes)


def check_output(output: Path, *, overwrite: bool) -> None:
    """Check that a report can be put where it is wanted, before anything is computed.

    Raises:
        StorageError: something is there already, or the folder is not.
    """
    if output.is_dir():
        message = (
            f"{output} is a folder, expected the name of a file. Try {output / 'report.html'}."
        )
        raise StorageError(message)
    if output.exists() and not overwrite:
        message = f"{output} exists. Give --overwrite to replace it, or another name with -o."
        raise StorageError(message)
    if not output.absolute().parent.is_dir():
        parent = output.absolute().parent
        message = f"{output} cannot be written: there is no folder {parent}. Make it first."
        raise StorageError(message)


def write_report(page: str, output: Path, *, overwrite: bool) -> int:
    """Write a report as a whole or not at all; its size in bytes.

    Raises:
        StorageError: it cannot be written there.
    """
    check_output(output, overwrite=overwrite)
    data = page.encode()
    try:
        _replace(data, output)
    except OSError as error:
        reason = error.strerror or str(error)
        message = f"{output} could not be written: {reason}. Choose another place with -o."
        raise StorageError(message) from error
    return len(data)


def _replace(data: bytes, output: Path) -> None:
    number, name = tempfile.mkstemp(dir=output.absolute().parent, prefix=f".{output.name[:80]}-")
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data)
        mask = os.umask(0)
        os.umask(mask)
        # A temporary file is its owner's alone; a report is a file like any other.
        Path(name).chmod(0o666 & ~mask)
        Path(name).replace(output)
    finally:
        Path(name).unlink(missing_ok=True)


def _chosen(reader: CacheReader, request: ReportRequest) -> Iterator[tuple[str, str]]:
    names = list(reader.sets) if request.set_name is None else [reader.set(request.set_name).name]
    known = [(one, target) for one in names for target in reader.set(one).record.targets]
    for wanted in request.targets:
        if wanted not in {target for _, target in known}:
            there = ", ".join(dict.fromkeys(repr(target) for _, target in known)) or "none"
            message = (
                f"No target {wanted!r} in {reader.path}; there is {there}. "
                "`ckd-cache merge` adds targets."
            )
            raise IncompleteCacheError(message)
    yield from (one for one in known if not request.targets or one[1] in request.targets)


def _cannot(reader: CacheReader, set_name: str, target: str) -> str | None:
    """Why the figures of a target cannot be made."""
    record = reader.set(set_name).record.targets[target]
    if record.stored:
        return None if record.parts else "it covers no part yet"
    members = lineup_of(reader.manifest, set_name)
    lacking = [name for name in record.teachers if name not in members]
    if lacking:
        return f"only its rule is recorded, and {', '.join(lacking)} is not in the cache any more"
    try:
        check_live(reader, set_name, target)
    except (IncompleteCacheError, MergeError) as error:
        return str(error).removesuffix(".")
    return None
