"""Taking whole folders out of a cache so that a crash leaves them there or gone, never half.

A list of the folders is made durable before the commit that no longer names their files, and stays
until they are deleted: whoever writes to the cache next finishes what a crash left.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from ckd_cache.errors import DamagedCacheError
from ckd_cache.fingerprint import canonical_json, hash_bytes
from ckd_cache.format.durable import storage_errors, sync_folder
from ckd_cache.format.files import FilesTable
from ckd_cache.format.journal import journal_keys, journal_path
from ckd_cache.format.paths import JOURNAL_FOLDER, is_safe

__all__ = [
    "REMOVAL_PATH",
    "Removal",
    "delete_folder",
    "encode_removal",
    "forget_removal",
    "read_removal",
    "real_folder",
    "without_folders",
]

REMOVAL_PATH = f"{JOURNAL_FOLDER}/removal.json"


@dataclass(frozen=True, slots=True)
class Removal:
    """Folders that a commit takes out of a cache.

    Attributes:
        generation: that the commit makes; before it, nothing may be deleted.
        folders: relative to the cache.
    """

    generation: int
    folders: tuple[str, ...]


def encode_removal(removal: Removal) -> bytes:
    """Bytes of the list, with the sha256 of themselves."""
    record = {"generation": removal.generation, "folders": list(removal.folders)}
    return canonical_json({**record, "digest": hash_bytes(canonical_json(record))})


def read_removal(cache: Path) -> Removal | None:
    """The list that a cache has, or None.

    Raises:
        DamagedCacheError: it is not what was written.
        StorageError: it cannot be read.
    """
    path = cache / REMOVAL_PATH
    with storage_errors(path, "read"):
        if not path.exists():
            return None
        data = path.read_bytes()
    try:
        record = json.loads(data)
        removal = Removal(record["generation"], tuple(record["folders"]))
        if encode_removal(removal) == data and all(is_safe(each) for each in removal.folders):
            return removal
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    message = (
        f"{path}: the list of folders that a `ckd-cache drop` gave up is damaged. Delete this file;"
        " what is left of the folders is never read."
    )
    raise DamagedCacheError(message)


def forget_removal(cache: Path) -> None:
    """Delete the list.

    Raises:
        StorageError: the file system refused.
    """
    path = cache / REMOVAL_PATH
    with storage_errors(path, "remove"):
        path.unlink(missing_ok=True)
        sync_folder(path.parent)


def real_folder(cache: Path, folder: str) -> Path:
    """Where a folder of a cache lies, with no link on the way.

    Raises:
        DamagedCacheError: there is a link, so that deleting could hit something else.
    """
    path = cache / folder
    if is_safe(folder) and path.resolve() == cache.resolve() / folder:
        return path
    message = (
        f"{path}: the folder is a link, or lies behind one; nothing was deleted. A cache has no"
        " links: put the files themselves in its place."
    )
    raise DamagedCacheError(message)


def delete_folder(cache: Path, folder: str) -> None:
    """Delete a folder and the journals of the parts in it; also what an earlier try left.

    Raises:
        DamagedCacheError: there is a link on the way to it.
        StorageError: the file system refused.
    """
    path = real_folder(cache, folder)
    with storage_errors(path, "delete"):
        for inner, below, names in os.walk(path, topdown=False):
            for name in (*names, *below):
                child = Path(inner, name)
                if child.is_dir() and not child.is_symlink():
                    child.rmdir()
                else:
                    child.unlink()
        if path.exists():
            path.rmdir()
        for key in journal_keys(cache):
            if key.startswith(f"{folder}/"):
                journal_path(cache, key).unlink()
        _remove_if_empty(path.parent)


def without_folders(table: FilesTable | None, folders: Sequence[str]) -> FilesTable | None:
    """A files table without the files below some folders."""
    if table is None:
        return None
    kept = table.table
    for folder in folders:
        kept = kept.filter(pc.invert(pc.starts_with(kept["path"], f"{folder}/")))
    return FilesTable(kept)


def _remove_if_empty(folder: Path) -> None:
    if not folder.is_dir():
        return
    if any(folder.iterdir()):
        sync_folder(folder)
    else:
        folder.rmdir()
        sync_folder(folder.parent)
