"""Identities that are made of other fingerprints (docs/format.md, Fingerprints)."""

from __future__ import annotations

from collections.abc import Sequence

from ckd_cache.fingerprint import fingerprint
from ckd_cache.format.spec import NUMERICS_VERSION
from ckd_cache.types import JsonObject

__all__ = [
    "gather_identity",
    "gather_name",
    "gather_part_identity",
    "target_part_identity",
    "teacher_part_identity",
]

_NAME_DIGITS = 12


def teacher_part_identity(slots: str, identity: JsonObject) -> JsonObject:
    """Identity of a teacher's distributions at the slots with fingerprint ``slots``."""
    return {"slots": slots, **identity}


def target_part_identity(teacher_parts: Sequence[str], rule: JsonObject) -> JsonObject:
    """Identity of a mixture of the teacher parts with these fingerprints, in order."""
    return {"teacher_parts": list(teacher_parts), "numerics": NUMERICS_VERSION, **rule}


def gather_identity(teacher: str, group: Sequence[str]) -> JsonObject:
    """Identity of a gather, without its teacher parts; the group in the order of its names."""
    return {"teacher": teacher, "group": sorted(group)}


def gather_name(teacher: str, group: Sequence[str]) -> str:
    """Name of a teacher's gather for a group; those of one group end alike."""
    return f"{teacher}.{fingerprint({'group': sorted(group)})[:_NAME_DIGITS]}"


def gather_part_identity(teacher_parts: Sequence[str], identity: JsonObject) -> JsonObject:
    """Identity of what is gathered for teacher parts with these fingerprints, by name."""
    return {"teacher_parts": list(teacher_parts), "numerics": NUMERICS_VERSION, **identity}
