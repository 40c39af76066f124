"""Bringing the targets of a set to parts that are new, as far as their teachers are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ckd_cache.build.identity import target_part_identity, teacher_part_identity
from ckd_cache.build.session import Session
from ckd_cache.build.target_request import TargetRequest, request_of
from ckd_cache.build.target_stage import fill_target
from ckd_cache.errors import MismatchError
from ckd_cache.fingerprint import fingerprint
from ckd_cache.format.manifest import Manifest, SetRecord, TargetRecord
from ckd_cache.merge.lineup import Member, lineup_of
from ckd_cache.types import JsonObject

__all__ = ["check_target_teachers", "fill_targets"]


def fill_targets(session: Session, set_name: str, requests: Sequence[TargetRequest]) -> bool:
    """Fill the targets asked for, then those that the cache has beside them, such as merged ones.

    Parts of a target whose teachers do not have them are left out with a note: targets outlive
    their teachers.

    Returns:
        Whether the targets asked for have all parts.

    Raises:
        MergeError: a rule does not fit what was captured.
    """
    whole = [_fill(session, set_name, request) for request in requests]
    asked = {request.name for request in requests}
    for name, target in session.record(set_name).targets.items():
        if name not in asked:
            _fill(session, set_name, request_of(name, target))
    return all(whole)


def check_target_teachers(
    manifest: Manifest, set_name: str, planned: Mapping[str, tuple[str, JsonObject]]
) -> None:
    """Check that teachers which are captured anew are those that the targets were made of.

    Args:
        manifest: of the cache.
        set_name: a set of it.
        planned: of the recipe's teachers, by name: the set or twin set that each is captured for,
            and its identity.

    Raises:
        MismatchError: a target was made of another teacher of that name, which was dropped.
    """
    record, members = manifest.sets[set_name], lineup_of(manifest, set_name)
    for name, target in record.targets.items():
        for part in record.parts:
            if part.name not in target.parts:
                continue
            found = [
                _fingerprint(manifest, members.get(one), planned.get(one), part.name)
                for one in target.teachers
            ]
            teachers = [one for one in found if one is not None]
            if len(teachers) == len(found) and target.parts[part.name].fingerprint != fingerprint(
                target_part_identity(teachers, target.identity)
            ):
                raise MismatchError(_another(set_name, name, target, members))


def _fill(session: Session, set_name: str, request: TargetRequest) -> bool:
    record = session.record(set_name)
    stored = record.targets.get(request.name)
    missing = [part.name for part in record.parts if stored and part.name not in stored.parts]
    if stored is not None and not (missing and stored.stored):
        return True
    members = lineup_of(session.manifest, set_name)
    lacking = [
        one for one in (stored.teachers if stored else ()) if _lacks(record, members.get(one))
    ]
    if lacking:
        session.progress.note(_left_out(session, set_name, request.name, missing, lacking))
        return False
    fill_target(session, set_name, request)
    return True


def _lacks(record: SetRecord, teacher: Member | None) -> bool:
    """Whether a teacher is not there, or not for every part."""
    return teacher is None or any(part.name not in teacher.record.parts for part in record.parts)


def _left_out(
    session: Session, set_name: str, target: str, missing: Sequence[str], lacking: Sequence[str]
) -> str:
    return (
        f"target {target} of set {set_name} lacks the new parts {', '.join(missing)}: not all of "
        f"its teachers are in the recipe. Add {', '.join(lacking)} to it; or drop the target with "
        f"`ckd-cache drop {session.writer.path} --target {target}` and build it anew"
    )


def _fingerprint(
    manifest: Manifest,
    member: Member | None,
    planned: tuple[str, JsonObject] | None,
    part: str,
) -> str | None:
    """Fingerprint of a teacher part as it is, or will be after this build; None if it is gone."""
    if planned is not None and planned[0] in manifest.sets:
        parts = manifest.sets[planned[0]].parts
        slots = next((one.fingerprint for one in parts if one.name == part), None)
        if slots is not None:
            return fingerprint(teacher_part_identity(slots, planned[1]))
    if member is None or part not in member.record.parts:
        return None
    return member.record.parts[part].fingerprint


def _another(set_name: str, name: str, target: TargetRecord, members: Mapping[str, Member]) -> str:
    anew = [teacher for teacher in target.teachers if teacher not in members]
    return (
        f"target {name} of set {set_name} was made of another teacher {' or '.join(anew)} than "
        "that of the recipe. It was dropped, and a target cannot be of two. Restore what changed "
        "of the teacher, give the new one another name, or drop the target too with "
        f"`ckd-cache drop CACHE --target {name}`."
    )
