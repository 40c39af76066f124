"""Whether a cache is whole at a glance, before work is built on it."""

from __future__ import annotations

from ckd_cache.errors import DamagedCacheError
from ckd_cache.format.intact import IntactFiles
from ckd_cache.format.reader import CacheReader

__all__ = ["refuse_missing_files"]

_SHOWN = 3


def refuse_missing_files(reader: CacheReader) -> None:
    """Check that every file of a cache is there and has its size; nothing is read or hashed.

    Raises:
        DamagedCacheError: some are not; names the first of them.
        StorageError: the system would not let a folder be looked at.
    """
    look = IntactFiles(reader.path, hashing=False)
    found = [(row.path, damage) for row in reader.files.rows if (damage := look.damage_of(row))]
    if not found:
        return
    lines = [f"  {path}: {damage.detail}" for path, damage in found[:_SHOWN]]
    if len(found) > _SHOWN:
        lines.append(f"  and {len(found) - _SHOWN:,} more")
    listed = "\n".join(lines)
    message = (
        f"{reader.path} is damaged: {len(found):,} of its {len(reader.files):,} files are not as"
        f" they were written:\n{listed}\nCompute the damaged shards again with `ckd-cache verify"
        f" {reader.path} --repair --recipe RECIPE`, or restore these files from a copy;"
        f" `ckd-cache verify {reader.path}` says which examples are hit."
    )
    raise DamagedCacheError(message)
