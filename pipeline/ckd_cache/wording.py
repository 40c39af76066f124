"""Words that depend on numbers."""

from __future__ import annotations

__all__ = ["counted", "singular"]


def counted(number: int, noun: str) -> str:
    """The number with its noun, which is given in the singular: ``1 slot``, ``1,024 slots``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def singular(unit: str) -> str:
    """The noun for one of what a plural such as ``slots`` counts."""
    return unit.removesuffix("s")
