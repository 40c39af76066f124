"""The teachers that can be merged for a set: its own, and those of its twin sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ckd_cache.format.manifest import Manifest, TeacherRecord

__all__ = ["Member", "lineup_of", "twins_of"]


@dataclass(frozen=True, slots=True)
class Member:
    """A teacher, and where its distributions lie.

    Attributes:
        set_name: the set whose slots it was captured at: the set itself, or a twin of it.
        record: its record there.
        twin: whether that is a twin set.
    """

    set_name: str
    record: TeacherRecord
    twin: bool


def lineup_of(manifest: Manifest, set_name: str) -> Mapping[str, Member]:
    """Every teacher that can be merged for a set, by name.

    Args:
        manifest: of the cache.
        set_name: a set that is no twin.
    """
    own = manifest.sets[set_name].teachers
    members = {name: Member(set_name, record, twin=False) for name, record in own.items()}
    for twin in twins_of(manifest, set_name):
        for name, record in manifest.sets[twin].teachers.items():
            members.setdefault(name, Member(twin, record, twin=True))
    return members


def twins_of(manifest: Manifest, set_name: str) -> list[str]:
    """Names of the twin sets of a set."""
    return sorted(name for name, one in manifest.sets.items() if one.twin_of == set_name)
