"""Building: every stage of a recipe in order, each part committed when it is whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ckd_cache.build.gather_requests import gather_requests
from ckd_cache.build.gather_stage import fill_gathers
from ckd_cache.build.memory import keep_memory_flat
from ckd_cache.build.outcome import Outcome
from ckd_cache.build.plan import BuildPlan, plan_build, refuse_changes
from ckd_cache.build.recipe import Recipe
from ckd_cache.build.segments_stage import fill_segments
from ckd_cache.build.session import Session
from ckd_cache.build.slots_stage import fill_slots
from ckd_cache.build.target_growth import fill_targets
from ckd_cache.build.target_request import TargetRequest
from ckd_cache.build.teacher_stage import (
    fill_teacher,
    resident,
)
from ckd_cache.build.twin_slots_stage import fill_twin_slots
from ckd_cache.build.twin_stage import fill_twin_segments
from ckd_cache.format.manifest import SetRecord
from ckd_cache.format.presence import refuse_missing_files
from ckd_cache.format.reader import open_cache
from ckd_cache.format.workspace import CacheWriter
from ckd_cache.progress import SILENT, Progress
from ckd_cache.types import JsonObject

__all__ = ["build_cache"]


def build_cache(recipe: Recipe, root: Path, cache: Path, progress: Progress = SILENT) -> Outcome:
    """Make everything that a recipe asks for and a cache lacks.

    May be interrupted anywhere and called again: finished shards are not computed twice, and the
    bytes are those of an uninterrupted build under the same execution profile.

    Args:
        recipe: what to build.
        root: folder that the recipe's relative paths are relative to.
        cache: folder of the cache, made if it is not there.
        progress: who listens.

    Raises:
        CkdCacheError: whatever stands in the way; what is committed is kept.
    """
    keep_memory_flat()
    plan = plan_build(recipe, root, progress)
    with CacheWriter.begin(cache) as writer:
        if writer.manifest is not None:
            refuse_missing_files(open_cache(cache))
        session = Session(
            writer,
            recipe.identity(),
            _provenance(recipe),
            progress,
            threads=recipe.runtime.threads,
        )
        refuse_changes(session.manifest, plan)
        for name, cut in plan.cuts.items():
            fill_segments(session, cut)
            fill_slots(session, name, plan.objectives[name])
        for twin in plan.twins.values():
            fill_twin_segments(session, twin)
            fill_twin_slots(session, twin.set_name)
        for by_set in plan.teachers:
            for name, teacher in by_set.items():
                with resident(teacher) as get:
                    fill_teacher(session, name, teacher, get)
        _fill_gathers(session, plan, recipe)
        whole = [
            fill_targets(session, name, _requests(plan, session.record(name), recipe))
            for name in plan.cuts
        ]
        session.finish(complete=all(whole))
        return Outcome.of(session.manifest, session.computed)


def _fill_gathers(session: Session, plan: BuildPlan, recipe: Recipe) -> None:
    """Run again the teachers whose logprobs others need, once all have been captured."""
    names = [teacher.name for teacher in recipe.teachers]
    due = {
        name: gather_requests(
            name,
            session.record(name),
            recipe.gather or [],
            _requests(plan, session.record(name), recipe),
            names,
            session.progress,
        )
        for name in plan.cuts
    }
    for by_set in plan.teachers:
        for name, teacher in by_set.items():
            with resident(teacher) as get:
                fill_gathers(session, name, teacher, get, due.get(name, []))


def _requests(plan: BuildPlan, record: SetRecord, recipe: Recipe) -> list[TargetRequest]:
    """The targets of a set; a new one that names no teachers takes all of the recipe."""
    everyone = tuple(teacher.name for teacher in recipe.teachers)
    return [
        request
        if request.teachers or request.name in record.targets
        else replace(request, teachers=everyone)
        for request in plan.targets
    ]


def _provenance(recipe: Recipe) -> JsonObject:
    from ckd_cache import __version__

    return {"ckd_cache": __version__, "runtime": recipe.runtime.model_dump(mode="json")}
