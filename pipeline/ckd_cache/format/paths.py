"""Where things lie inside a cache, and which relative paths a cache may name."""

from __future__ import annotations

import re
from pathlib import Path

from ckd_cache.errors import DamagedCacheError

__all__ = [
    "JOURNAL_FOLDER",
    "STAGING_FOLDER",
    "UNSAFE_PATTERN",
    "array_shard_path",
    "documents_path",
    "gather_folder",
    "gather_part",
    "increment_name",
    "inside",
    "is_safe",
    "order_path",
    "part_name",
    "segments_part",
    "segments_path",
    "slots_part",
    "slots_path",
    "support_part",
    "target_folder",
    "target_part",
    "teacher_folder",
    "teacher_part",
]

JOURNAL_FOLDER = "journal"
STAGING_FOLDER = "staging"

UNSAFE_PATTERN = r"(^|/)\.{0,2}(/|$)|[\\\x00-\x1f]|^[A-Za-z]:"
"""Matches paths that are absolute, or have a ``.``, ``..`` or empty component (RE2 syntax)."""


def increment_name(number: int) -> str:
    """Name of an increment: four decimal digits."""
    return f"{number:04d}"


def part_name(view: int, increment: str) -> str:
    """Name of the part that shows an increment in a view."""
    return f"v{view}-{increment}"


def segments_part(set_name: str, increment: str) -> str:
    """Folder of the segments of an increment; also their ``part`` in the files table."""
    return f"{set_name}/segments/{increment}"


def slots_part(set_name: str, part: str) -> str:
    """Folder of the slots of a part; also their ``part`` in the files table."""
    return f"{set_name}/slots/{part}"


def teacher_folder(set_name: str, teacher: str) -> str:
    """Folder of all that a set has of a teacher."""
    return f"{set_name}/teachers/{teacher}"


def teacher_part(set_name: str, teacher: str, part: str) -> str:
    """Folder of a teacher's group of a part; also its ``part`` in the files table."""
    return f"{teacher_folder(set_name, teacher)}/{part}"


def target_folder(set_name: str, target: str) -> str:
    """Folder of all that a set has of a target."""
    return f"{set_name}/targets/{target}"


def target_part(set_name: str, target: str, part: str) -> str:
    """Folder of a target's group of a part; also its ``part`` in the files table."""
    return f"{target_folder(set_name, target)}/{part}"


def gather_folder(set_name: str, gather: str) -> str:
    """Folder of all that a set has of a gather."""
    return f"{set_name}/gathers/{gather}"


def gather_part(set_name: str, gather: str, part: str) -> str:
    """Folder of a gather's group of a part; also its ``part`` in the files table."""
    return f"{gather_folder(set_name, gather)}/{part}"


def support_part(fingerprint: str) -> str:
    """Folder of a support; also its ``part`` in the files table."""
    return f"supports/{fingerprint}"


def segments_path(set_name: str, increment: str, shard: int) -> str:
    """The segments of one shard of an increment."""
    return f"{segments_part(set_name, increment)}/{shard:05d}.arrow"


def documents_path(set_name: str, increment: str, shard: int) -> str:
    """The documents of the blocks that begin in one shard of an increment."""
    return f"{segments_part(set_name, increment)}/documents-{shard:05d}.arrow"


def slots_path(set_name: str, part: str, shard: int) -> str:
    """The slots of one shard of a part."""
    return f"{slots_part(set_name, part)}/{shard:05d}.arrow"


def array_shard_path(group: str, array: str, dimensions: int, shard: int) -> str:
    """The file of one shard of an array: sharded along the first dimension only."""
    return f"{group}/{array}/c/{shard}" + "/0" * (dimensions - 1)


def order_path(group: str) -> str:
    """The file of the order of ids of a group."""
    return f"{group}/order/c/0"


def is_safe(relative: str) -> bool:
    """Whether a path is relative, uses ``/`` and has no ``.``, ``..`` or empty component."""
    return re.search(UNSAFE_PATTERN, relative) is None


def inside(root: Path, relative: str) -> Path:
    """The file that a cache names, which must lie inside it, links followed.

    Args:
        root: the cache's folder, resolved.
        relative: path as written in the manifest or the files table.

    Raises:
        DamagedCacheError: the path leaves the cache.
    """
    path = root / relative
    if is_safe(relative) and path.resolve().is_relative_to(root):
        return path
    message = (
        f"{root}: the cache names the file {relative!r}, which leads out of the cache. Such a file"
        " is never read. Get the cache again from whoever made it."
    )
    raise DamagedCacheError(message)
