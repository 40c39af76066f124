"""Whose logprobs a build gathers, and for which groups of teachers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ckd_cache.build.target_request import TargetRequest
from ckd_cache.format.identities import gather_name
from ckd_cache.format.manifest import GatherRecord, SetRecord
from ckd_cache.progress import Progress

__all__ = ["GatherRequest", "gather_requests"]


@dataclass(frozen=True, slots=True, order=True)
class GatherRequest:
    """Logprobs of one teacher at the ids that the teachers of a group keep.

    Attributes:
        teacher: whose logprobs are gathered.
        group: names, sorted, ``teacher`` among them.
    """

    teacher: str
    group: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the gather."""
        return gather_name(self.teacher, self.group)


def gather_requests(
    set_name: str,
    record: SetRecord,
    groups: Iterable[Sequence[str]],
    targets: Iterable[TargetRequest],
    recipe_teachers: Sequence[str],
    progress: Progress,
) -> list[GatherRequest]:
    """What is to be gathered for a set whose teachers have been captured.

    These are the groups that the recipe names, as far as all their teachers are the set's own; the
    teachers of targets with ``missing: exact``
    that lack a part, or are not stored and merged when they are used; and what the cache has
    gathered before, of which parts that cannot be gathered now are left out with a note.

    Args:
        set_name: the set.
        record: its record.
        groups: that the recipe names.
        targets: of the recipe, each with its teachers.
        recipe_teachers: names of the recipe's teachers, which alone can be run.
        progress: who is told what is left out.

    Returns:
        Requests of the recipe's teachers that have every part, sorted.
    """
    wanted: set[GatherRequest] = set()
    for group in groups:
        strangers = [name for name in group if name not in record.teachers]
        if strangers and record.twin_of is None:
            progress.note(_strangers(set_name, group, strangers))
    asked = [*groups, *(_teachers(record, one) for one in targets if _needs(record, one))]
    for names in (tuple(sorted(group)) for group in asked):
        if len(names) > 1 and set(names).issubset(record.teachers):
            wanted |= {GatherRequest(name, names) for name in names}
    for name, gather in record.gathers.items():
        missing = [part.name for part in record.parts if part.name not in gather.parts]
        lacking = _lacking(record, gather.group, [gather.teacher], recipe_teachers)
        if missing and lacking:
            progress.note(_left_out(set_name, name, gather, missing, lacking))
        elif missing:
            wanted.add(GatherRequest(gather.teacher, tuple(gather.group)))
    return sorted(
        one for one in wanted if not _lacking(record, one.group, [one.teacher], recipe_teachers)
    )


def _needs(record: SetRecord, target: TargetRequest) -> bool:
    if target.missing != "exact":
        return False
    stored = record.targets.get(target.name)
    whole = stored is not None and all(part.name in stored.parts for part in record.parts)
    return not (target.stored and whole)


def _teachers(record: SetRecord, target: TargetRequest) -> Sequence[str]:
    stored = record.targets.get(target.name)
    return target.teachers or (stored.teachers if stored is not None else [])


def _lacking(
    record: SetRecord,
    group: Sequence[str],
    run: Sequence[str],
    recipe_teachers: Sequence[str],
) -> list[str]:
    """Teachers of a group that lack a part, and those to be run that the recipe does not name."""
    parts = {part.name for part in record.parts}
    return [
        name
        for name in group
        if not parts.issubset(record.teachers[name].parts)
        or (name in run and name not in recipe_teachers)
    ]


def _strangers(set_name: str, group: Sequence[str], strangers: Sequence[str]) -> str:
    return (
        f"nothing is gathered in set {set_name} for the group {', '.join(group)}: it has no teacher"
        f" {', '.join(strangers)} with its own tokenizer"
    )


def _left_out(
    set_name: str,
    name: str,
    gather: GatherRecord,
    missing: Sequence[str],
    lacking: Sequence[str],
) -> str:
    return (
        f"gather {name} of set {set_name} lacks the new parts {', '.join(missing)}: it is of"
        f" teachers {', '.join(gather.group)}, of which {', '.join(lacking)} cannot be run or lack"
        " these parts themselves. Add them to the recipe, or drop the gather with"
        f" `ckd-cache drop CACHE --gather {name}`"
    )
