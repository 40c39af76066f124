"""Targets by the name that they are asked for: stored ones, and live ones that are merged on use.

``NAME`` reads what the cache holds; ``live:NAME`` merges the teachers by the rule of that target
when a chunk is read, and needs nothing stored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from ckd_cache.errors import IncompleteCacheError
from ckd_cache.types import JsonObject, TargetArrays

if TYPE_CHECKING:
    from ckd_cache.format.manifest import TargetRecord
    from ckd_cache.format.reader import CacheReader

__all__ = ["ReadTarget", "check_target", "target_identity", "target_reading"]

ReadTarget: TypeAlias = Callable[[int, int], TargetArrays]
"""Gives the target of the examples from a first to one before a last."""

_LIVE = "live:"


def check_target(cache: CacheReader, set_name: str, target: str) -> TargetRecord:
    """Check that a set has a target at every example; its record.

    Args:
        cache: an open cache.
        set_name: the set.
        target: ``NAME`` or ``live:NAME``.

    Raises:
        IncompleteCacheError: there is no such set or target, or it lacks parts; of a live one, its
            teachers do.
        MergeError: a live one cannot be merged from what the cache holds.
        DamagedCacheError: the manifest says nothing sensible of it.
    """
    examples = cache.set(set_name)
    record, name = _record(cache, set_name, target), target.removeprefix(_LIVE)
    if target != name:
        from ckd_cache.merge.live import check_live

        check_live(cache, set_name, name)
        return record
    if not record.stored:
        message = (
            f"{cache.path}: target {name!r} of the set {set_name!r} is a rule that is only "
            f"recorded, and nothing of it is stored. Merge it at load time: --target {_LIVE}{name}."
        )
        raise IncompleteCacheError(message)
    parts = examples.record.parts
    lacking = [part.name for part in parts if part.name not in record.parts]
    if lacking:
        message = (
            f"{cache.path}: target {name!r} lacks {len(lacking)} of {len(parts)} "
            f"parts ({', '.join(lacking[:3])}{', …' if len(lacking) > 3 else ''}). "
            f"If the recipe asks for it, finish it with `ckd-cache build RECIPE --cache "
            f"{cache.path}`; if it was merged later, run the same `ckd-cache merge {cache.path} "
            f"--name {name} …` again."
        )
        raise IncompleteCacheError(message)
    return record


def target_reading(cache: CacheReader, set_name: str, target: str) -> ReadTarget:
    """What reads a target, a chunk at a time; not checked, as by ``check_target``.

    Args:
        cache: an open cache.
        set_name: the set.
        target: ``NAME`` or ``live:NAME``.

    Raises:
        IncompleteCacheError: there is no such set or target.
        MergeError: a live one cannot be merged from what the cache holds.
        DamagedCacheError: the manifest says nothing sensible of it.
    """
    _record(cache, set_name, target)
    name = target.removeprefix(_LIVE)
    if target == name:
        return cache.set(set_name).targets[name].read
    from ckd_cache.merge.live import live_target

    return live_target(cache, set_name, name).read


def target_identity(cache: CacheReader, set_name: str, target: str | None) -> JsonObject:
    """What a student depends on by its target: the same again gives the same numbers.

    Args:
        cache: an open cache.
        set_name: the set.
        target: ``NAME`` or ``live:NAME`` that ``check_target`` allows; None for none.

    Returns:
        ``target``, ``target_parts``, and of a live one ``target_rule``.
    """
    if target is None:
        return {"target": None, "target_parts": {}}
    record, name = _record(cache, set_name, target), target.removeprefix(_LIVE)
    if target == name:
        parts = {part: filled.fingerprint for part, filled in record.parts.items()}
        return {"target": target, "target_parts": parts}
    from ckd_cache.merge.live import live_identity

    made_of = live_identity(cache, set_name, name)
    return {"target": target, "target_rule": made_of.pop("rule"), "target_parts": made_of}


def _record(cache: CacheReader, set_name: str, target: str) -> TargetRecord:
    records = cache.set(set_name).record.targets
    name = target.removeprefix(_LIVE)
    if name in records:
        return records[name]
    known = ", ".join(sorted(records)) or "none"
    if not name:
        where = f" after {_LIVE}" if target else ""
        message = (
            f"{cache.path}: --target {target or repr(target)} lacks the name of a target{where}; "
            f"the set {set_name!r} has {known}. Give one: --target {target}NAME."
        )
        raise IncompleteCacheError(message)
    live = " --live" if target != name else ""
    message = (
        f"{cache.path}: there is no target {name!r} in the set {set_name!r}; it has {known}. "
        f"Choose one with --target, or make it: ckd-cache merge {cache.path} --name {name} …{live}"
    )
    raise IncompleteCacheError(message)
