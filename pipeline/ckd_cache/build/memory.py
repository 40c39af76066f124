"""Keeping the resident memory of a long build near that of a short one."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_memory_flat"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_BYTES = 16 << 20


def keep_memory_flat() -> None:
    """Have the C library take large blocks from the system and give them back when freed.

    Tensors of changing sizes leave holes in glibc's heap, which it keeps: without this the memory
    of a build creeps up by some megabytes a shard. Does nothing where the C library is another.

    Source:
        mallopt(3): setting a threshold switches off its growth with the sizes that are freed.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _BYTES)
        mallopt(_M_TRIM_THRESHOLD, _BYTES)
