"""Whether files are those that were written: there, regular, of their size and their sha256."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from errno import EACCES, EMFILE, ENFILE, ENOENT, ENOMEM, ENOTDIR, EPERM
from pathlib import Path
from stat import S_ISLNK, S_ISREG

from ckd_cache.fingerprint import hash_file
from ckd_cache.format.durable import storage_errors
from ckd_cache.format.files import FileRow
from ckd_cache.format.findings import Problem
from ckd_cache.format.journal import journal_keys
from ckd_cache.format.paths import JOURNAL_FOLDER, STAGING_FOLDER
from ckd_cache.format.reader import CacheReader
from ckd_cache.format.spec import MANIFEST_NAME, WHOLE_PART

__all__ = ["Damage", "IntactFiles", "previous_table", "unnamed_files"]

_GONE = {ENOENT, ENOTDIR}
_REFUSED = {EACCES, EMFILE, ENFILE, ENOMEM, EPERM}
"""Says nothing about the bytes."""
_SHOWN_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with a file."""

    problem: Problem
    detail: str


@dataclass(frozen=True)
class IntactFiles:
    """Looks at files, at each once; may be shared by threads.

    Attributes:
        root: the cache.
        hashing: whether bytes are read and hashed too.
    """

    root: Path
    hashing: bool
    _seen: dict[str, Damage | None] = field(default_factory=dict, repr=False)
    _links: dict[str, str] = field(default_factory=dict, repr=False)

    def damage_of(self, row: FileRow) -> Damage | None:
        """What is wrong with a file, or None.

        Raises:
            StorageError: the system would not let it be read.
        """
        if row.path not in self._seen:
            self._seen[row.path] = self._look(row)
        return self._seen[row.path]

    def now(self, row: FileRow) -> Damage | None:
        """What is wrong with a file now, which was right before; its bytes are not read again.

        Raises:
            StorageError: the system would not let it be read.
        """
        return IntactFiles(self.root, hashing=False).damage_of(row)

    def _look(self, row: FileRow) -> Damage | None:
        path = self.root / row.path
        try:
            link = self._link_above(row.path)
            if link:
                return Damage("link", f"{link} is a link; a cache has none")
            stat = path.lstat()
            if not S_ISREG(stat.st_mode):
                return Damage("kind", "it is no regular file")
            if stat.st_size != row.bytes:
                found = f"it has {stat.st_size:,} bytes, {row.bytes:,} were written"
                return Damage("size", found)
            found = hash_file(path) if self.hashing else row.sha256
        except OSError as error:
            return _refusal(path, error)
        if found == row.sha256:
            return None
        short, wanted = found[:_SHOWN_DIGITS], row.sha256[:_SHOWN_DIGITS]
        return Damage("sha256", f"its sha256 is {short}…, {wanted}… was written")

    def _link_above(self, relative: str) -> str:
        """The first link on the way to a file, itself included; empty if there is none."""
        folder, _, _ = relative.rpartition("/")
        if folder and folder not in self._links:
            self._links[folder] = self._link_above(folder)
        if folder and self._links[folder]:
            return self._links[folder]
        return relative if S_ISLNK((self.root / relative).lstat().st_mode) else ""


def previous_table(reader: CacheReader) -> Iterator[str]:
    """A note if the files table of the generation before is not there as it was written.

    Nothing in this generation is read by it, and the next commit drops it.

    Raises:
        StorageError: the system would not let it be read.
    """
    record = reader.manifest.files
    if record is None or record.previous is None:
        return
    path = reader.path / record.previous
    try:
        size = path.lstat().st_size
    except OSError as error:
        damage: Damage | None = _refusal(path, error)
    else:
        # Its name says its sha256, nothing says its size.
        sha256 = record.previous.removeprefix("files-").removesuffix(".parquet")
        row = FileRow(record.previous, "", WHOLE_PART, size, sha256)
        damage = IntactFiles(reader.path, hashing=True).damage_of(row)
    if damage is not None:
        yield (
            f"{record.previous}: the files table of the generation before is damaged"
            f" ({damage.detail}); this generation does not need it, and the next commit drops it"
        )


def unnamed_files(reader: CacheReader) -> Iterator[str]:
    """Notes on the files in a cache's folder that its files table does not name.

    Files of parts that a build has not finished are counted, all others named.
    """
    record = reader.manifest.files
    known = set(reader.files.table["path"].to_pylist())
    known |= {MANIFEST_NAME, *(() if record is None else (record.path, record.previous))}
    unfinished = dict.fromkeys(journal_keys(reader.path), 0)
    for relative in _files_below(reader.path):
        if relative in known:
            continue
        part = next((key for key in unfinished if relative.startswith(f"{key}/")), None)
        if part is None:
            yield f"{relative}: the files table does not name this file; it is never read"
        else:
            unfinished[part] += 1
    for part, count in unfinished.items():
        yield f"{part}: a build of this part is not finished; {count} of its files are there"


def _files_below(root: Path) -> Iterator[str]:
    for folder, below, names in os.walk(root):
        if Path(folder) == root:
            below[:] = [name for name in below if name not in {JOURNAL_FOLDER, STAGING_FOLDER}]
        links = [name for name in below if (Path(folder) / name).is_symlink()]
        for name in (*names, *links):
            yield (Path(folder) / name).relative_to(root).as_posix()


def _refusal(path: Path, error: OSError) -> Damage:
    if error.errno in _GONE:
        return Damage("missing", "the file is missing")
    if error.errno in _REFUSED:
        with storage_errors(path, "read"):
            raise error
    return Damage("unreadable", f"it cannot be read: {error.strerror}")
