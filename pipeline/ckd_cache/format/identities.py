"""Identities that are made of other fingerprints (docs/format.md, Fingerprints)."""

from __future__ import annotations

from collections.abc import Sequence

from ckd_cache.format.spec import NUMERICS_VERSION
from ckd_cache.types import JsonObject

__all__ = ["target_part_identity", "teacher_part_identity"]


def teacher_part_identity(slots: str, identity: JsonObject) -> JsonObject:
    """Identity of a teacher's distributions at the slots with fingerprint ``slots``."""
    return {"slots": slots, **identity}


def target_part_identity(teacher_parts: Sequence[str], rule: JsonObject) -> JsonObject:
    """Identity of a mixture of the teacher parts with these fingerprints, in order."""
    return {"teacher_parts": list(teacher_parts), "numerics": NUMERICS_VERSION, **rule}
