"""One process a student: an exclusive flock on the student's folder, so that no file is left."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ckd_cache.errors import StorageError, StudentError

__all__ = ["claimed"]


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a student's folder during the block; the kernel lets go of it on any death.

    Folders that had to be made for this are removed afterwards if nothing was put into them.

    Raises:
        StudentError: another process holds the folder, or it is a file.
        StorageError: the folder cannot be made or opened.
    """
    made = _make(folder)
    try:
        descriptor = _lock(folder)
        try:
            yield
        finally:
            _remove_empty(made)
            os.close(descriptor)
    except BaseException:
        _remove_empty(made)
        raise


def _make(folder: Path) -> list[Path]:
    """Make a folder and those above it; those that were made, the innermost first."""
    if folder.exists() and not folder.is_dir():
        message = f"{folder}: is a file, expected a folder. Choose another --output."
        raise StudentError(message)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _remove_empty(made)
        message = f"{folder}: cannot be made ({error.strerror}). Choose another --output."
        raise StorageError(message) from error
    return made


def _lock(folder: Path) -> int:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        message = f"{folder}: cannot be opened ({error.strerror}). Choose another --output."
        raise StorageError(message) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever made the folder may have removed it again between our opening and locking it.
        still_there = os.path.samestat(os.fstat(descriptor), folder.stat())
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise StudentError(_busy(folder)) from error
        message = f"{folder}: cannot be locked ({error.strerror}). Choose another --output."
        raise StorageError(message) from error
    if not still_there:
        os.close(descriptor)
        raise StudentError(_busy(folder))
    return descriptor


def _busy(folder: Path) -> str:
    return (
        f"{folder}: another process is training the student in this folder. Wait until it is "
        "done, or stop it, then run the same command again; or choose another --output."
    )


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # it holds something, or is gone
            folder.rmdir()
