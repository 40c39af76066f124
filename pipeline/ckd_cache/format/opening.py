"""Finding the manifest of a cache, or saying what stands in its place."""

from __future__ import annotations

from pathlib import Path
from stat import S_ISREG

from ckd_cache.errors import (
    CacheNotFoundError,
    CkdCacheError,
    DamagedCacheError,
    IncompleteCacheError,
    StorageError,
)
from ckd_cache.format.files import FILES_PATTERN
from ckd_cache.format.paths import JOURNAL_FOLDER
from ckd_cache.format.spec import MANIFEST_NAME

__all__ = ["headless", "headless_error", "manifest_bytes"]

_LARGEST_MANIFEST = 1 << 28


def manifest_bytes(path: Path) -> bytes:
    """The bytes of a cache's manifest.

    Raises:
        CacheNotFoundError: there is no cache at ``path``.
        IncompleteCacheError: a build was interrupted before its first commit.
        DamagedCacheError: the manifest is gone, too large, or no file.
        StorageError: it cannot be read.
    """
    stored = path / MANIFEST_NAME
    try:
        state = stored.stat()
        if not S_ISREG(state.st_mode):
            message = f"{stored}: this is no file. Restore the manifest from a copy."
            raise DamagedCacheError(message)
        if state.st_size <= _LARGEST_MANIFEST:
            return stored.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _absent(path) from error
    except OSError as error:
        message = f"{stored}: it cannot be read ({error.strerror}). Check its permissions."
        raise StorageError(message) from error
    message = (
        f"{stored}: the manifest has {state.st_size} bytes, more than {_LARGEST_MANIFEST}, and is"
        " not read. Restore ckd.json from a copy."
    )
    raise DamagedCacheError(message)


def headless(path: Path) -> bool:
    """Whether a folder is a cache that has lost its manifest: a files table shows that it had one.

    A first commit that was interrupted leaves the same, but with a journal.

    Raises:
        OSError: the folder cannot be read.
    """
    names = {entry.name for entry in path.iterdir()}
    if names & {MANIFEST_NAME, JOURNAL_FOLDER}:
        return False
    return any(FILES_PATTERN.fullmatch(name) for name in names)


def headless_error(path: Path) -> DamagedCacheError:
    """What to say of such a folder."""
    message = (
        f"{path}: the manifest {MANIFEST_NAME} is missing, but a files table is there: this was a"
        f" cache. Restore {MANIFEST_NAME} from a copy; nothing else says what the files mean."
    )
    return DamagedCacheError(message)


def _absent(path: Path) -> CkdCacheError:
    if path.is_dir() and headless(path):
        return headless_error(path)
    if (path / JOURNAL_FOLDER).is_dir():
        message = (
            f"{path}: a build of this cache was interrupted before its first commit, so there is"
            f" nothing to read yet. Run the same build again: `ckd-cache build RECIPE --cache"
            f" {path}` goes on where it stopped."
        )
        return IncompleteCacheError(message)
    found = "there is no such folder"
    if path.is_dir():
        found = "the folder holds no ckd.json"
    elif path.exists():
        found = "this is a file"
    message = (
        f"{path}: no cache here: {found}, expected a folder with ckd.json. Check the path, or make"
        f" a cache with `ckd-cache build RECIPE --cache FOLDER`."
    )
    return CacheNotFoundError(message)
