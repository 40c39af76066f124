"""Everything a recipe asks for, found and checked, and held against what a cache has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ckd_cache.build.increments import check_increments
from ckd_cache.build.planning import find_teacher, plan_teacher
from ckd_cache.build.recipe import MaskedLm, Recipe
from ckd_cache.build.segments_stage import Cut, plan_segments
from ckd_cache.build.slots_stage import check_slots
from ckd_cache.build.support_stage import support_identity
from ckd_cache.build.target_growth import check_target_teachers
from ckd_cache.build.target_request import TargetRequest, request_in_recipe
from ckd_cache.build.target_stage import check_target
from ckd_cache.build.teacher_stage import PlannedTeacher, check_teacher_record
from ckd_cache.build.twin_planning import TwinCut, check_twin, plan_twins
from ckd_cache.corpus.tokenizer import load_tokenizer
from ckd_cache.format.manifest import Manifest, SetRecord
from ckd_cache.progress import Progress

__all__ = ["BuildPlan", "plan_build", "refuse_changes"]


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """Everything a recipe asks for, found, hashed and checked, with no model loaded.

    Attributes:
        cuts: by set.
        objectives: by set.
        teachers: for each teacher of the recipe, how it runs on each set, or on each twin set.
        targets: of every set.
        twins: by twin set.
    """

    cuts: dict[str, Cut]
    objectives: dict[str, MaskedLm]
    teachers: list[dict[str, PlannedTeacher]]
    targets: list[TargetRequest]
    twins: dict[str, TwinCut]


def plan_build(recipe: Recipe, root: Path, progress: Progress) -> BuildPlan:
    """Find, hash and check everything that a recipe names; no model is loaded.

    Args:
        recipe: what to build.
        root: folder that the recipe's relative paths are relative to.
        progress: who listens.

    Raises:
        CkdCacheError: something is not there, or cannot do what the recipe wants of it.
    """
    sets = recipe.each_set()
    tokenizers = {}
    for name, set_recipe in sets.items():
        tokenizer, revision = recipe.tokenizer_of(set_recipe)
        tokenizers[name] = load_tokenizer(tokenizer, root, revision=revision)
    files = {one.name: find_teacher(root, one, progress) for one in recipe.teachers}
    planned = {
        teacher.name: {
            name: plan_teacher(
                recipe,
                teacher,
                files[teacher.name],
                tokenizers[name],
                set_recipe.corpus.segment_tokens,
            )
            for name, set_recipe in sets.items()
        }
        for teacher in recipe.teachers
        if teacher.tokenizer != "twin"
    }
    cuts = {name: plan_segments(recipe, root, name, tokenizers[name], progress) for name in sets}
    twins = plan_twins(recipe, cuts, files)
    planned.update(twins.teachers)
    return BuildPlan(
        cuts=cuts,
        objectives={name: set_recipe.objective for name, set_recipe in sets.items()},
        teachers=[planned[teacher.name] for teacher in recipe.teachers],
        targets=[request_in_recipe(one, recipe.capture.top_k) for one in recipe.targets],
        twins=twins.cuts,
    )


def refuse_changes(manifest: Manifest, plan: BuildPlan) -> None:
    """Compare all that a cache has with a plan, before anything is computed or written.

    Raises:
        MismatchError: something is not what the cache was built from; names it.
    """
    for name, cut in plan.cuts.items():
        record = manifest.sets.get(name)
        if record is None:
            continue
        support = support_identity(cut.tokenizer)
        check_increments(name, record, cut.identity, cut.layout, support)
        check_slots(name, record, plan.objectives[name])
        _check_teachers(name, record, plan)
        for request in plan.targets:
            check_target(name, record, cut.layout.support_size, request)
        twins = [twin for twin, one in plan.twins.items() if one.cut.set_name == name]
        planned = {
            by_set[one].name: (one, by_set[one].identity)
            for by_set in plan.teachers
            for one in (name, *twins)
            if one in by_set
        }
        check_target_teachers(manifest, name, planned)
    for name, twin in plan.twins.items():
        record = manifest.sets.get(name)
        if record is not None:
            check_twin(twin, manifest.sets[twin.cut.set_name], record)
            _check_teachers(name, record, plan)


def _check_teachers(name: str, record: SetRecord, plan: BuildPlan) -> None:
    for by_set in plan.teachers:
        if name in by_set:
            check_teacher_record(name, record, by_set[name])
