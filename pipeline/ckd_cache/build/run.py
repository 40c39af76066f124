"""Building: every stage of a recipe in order, each part committed when it is whole."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ckd_cache.build.memory import keep_memory_flat
from ckd_cache.build.outcome import Outcome
from ckd_cache.build.planning import find_teacher, plan_teacher
from ckd_cache.build.recipe import MaskedLm, Recipe, Target
from ckd_cache.build.segments_stage import Cut, fill_segments, plan_segments
from ckd_cache.build.session import Session
from ckd_cache.build.slots_stage import check_slots, fill_slots
from ckd_cache.build.target_stage import TargetRequest, check_target, fill_target, request_of
from ckd_cache.build.teacher_stage import (
    PlannedTeacher,
    check_teacher_record,
    fill_teacher,
    resident,
)
from ckd_cache.corpus.tokenizer import load_tokenizer
from ckd_cache.format.manifest import Manifest
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
    plan = _plan(recipe, root, progress)
    with CacheWriter.begin(cache) as writer:
        if writer.manifest is not None:
            refuse_missing_files(open_cache(cache))
        session = Session(writer, recipe.identity(), _provenance(recipe), progress)
        _refuse_changes(session.manifest, plan)
        for name, cut in plan.cuts.items():
            fill_segments(session, cut)
            fill_slots(session, name, plan.objectives[name])
        for by_set in plan.teachers:
            for name, teacher in by_set.items():
                with resident(teacher) as get:
                    fill_teacher(session, name, teacher, get)
        for name in plan.cuts:
            for request in plan.targets:
                fill_target(session, name, _with_teachers(request, session, name, recipe))
            _fill_others(session, name)
        session.finish()
        return Outcome.of(session.manifest, session.computed)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Everything a recipe asks for, found, hashed and checked, with no model loaded.

    Attributes:
        cuts: by set.
        objectives: by set.
        teachers: for each teacher of the recipe, how it runs on each set.
        targets: of every set.
    """

    cuts: dict[str, Cut]
    objectives: dict[str, MaskedLm]
    teachers: list[dict[str, PlannedTeacher]]
    targets: list[TargetRequest]


def _plan(recipe: Recipe, root: Path, progress: Progress) -> _Plan:
    sets = recipe.each_set()
    tokenizers = {}
    for name, set_recipe in sets.items():
        tokenizer, revision = recipe.tokenizer_of(set_recipe)
        tokenizers[name] = load_tokenizer(tokenizer, root, revision=revision)
    teachers = []
    for teacher in recipe.teachers:
        files = find_teacher(root, teacher, progress)
        teachers.append(
            {
                name: plan_teacher(
                    recipe, teacher, files, tokenizers[name], set_recipe.corpus.segment_tokens
                )
                for name, set_recipe in sets.items()
            }
        )
    return _Plan(
        cuts={name: plan_segments(recipe, root, name, tokenizers[name], progress) for name in sets},
        objectives={name: set_recipe.objective for name, set_recipe in sets.items()},
        teachers=teachers,
        targets=[_request(target, recipe) for target in recipe.targets],
    )


def _request(target: Target, recipe: Recipe) -> TargetRequest:
    return TargetRequest(
        name=target.name,
        weighting=target.weighting,
        tau=target.tau,
        temperature=target.temperature,
        top_k=target.top_k or recipe.capture.top_k,
        teachers=tuple(target.teachers) if target.teachers else None,
    )


def _with_teachers(
    request: TargetRequest, session: Session, set_name: str, recipe: Recipe
) -> TargetRequest:
    """The request; a new target that names no teachers takes all of the recipe."""
    if request.teachers or request.name in session.record(set_name).targets:
        return request
    return replace(request, teachers=tuple(teacher.name for teacher in recipe.teachers))


def _refuse_changes(manifest: Manifest, plan: _Plan) -> None:
    """Compare all that the cache has with the plan, before anything is computed or written."""
    for name, cut in plan.cuts.items():
        record = manifest.sets.get(name)
        if record is None:
            continue
        check_segments(cut, record)
        check_slots(name, record, plan.objectives[name])
        for by_set in plan.teachers:
            check_teacher_record(name, record, by_set[name])
        for request in plan.targets:
            check_target(name, record, cut.layout.support_size, request)


def _fill_others(session: Session, set_name: str) -> None:
    """Bring targets that the recipe does not name, such as merged ones, to parts that are new."""
    record = session.record(set_name)
    parts = {part.name for part in record.parts}
    for name, target in record.targets.items():
        if parts <= set(target.parts):
            continue
        if all(parts <= set(record.teachers[teacher].parts) for teacher in target.teachers):
            fill_target(session, set_name, request_of(name, target))
        else:
            session.progress.note(
                f"target {name} lacks the new parts: not all of its teachers "
                f"({', '.join(target.teachers)}) are in the recipe"
            )


def _provenance(recipe: Recipe) -> JsonObject:
    from ckd_cache import __version__

    return {"ckd_cache": __version__, "runtime": recipe.runtime.model_dump(mode="json")}
