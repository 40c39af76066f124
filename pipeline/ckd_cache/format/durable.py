"""Writing so that it survives a crash: fsync of files and of the folders that name them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ckd_cache.errors import StorageError

__all__ = [
    "make_folder",
    "replace_file",
    "storage_errors",
    "sync_folder",
    "sync_folders",
    "write_file",
]

_ADVICE = {
    errno.ENOSPC: "Free some space and run the same command again; finished shards are kept.",
    errno.EDQUOT: "Your quota is used up: free some space and run the same command again.",
    errno.EFBIG: "Raise the limit on file sizes (`ulimit -f`), or ask for smaller shards.",
    errno.EACCES: "Check the permissions of the folder, or choose another path with --cache.",
    errno.EPERM: "Check the permissions of the folder, or choose another path with --cache.",
    errno.EROFS: "The file system is read-only: choose another path with --cache.",
}
_OTHER_ADVICE = "Check the disk and the path, then run the same command again."


@contextmanager
def storage_errors(path: Path, action: str) -> Iterator[None]:
    """Turn an OSError of the block into a StorageError that says what to do.

    Args:
        path: what the block works on, for the message.
        action: what it does, such as ``write``.

    Raises:
        StorageError: the block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        advice = _ADVICE.get(error.errno or 0, _OTHER_ADVICE)
        message = f"{path}: could not {action} it: {reason}. {advice}"
        raise StorageError(message) from error


def write_file(path: Path, data: bytes) -> None:
    """Write a new file and wait until its bytes are on the disk.

    Raises:
        OSError: the file system refused.
    """
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_file(staged: Path, final: Path) -> None:
    """Give a written file its final name; the caller syncs the folder afterwards.

    Raises:
        OSError: the file system refused.
    """
    staged.replace(final)


def sync_folders(paths: Iterable[Path]) -> None:
    """Wait until the names in some folders are on the disk; those above others come first.

    Raises:
        OSError: the file system refused.
    """
    for path in sorted(set(paths)):
        sync_folder(path)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk.

    Raises:
        OSError: the file system refused.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> set[Path]:
    """Make a folder and those above it.

    Returns:
        The folders in which something was made; to be synced by the caller.

    Raises:
        OSError: the file system refused.
    """
    if path.is_dir():
        return set()
    changed = make_folder(path.parent)
    path.mkdir(exist_ok=True)
    return {*changed, path.parent}
