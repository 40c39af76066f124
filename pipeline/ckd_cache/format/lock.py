"""The lock of a cache: an exclusive flock on the cache's folder itself, so that no file is left."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ckd_cache.errors import CacheLockedError
from ckd_cache.format.durable import storage_errors

__all__ = ["exclusive_lock"]


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold the lock of the cache at ``path`` during the block; the kernel drops it on any death.

    Raises:
        CacheLockedError: another process holds it.
        StorageError: the folder cannot be opened or locked.
    """
    with storage_errors(path, "lock"):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _lock(descriptor, path)
        except BaseException:
            os.close(descriptor)
            raise
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        message = (
            f"{path}: another process is writing to this cache. Wait until it is done, or stop it,"
            " then run the same command again."
        )
        raise CacheLockedError(message) from error
