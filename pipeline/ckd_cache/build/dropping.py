"""Dropping teachers, targets and gathers from a cache, so that their space is free again.

What was gathered cannot be read without the kept ids of its whole group: it goes with any teacher
of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from ckd_cache.errors import IncompleteCacheError
from ckd_cache.format.identities import gather_name
from ckd_cache.format.journal import journal_identity, journal_keys
from ckd_cache.format.manifest import (
    GatherRecord,
    Manifest,
    SetRecord,
    TargetRecord,
    TeacherRecord,
)
from ckd_cache.format.paths import gather_folder, target_folder, teacher_folder
from ckd_cache.format.reader import open_cache
from ckd_cache.format.removal import read_removal
from ckd_cache.format.workspace import CacheWriter
from ckd_cache.types import JsonObject

__all__ = ["DropRequest", "Dropped", "drop_from_cache", "plan_drop"]

Kind: TypeAlias = Literal["teacher", "target", "gather"]
_MEMBER: Mapping[Kind, str] = {"teacher": "teachers", "target": "targets", "gather": "gathers"}
_FOLDER = {"teacher": teacher_folder, "target": target_folder, "gather": gather_folder}


@dataclass(frozen=True, slots=True)
class DropRequest:
    """What a person wants to be rid of.

    Attributes:
        teachers: names.
        targets: names.
        set_name: the set; None for every set that has the name.
        gathers: names; those of a dropped teacher's groups need not be among them.
    """

    teachers: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    set_name: str | None = None
    gathers: tuple[str, ...] = ()

    def names(self, kind: Kind) -> tuple[str, ...]:
        """Names of one kind."""
        found: tuple[str, ...] = getattr(self, _MEMBER[kind])
        return found


@dataclass(frozen=True, slots=True)
class Dropped:
    """A teacher, target or gather of one set.

    Attributes:
        kind: ``teacher``, ``target`` or ``gather``.
        name: its name.
        set_name: the set.
        folder: of all its parts.
        parts: finished ones.
        unfinished: parts that a build has begun and not finished.
        bytes: that its files take.
        orphans: stored targets made of it, which stay.
        unusable: targets that are only recorded and cannot be merged without it.
    """

    kind: Kind
    name: str
    set_name: str
    folder: str
    parts: int
    unfinished: int
    bytes: int
    orphans: tuple[str, ...] = ()
    unusable: tuple[str, ...] = ()


def plan_drop(cache: Path, request: DropRequest) -> list[Dropped]:
    """What would be dropped; changes nothing.

    Raises:
        CacheNotFoundError: there is no cache.
        IncompleteCacheError: there is no set, teacher, target or gather of a name; lists those
            there are.
        DamagedCacheError: the manifest is damaged.
    """
    return _resolve(cache, open_cache(cache).manifest, request, _given_up(cache))


def drop_from_cache(cache: Path, request: DropRequest) -> list[Dropped]:
    """Drop teachers, targets and gathers: one commit, and then their files are deleted.

    May be interrupted and called again: what is gone already is no unknown name then.

    Damaged files do not stand in the way. Targets keep all they have of a dropped teacher.

    Raises:
        CacheNotFoundError: there is no cache.
        CacheLockedError: another process is writing to it.
        IncompleteCacheError: there is no set, teacher, target or gather of a name; lists those
            there are.
        DamagedCacheError: the manifest is damaged, or a folder is a link.
        StorageError: the file system refused.
    """
    manifest, given_up = open_cache(cache).manifest, _given_up(cache)
    with CacheWriter.begin(cache) as writer:
        manifest = writer.manifest or manifest
        dropped = _resolve(cache, manifest, request, given_up)
        writer.drop(_manifest_without(manifest, dropped), [one.folder for one in dropped])
    return dropped


def _given_up(cache: Path) -> tuple[str, ...]:
    """Folders that an interrupted drop has not finished with."""
    removal = read_removal(cache)
    return () if removal is None else removal.folders


def _resolve(
    cache: Path, manifest: Manifest, request: DropRequest, given_up: Sequence[str]
) -> list[Dropped]:
    if request.set_name is not None and request.set_name not in manifest.sets:
        known = ", ".join(manifest.sets) or "none"
        message = f"{cache} has no set {request.set_name}; it has {known}."
        raise IncompleteCacheError(message)
    sets = [request.set_name] if request.set_name is not None else list(manifest.sets)
    chosen = {name: manifest.sets[name] for name in sets}
    rest = _Rest(cache, request, tuple(journal_keys(cache)), tuple(given_up))
    named = [one for kind in _MEMBER for one in _found(rest, chosen, kind)]
    folders = {one.folder for one in named}
    return named + [one for one in _going_along(rest, chosen) if one.folder not in folders]


@dataclass(frozen=True, slots=True)
class _Rest:
    """What is looked at besides the manifest.

    Attributes:
        cache: its folder.
        request: what is to be dropped.
        unfinished: parts that have a journal.
        given_up: folders that an interrupted drop has not finished with.
    """

    cache: Path
    request: DropRequest
    unfinished: tuple[str, ...]
    given_up: tuple[str, ...]

    def names(self, set_name: str, record: SetRecord, kind: Kind) -> list[str]:
        """Names that a set has, those begun and those half gone among them."""
        prefix = f"{set_name}/{_MEMBER[kind]}/"
        folders = [*self.unfinished, *self.given_up]
        others = [one.removeprefix(prefix) for one in folders if one.startswith(prefix)]
        others = [one.split("/")[0] for one in others]
        return list(dict.fromkeys([*_records(record, kind), *others]))

    def begun_group(self, set_name: str, gather: str) -> list[str]:
        """The group of a gather of which no part is finished; empty if none is begun either."""
        folder = f"{gather_folder(set_name, gather)}/"
        begun = [key for key in self.unfinished if key.startswith(folder)]
        return journal_identity(self.cache, begun[0])["group"] if begun else []


def _found(rest: _Rest, sets: Mapping[str, SetRecord], kind: Kind) -> Iterator[Dropped]:
    asked = rest.request.names(kind)
    names = {each: rest.names(each, record, kind) for each, record in sets.items()}
    for name in dict.fromkeys(asked):
        having = [each for each in sets if name in names[each]]
        if not having:
            known = dict.fromkeys(one for each in sets for one in names[each])
            where = "" if rest.request.set_name is None else f"set {rest.request.set_name} of "
            message = (
                f"No {kind} {name!r} in {where}{rest.cache}; there is "
                f"{', '.join(map(repr, known)) or 'none'}. Nothing was dropped."
            )
            raise IncompleteCacheError(message)
        for each in having:
            yield _dropped(rest, each, sets[each], kind, name)


def _going_along(rest: _Rest, sets: Mapping[str, SetRecord]) -> Iterator[Dropped]:
    """What was gathered for groups that a dropped teacher is in, unfinished gathers among it."""
    for each, record in sets.items():
        for name in rest.names(each, record, "gather"):
            gather = record.gathers.get(name)
            group = rest.begun_group(each, name) if gather is None else gather.group
            if set(group) & set(rest.request.teachers):
                yield _dropped(rest, each, record, "gather", name)


def _dropped(rest: _Rest, set_name: str, record: SetRecord, kind: Kind, name: str) -> Dropped:
    folder = _FOLDER[kind](set_name, name)
    stored = _records(record, kind).get(name)
    made_of = {
        target: made.stored
        for target, made in record.targets.items()
        if kind == "teacher" and name in made.teachers and target not in rest.request.targets
    }
    return Dropped(
        kind=kind,
        name=name,
        set_name=set_name,
        folder=folder,
        parts=0 if stored is None else len(stored.parts),
        unfinished=sum(key.startswith(f"{folder}/") for key in rest.unfinished),
        bytes=_bytes_below(rest.cache / folder),
        orphans=tuple(target for target, kept in made_of.items() if kept),
        unusable=tuple(target for target, kept in made_of.items() if not kept),
    )


def _records(
    record: SetRecord, kind: Kind
) -> Mapping[str, TeacherRecord | TargetRecord | GatherRecord]:
    found: Mapping[str, TeacherRecord | TargetRecord | GatherRecord]
    found = getattr(record, _MEMBER[kind])
    return found


def _manifest_without(manifest: Manifest, dropped: Sequence[Dropped]) -> Manifest:
    sets = dict(manifest.sets)
    for one in dropped:
        record, member = sets[one.set_name], _MEMBER[one.kind]
        kept = {n: r for n, r in _records(record, one.kind).items() if n != one.name}
        sets[one.set_name] = record.model_copy(update={member: kept})
    recipe = manifest.recipe
    complete = manifest.complete
    for one in dropped:
        if any(one.name in _records(record, one.kind) for record in sets.values()):
            # The recipe asks for it in every set, and one of them no longer has it.
            complete = False
        elif one.kind == "gather":
            recipe = _recipe_without_group(recipe, one.name)
        else:
            recipe = _recipe_without(recipe, _MEMBER[one.kind], one.name)
    return manifest.model_copy(update={"sets": sets, "recipe": recipe, "complete": complete})


def _recipe_without(recipe: JsonObject, member: str, name: str) -> JsonObject:
    if member not in recipe:
        return recipe
    return {**recipe, member: [one for one in recipe[member] if one["name"] != name]}


def _recipe_without_group(recipe: JsonObject, gather: str) -> JsonObject:
    """The recipe without the group that a gather was for: it is not whole any more."""
    if "gather" not in recipe:
        return recipe
    teacher = gather.partition(".")[0]
    groups = [one for one in recipe["gather"] if gather_name(teacher, one) != gather]
    return {**recipe, "gather": groups}


def _bytes_below(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
