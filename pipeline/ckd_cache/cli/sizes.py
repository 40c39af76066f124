"""Sizes as a person says them."""

from __future__ import annotations

__all__ = ["size"]

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEP = 1024


def size(count: float) -> str:
    """Bytes in the largest unit that leaves at least 1: ``1,023 B``, ``1.5 GiB``."""
    unit = 0
    while count >= _STEP and unit < len(_UNITS) - 1:
        count /= _STEP
        unit += 1
    return f"{count:,.0f} {_UNITS[unit]}" if unit == 0 else f"{count:,.1f} {_UNITS[unit]}"
