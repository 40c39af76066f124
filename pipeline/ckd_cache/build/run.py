"""Building: every stage of a recipe in order, each part committed when it is whole."""

from __future__ import annotations

from pathlib import Path

from ckd_cache.build.outcome import Outcome
from ckd_cache.build.planning import plan_teacher
from ckd_cache.build.recipe import Recipe
from ckd_cache.build.segments_stage import fill_segments
from ckd_cache.build.session import Session
from ckd_cache.build.slots_stage import fill_slots
from ckd_cache.build.target_stage import TargetRequest, fill_target
from ckd_cache.build.teacher_stage import PlannedTeacher, fill_teacher, resident
from ckd_cache.corpus.tokenizer import CorpusTokenizer, load_tokenizer
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
    tokenizers = _tokenizers(recipe, root)
    teachers = _planned(recipe, root, tokenizers)
    with CacheWriter.begin(cache) as writer:
        session = Session(writer, recipe.identity(), _provenance(recipe), progress)
        for name, set_recipe in recipe.each_set().items():
            fill_segments(session, recipe, root, name, set_recipe, tokenizers[name])
            fill_slots(session, name, set_recipe.objective)
        for planned in teachers:
            _fill_everywhere(session, planned)
        for target in recipe.targets:
            request = TargetRequest(
                name=target.name,
                weighting=target.weighting,
                tau=target.tau,
                temperature=target.temperature,
                top_k=target.top_k or recipe.capture.top_k,
                teachers=tuple(target.teachers or [teacher.name for teacher in recipe.teachers]),
            )
            for name in recipe.each_set():
                fill_target(session, name, request)
        session.finish()
        return Outcome.of(session.manifest, session.computed)


def _tokenizers(recipe: Recipe, root: Path) -> dict[str, CorpusTokenizer]:
    return {
        name: load_tokenizer(recipe.tokenizer_of(set_recipe), root)
        for name, set_recipe in recipe.each_set().items()
    }


def _planned(
    recipe: Recipe, root: Path, tokenizers: dict[str, CorpusTokenizer]
) -> list[dict[str, PlannedTeacher]]:
    """For each teacher of the recipe, how it runs on each set."""
    return [
        {
            name: plan_teacher(
                recipe, root, teacher, tokenizers[name], set_recipe.corpus.segment_tokens
            )
            for name, set_recipe in recipe.each_set().items()
        }
        for teacher in recipe.teachers
    ]


def _fill_everywhere(session: Session, by_set: dict[str, PlannedTeacher]) -> None:
    for name, teacher in by_set.items():
        with resident(teacher) as get:
            fill_teacher(session, name, teacher, get)


def _provenance(recipe: Recipe) -> JsonObject:
    from ckd_cache import __version__

    return {"ckd_cache": __version__, "runtime": recipe.runtime.model_dump(mode="json")}
