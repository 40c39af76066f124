"""Getting at the files of a cache: only those the files table names, only what was written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES, EIO, EMFILE, ENFILE, ENOMEM, EPERM, ESTALE
from functools import cached_property
from pathlib import Path
from stat import S_ISREG

from ckd_cache.errors import CkdCacheError, DamagedCacheError, IncompleteCacheError
from ckd_cache.fingerprint import hash_file
from ckd_cache.format.durable import storage_errors
from ckd_cache.format.files import FileRow, FilesTable, read_files
from ckd_cache.format.manifest import FilesRecord, Manifest, loads
from ckd_cache.format.opening import manifest_bytes
from ckd_cache.format.paths import inside
from ckd_cache.format.spec import MANIFEST_NAME

__all__ = ["FileAccess"]

_REFUSALS = {EACCES, EIO, EMFILE, ENFILE, ENOMEM, EPERM, ESTALE}
"""The system's fault, not that of the bytes."""


class FileAccess:
    """The files of one generation of a cache. Holds no file open.

    Args:
        path: the cache.
        record: its files table, from the manifest.
        generation: its number.
    """

    def __init__(self, path: Path, record: FilesRecord | None, generation: int) -> None:
        self.path = path
        self._record = record
        self._generation = generation
        self._rows: dict[str, FileRow] = {}
        self._hashed: dict[str, tuple[int, int]] = {}

    @cached_property
    def files(self) -> FilesTable:
        """The files table, read when it is first needed.

        Where later commits have removed it, that of the cache as it is now: what is committed
        keeps its bytes, so that it says the same of all files but those that were dropped.

        Raises:
            DamagedCacheError: it is missing or damaged.
        """
        if self._record is None:
            raise DamagedCacheError(self.damage("ckd.json", "it names no files table"))
        try:
            path = inside(self.path.resolve(), self._record.path)
            return read_files(path, self._record.rows)
        except DamagedCacheError:
            newer = self._newer()
            if newer is None:
                raise
            return newer[1]

    def present(self, relative: str) -> Path:
        """A file that the files table names and that has the size it says.

        Raises:
            DamagedCacheError: it is not named, or not there, or has another size.
            IncompleteCacheError: it was dropped since the cache was opened.
        """
        row = self._row(relative)
        path = self.path / relative
        try:
            with self.reading(relative):
                found = path.stat()
        except DamagedCacheError as error:
            raise self._problem(relative, "the file is missing") from error
        if found.st_size != row.bytes or not S_ISREG(found.st_mode):
            size = f"it has {found.st_size} bytes, {row.bytes} were written"
            raise self._problem(relative, size)
        return path

    def verified(self, relative: str) -> Path:
        """A file that is present and whose sha256 was right when it was first asked for.

        Raises:
            DamagedCacheError: it is missing, or its bytes are not those that were written.
            IncompleteCacheError: it was dropped since the cache was opened.
        """
        path = self.present(relative)
        stat = path.stat()
        state = (stat.st_mtime_ns, stat.st_ino)
        if self._hashed.get(relative) != state:
            with self.reading(relative):
                found = hash_file(path)
            if found != self._row(relative).sha256:
                found = f"its sha256 is {found}, {self._row(relative).sha256} was written"
                raise self._problem(relative, found)
            self._hashed[relative] = state
        return path

    @contextmanager
    def reading(self, relative: str, where: str = "") -> Iterator[None]:
        """Turn what decoders raise in the block into damage of a file.

        Args:
            relative: the file, or the folder of an array.
            where: shard and examples, for the message.

        Raises:
            DamagedCacheError: the block raised an error of a decoder, or a file is missing.
            IncompleteCacheError: it did, and the file was dropped since the cache was opened.
            StorageError: the system would not let the file be read.
        """
        try:
            yield
        # pyarrow's errors are ValueErrors, KeyErrors, OSErrors and, where hostile bytes ask for an
        # absurd buffer, MemoryErrors; numcodecs raises RuntimeError.
        except (OSError, ValueError, RuntimeError, LookupError, TypeError, MemoryError) as error:
            if isinstance(error, OSError) and error.errno in _REFUSALS:
                with storage_errors(self.path / relative, "read"):
                    raise
            found = f"it cannot be decoded ({error})"
            raise self._problem(relative, found, where) from error

    def damage(self, relative: str, found: str, where: str = "") -> str:
        """Message that a file is damaged, with what to type."""
        place = f" ({where})" if where else ""
        return (
            f"{self.path}: {relative}{place} is damaged: {found}. Compute the damaged shards again"
            f" with `ckd-cache verify {self.path} --repair --recipe RECIPE`, or restore the file"
            f" from a copy. As the last resort, delete the folder {self.path} and build the cache"
            f" again: `ckd-cache build RECIPE --cache {self.path}`."
        )

    def _problem(self, relative: str, found: str, where: str = "") -> CkdCacheError:
        """The error that a file is damaged, or that it is no longer the cache's."""
        newer = self._newer()
        if newer is None or not self._is_replaced(relative, newer[1]):
            return DamagedCacheError(self.damage(relative, found, where))
        message = (
            f"{self.path}: {relative} is gone or another ({found}). The cache was opened in "
            f"generation {self._generation} and has a newer one, {newer[0].generation}, that no "
            "longer has this file as it was: it was dropped, or computed again since. Open the "
            "cache again, or run the command again, to read what it holds now."
        )
        return IncompleteCacheError(message)

    def _is_replaced(self, relative: str, newer: FilesTable) -> bool:
        """Whether a newer files table has nothing, or something else, at a path."""
        row = newer.get(relative)
        if row is None:
            return not newer.of_part(relative)
        return row != self._rows.get(relative, row)

    def _newer(self) -> tuple[Manifest, FilesTable] | None:
        """The cache as it is now, if that is a later generation and can be read."""
        try:
            manifest = loads(manifest_bytes(self.path), MANIFEST_NAME)
            if manifest.generation <= self._generation or manifest.files is None:
                return None
            path = inside(self.path.resolve(), manifest.files.path)
            return manifest, read_files(path, manifest.files.rows)
        except CkdCacheError:
            # What was to be said of the file stands; opening the cache again says this.
            return None

    def _row(self, relative: str) -> FileRow:
        known = self._rows.get(relative)
        if known is not None:
            return known
        row = self.files.get(relative)
        if row is None:
            found = f"the files table names no such file among its {len(self.files)}"
            raise self._problem(relative, found)
        inside(self.path.resolve(), relative)
        self._rows[relative] = row
        return row
