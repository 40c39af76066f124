"""Which texts have been seen before, remembered on disk so that memory stays flat."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from ckd_cache.errors import StorageError
from ckd_cache.format.arrow_io import KEY_BYTES

__all__ = ["Deduplicator", "text_key"]

_SETTINGS = (
    # The file is scratch: it need not survive a crash, and nobody else reads it.
    "PRAGMA journal_mode = OFF",
    "PRAGMA synchronous = OFF",
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -32768",
)


_INSERT = "INSERT OR IGNORE INTO seen VALUES (?)"


def text_key(text: str) -> bytes:
    """Key of a text: the first 16 bytes of its sha256, without the white space at its ends."""
    return hashlib.sha256(text.strip().encode("utf-8")).digest()[:KEY_BYTES]


class Deduplicator:
    """A set of texts on disk, by their keys.

    What an earlier run
    left at the path is removed first; the caller removes the file when it is done.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.unlink(missing_ok=True)
            self._database = sqlite3.connect(path, isolation_level=None)
            for setting in _SETTINGS:
                self._database.execute(setting)
            self._database.execute("CREATE TABLE seen (key BLOB PRIMARY KEY) WITHOUT ROWID")
            self._database.execute("BEGIN")
        except (sqlite3.Error, OSError) as error:
            raise self._refused(error) from error

    def add(self, keys: Iterable[Sequence[bytes]]) -> None:
        """Count texts as seen, given their keys in batches.

        Raises:
            StorageError: the disk refused.
        """
        for batch in keys:
            try:
                self._database.executemany(_INSERT, ((key,) for key in batch))
            except sqlite3.Error as error:
                raise self._refused(error) from error

    def is_new(self, text: str) -> bool:
        """Whether ``text`` was not given before; it counts as seen from now on.

        Raises:
            StorageError: the disk refused.
        """
        try:
            cursor = self._database.execute(_INSERT, (text_key(text),))
        except sqlite3.Error as error:
            raise self._refused(error) from error
        return cursor.rowcount == 1

    def close(self) -> None:
        """Let go of the file; nothing can be asked afterwards."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _refused(self, error: Exception) -> StorageError:
        message = (
            f"{self._path}: cannot keep the list of texts seen so far ({error}). It takes about "
            "40 bytes a document; make room or write permission there and build again."
        )
        return StorageError(message)
