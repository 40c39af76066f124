"""The only writer of a cache: lock, staging, publication, commit.

Order of a shard: files under ``staging/``, synced; renamed into place; folders synced; journal
line, synced. Order of a commit: files table; ``ckd.json`` by rename; old tables and journals
removed. A crash between any two of these steps leaves a cache that the same build completes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ckd_cache.errors import DamagedCacheError, StorageError
from ckd_cache.fingerprint import hash_bytes
from ckd_cache.format.consistency import inconsistency
from ckd_cache.format.durable import (
    make_folder,
    replace_file,
    storage_errors,
    sync_folder,
    sync_folders,
    write_file,
)
from ckd_cache.format.files import FileRow, FilesTable, files_name, merge_files, read_files
from ckd_cache.format.journal import (
    UNFINISHED_SUFFIX,
    Journal,
    ShardLine,
    clear_unfinished,
    journal_keys,
    journal_path,
)
from ckd_cache.format.lock import exclusive_lock
from ckd_cache.format.manifest import FilesRecord, Manifest, dumps, loads
from ckd_cache.format.opening import headless, headless_error, manifest_bytes
from ckd_cache.format.paths import JOURNAL_FOLDER, STAGING_FOLDER, is_safe
from ckd_cache.format.removal import (
    REMOVAL_PATH,
    Removal,
    delete_folder,
    encode_removal,
    forget_removal,
    read_removal,
    real_folder,
    without_folders,
)
from ckd_cache.format.spec import FORMAT_VERSION, MANIFEST_NAME
from ckd_cache.types import JsonObject

__all__ = ["CacheWriter", "Checkpoint", "ShardFiles"]

Checkpoint = Callable[[str], None]
"""Called with the name of each durable step once it is done."""

_ATTEMPT = "attempt-"


@dataclass(frozen=True, slots=True)
class ShardFiles:
    """The files of one shard, encoded.

    Attributes:
        shard: its number in the part; -1 for files of the whole part.
        files: bytes by path relative to the cache.
        stats: recorded in the journal.
    """

    shard: int
    files: Mapping[str, bytes]
    stats: JsonObject


class CacheWriter:
    """Holder of a cache's lock, who alone may change it. Made by ``begin``.

    Attributes:
        path: the cache.
        manifest: as committed last; None before the first commit.
    """

    def __init__(self, path: Path, checkpoint: Checkpoint) -> None:
        self.path = path
        self.manifest = _stored_manifest(path)
        self._checkpoint = checkpoint
        self._attempt = path / STAGING_FOLDER / f"{_ATTEMPT}{os.getpid()}"

    @classmethod
    @contextmanager
    def begin(cls, path: Path, checkpoint: Checkpoint = lambda _: None) -> Iterator[CacheWriter]:
        """Open a cache for writing, made if it is not there.

        Args:
            path: folder of the cache; new, empty, or a cache.
            checkpoint: observer of the durable steps.

        Raises:
            CacheLockedError: another process is writing to it.
            StorageError: the folder holds something else, or the file system refused.
            DamagedCacheError: its manifest is damaged.
            FormatVersionError: it was written by a newer format.
        """
        _refuse_file(path)
        with storage_errors(path, "make"):
            sync_folders(make_folder(path))
        with exclusive_lock(path):
            _refuse_strangers(path)
            writer = cls(path, checkpoint)
            writer._tidy()
            try:
                yield writer
            finally:
                writer._clear_staging()

    def journal(self, key: str, identity: JsonObject, profile: JsonObject) -> Journal:
        """The journal of a part, begun or resumed; see ``Journal.open``.

        Raises:
            MismatchError: the part was begun with another identity.
            DamagedCacheError: the journal is damaged.
            StorageError: the file system refused.
        """
        journal = Journal.open(self.path, key, identity, profile)
        self._checkpoint(f"journal {key}")
        return journal

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """A path for a file that is gone afterwards, also after a crash.

        Raises:
            StorageError: the file system refused.
        """
        path = self._attempt / f"scratch-{name}"
        with storage_errors(path, "write"):
            make_folder(self._attempt)
            yield path
            for file in self._attempt.glob(f"{path.name}*"):
                file.unlink()

    def publish(self, journal: Journal, files: ShardFiles) -> None:
        """Put the files of a shard in their places and record them.

        Args:
            journal: of the part; every path must lie in the part's folder.
            files: the shard.

        Raises:
            StorageError: the file system refused, or a path leaves the part's folder.
        """
        rows = [_row(path, journal.key, files.shard, data) for path, data in files.files.items()]
        self._place(files.files)
        journal.append(ShardLine(files.shard, rows, files.stats))
        self._checkpoint(f"recorded {journal.key} {files.shard}")

    def restore(self, part: str, files: ShardFiles) -> list[FileRow]:
        """Put the files of a shard that is committed in their places again.

        Args:
            part: folder of the part; every path must lie in it.
            files: the shard, computed again.

        Returns:
            Rows for the files table, which differ from those in it where the bytes do; then the
            caller commits them.

        Raises:
            StorageError: the file system refused, or a path leaves the part's folder.
        """
        rows = [_row(path, part, files.shard, data) for path, data in files.files.items()]
        self._place(files.files)
        return rows

    def commit(
        self, manifest: Manifest, journals: Iterable[Journal] = (), extra: Iterable[FileRow] = ()
    ) -> Manifest:
        """Make a new generation out of the last one and some finished parts.

        Args:
            manifest: the description; ``format_version``, ``generation`` and ``files`` are set
                here.
            journals: of the parts it newly lists; they are removed.
            extra: rows of further files.

        Returns:
            The manifest as stored, which is ``self.manifest`` from now on.

        Raises:
            StorageError: the file system refused, or the manifest contradicts itself.
        """
        self._refuse_unreadable(manifest)
        finished = list(journals)
        rows = [*extra, *(row for journal in finished for row in journal.rows)]
        committed = self._replace(manifest, merge_files(self._files(), rows))
        for journal in finished:
            journal.remove()
            self._checkpoint(f"removed journal {journal.key}")
        return committed

    def drop(self, manifest: Manifest, folders: Sequence[str]) -> Manifest:
        """Make a new generation out of the last one without some folders, then delete them.

        Args:
            manifest: the description; ``generation`` and ``files`` are set here.
            folders: with all parts in them, finished or not.

        Returns:
            The manifest as stored, which is ``self.manifest`` from now on.

        Raises:
            DamagedCacheError: a folder is a link; nothing was changed.
            StorageError: the file system refused, or the manifest contradicts itself.
        """
        self._refuse_unreadable(manifest)
        for folder in folders:
            real_folder(self.path, folder)
        generation = 1 if self.manifest is None else self.manifest.generation + 1
        self._place({REMOVAL_PATH: encode_removal(Removal(generation, tuple(folders)))})
        kept = without_folders(self._files(), folders)
        committed = self._replace(manifest, merge_files(kept, ()))
        self._finish_removal()
        return committed

    def _replace(self, manifest: Manifest, table: bytes) -> Manifest:
        committed = self._next_generation(manifest, table)
        self._place({MANIFEST_NAME: dumps(committed)})
        self.manifest = committed
        self._prune_tables()
        return committed

    def _finish_removal(self) -> None:
        """Delete what a drop gave up; forget one that was not committed."""
        removal = read_removal(self.path)
        if removal is None:
            return
        if self.manifest is not None and self.manifest.generation >= removal.generation:
            files = self._files()
            for folder in removal.folders:
                if files is None or not files.of_part(folder):
                    delete_folder(self.path, folder)
                    self._checkpoint(f"deleted {folder}")
        forget_removal(self.path)
        self._checkpoint("forgot the removal")

    def _refuse_unreadable(self, manifest: Manifest) -> None:
        """Check that the manifest can be read again, before anything is replaced by it."""
        problem = inconsistency(manifest)
        try:
            loads(dumps(manifest), MANIFEST_NAME)
        except (DamagedCacheError, ValueError) as error:
            problem = str(error)
        if problem is not None:
            message = f"{self.path}: nothing was committed, the new manifest is wrong: {problem}"
            raise StorageError(message)

    def _next_generation(self, manifest: Manifest, table: bytes) -> Manifest:
        before = self.manifest
        name = files_name(table)
        self._place({name: table})
        previous = None if before is None or before.files is None else before.files.path
        if previous == name and before is not None and before.files is not None:
            previous = before.files.previous
        rows = len(read_files(self.path / name))
        files = FilesRecord(path=name, bytes=len(table), rows=rows, previous=previous)
        generation = 1 if before is None else before.generation + 1
        update = {
            # A cache of an earlier version takes up what later ones have.
            "format_version": FORMAT_VERSION,
            "generation": generation,
            "files": files,
        }
        return manifest.model_copy(update=update)

    def _place(self, files: Mapping[str, bytes]) -> None:
        targets = {relative: self.path / relative for relative in files}
        staged = {relative: self._attempt / str(n) for n, relative in enumerate(files)}
        for relative, data in files.items():
            with storage_errors(targets[relative], "write"):
                make_folder(self._attempt)
                write_file(staged[relative], data)
                self._checkpoint(f"staged {relative}")
        changed: set[Path] = set()
        for relative, target in targets.items():
            with storage_errors(target, "write"):
                changed |= {*make_folder(target.parent), target.parent}
                replace_file(staged[relative], target)
                self._checkpoint(f"renamed {relative}")
        with storage_errors(self.path, "write"):
            sync_folders(changed)
        self._checkpoint("placed")

    def _files(self) -> FilesTable | None:
        if self.manifest is None or self.manifest.files is None:
            return None
        record = self.manifest.files
        return read_files(self.path / record.path, record.rows)

    def _tidy(self) -> None:
        self._clear_staging()
        self._finish_removal()
        self._prune_tables()
        files = self._files()
        for key in journal_keys(self.path):
            if files is not None and files.of_part(key):
                with storage_errors(self.path, "tidy"):
                    journal_path(self.path, key).unlink()

    def _prune_tables(self) -> None:
        record = None if self.manifest is None else self.manifest.files
        kept = set() if record is None else {record.path, record.previous}
        with storage_errors(self.path, "tidy"):
            for table in self.path.glob("files-*.parquet"):
                if table.name not in kept:
                    table.unlink()
            sync_folder(self.path)
        self._checkpoint("pruned")

    def _clear_staging(self) -> None:
        with storage_errors(self.path, "tidy"):
            for attempt in (self.path / STAGING_FOLDER).glob(f"{_ATTEMPT}*"):
                for file in attempt.iterdir():
                    file.unlink()
                attempt.rmdir()
            clear_unfinished(self.path)
            _remove_empty(self.path / STAGING_FOLDER)
            _remove_empty(self.path / JOURNAL_FOLDER)


def _row(path: str, part: str, shard: int, data: bytes) -> FileRow:
    if not (path.startswith(f"{part}/") and is_safe(path)):
        message = f"{path}: a file of the part {part} must lie in the folder {part}/."
        raise StorageError(message)
    return FileRow(path, part, shard, len(data), hash_bytes(data))


def _refuse_file(path: Path) -> None:
    if path.exists() and not path.is_dir():
        message = f"{path}: this is a file; a cache is a folder. Name another with --cache."
        raise StorageError(message)


def _stored_manifest(path: Path) -> Manifest | None:
    stored = path / MANIFEST_NAME
    with storage_errors(stored, "read"):
        there = stored.exists()
    return loads(manifest_bytes(path), str(stored)) if there else None


def _refuse_strangers(path: Path) -> None:
    with storage_errors(path, "read"):
        names = {entry.name for entry in path.iterdir()}
        if not names or MANIFEST_NAME in names or journal_keys(path):
            return
        ours = names <= {JOURNAL_FOLDER, STAGING_FOLDER} and all(
            entry.name.startswith(_ATTEMPT) or entry.suffix == UNFINISHED_SUFFIX
            for name in names
            for entry in (path / name).iterdir()
        )
    if headless(path):
        raise headless_error(path)
    if not ours:
        message = (
            f"{path}: this folder is not empty and holds no cache (no {MANIFEST_NAME}); nothing was"
            " changed. Give an empty or a new folder with --cache."
        )
        raise StorageError(message)


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
