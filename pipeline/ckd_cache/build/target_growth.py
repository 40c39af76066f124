"""Bringing the targets of a set to parts that are new, as far as their teachers are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ckd_cache.build.identity import target_part_identity, teacher_part_identity
from ckd_cache.build.session import Session
from ckd_cache.build.target_request import TargetRequest, request_of
from ckd_cache.build.target_stage import fill_target
from ckd_cache.errors import MismatchError
from ckd_cache.fingerprint import fingerprint
from ckd_cache.format.manifest import PartRecord, SetRecord, TargetRecord
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
    set_name: str, record: SetRecord, identities: Mapping[str, JsonObject]
) -> None:
    """Check that teachers which are captured anew are those that the targets were made of.

    Args:
        set_name: the set.
        record: its record.
        identities: of the recipe's teachers, by name.

    Raises:
        MismatchError: a target was made of another teacher of that name, which was dropped.
    """
    for name, target in record.targets.items():
        for part in record.parts:
            if part.name not in target.parts:
                continue
            found = [_fingerprint(record, identities, one, part) for one in target.teachers]
            teachers = [one for one in found if one is not None]
            if len(teachers) == len(found) and target.parts[part.name].fingerprint != fingerprint(
                target_part_identity(teachers, target.identity)
            ):
                raise MismatchError(_another(set_name, name, target, record))


def _fill(session: Session, set_name: str, request: TargetRequest) -> bool:
    record = session.record(set_name)
    stored = record.targets.get(request.name)
    missing = [part.name for part in record.parts if stored and part.name not in stored.parts]
    if stored is not None and not (missing and stored.stored):
        return True
    lacking = [one for one in stored.teachers if _lacks(record, one)] if stored else []
    if lacking:
        session.progress.note(_left_out(session, set_name, request.name, missing, lacking))
        return False
    fill_target(session, set_name, request)
    return True


def _lacks(record: SetRecord, teacher: str) -> bool:
    """Whether a teacher is not there, or not for every part."""
    found = record.teachers.get(teacher)
    return found is None or any(part.name not in found.parts for part in record.parts)


def _left_out(
    session: Session, set_name: str, target: str, missing: Sequence[str], lacking: Sequence[str]
) -> str:
    return (
        f"target {target} of set {set_name} lacks the new parts {', '.join(missing)}: not all of "
        f"its teachers are in the recipe. Add {', '.join(lacking)} to it; or drop the target with "
        f"`ckd-cache drop {session.writer.path} --target {target}` and build it anew"
    )


def _fingerprint(
    record: SetRecord, identities: Mapping[str, JsonObject], teacher: str, part: PartRecord
) -> str | None:
    """Fingerprint of a teacher part as it is, or will be after this build; None if it is gone."""
    if teacher in identities:
        return fingerprint(teacher_part_identity(part.fingerprint, identities[teacher]))
    stored = record.teachers.get(teacher)
    if stored is None or part.name not in stored.parts:
        return None
    return stored.parts[part.name].fingerprint


def _another(set_name: str, name: str, target: TargetRecord, record: SetRecord) -> str:
    anew = [teacher for teacher in target.teachers if teacher not in record.teachers]
    return (
        f"target {name} of set {set_name} was made of another teacher {' or '.join(anew)} than "
        "that of the recipe. It was dropped, and a target cannot be of two. Restore what changed "
        "of the teacher, give the new one another name, or drop the target too with "
        f"`ckd-cache drop CACHE --target {name}`."
    )
