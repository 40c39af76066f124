"""Teachers of a recipe, checked before anything long is begun."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ckd_cache.build.identity import teacher_identity
from ckd_cache.build.profile import threads
from ckd_cache.build.recipe import Recipe, Teacher
from ckd_cache.build.teacher_stage import PlannedTeacher
from ckd_cache.corpus.tokenizer import CorpusTokenizer
from ckd_cache.format.spec import capture_of
from ckd_cache.teachers.device import device_of
from ckd_cache.teachers.identity import teacher_files
from ckd_cache.teachers.load import TeacherSpec, check_teacher, load_teacher
from ckd_cache.teachers.tokens import ExpectedSupport

__all__ = ["expected_support", "plan_teacher"]


def expected_support(tokenizer: CorpusTokenizer) -> ExpectedSupport:
    """What the distributions of every teacher of a set must be over."""
    return ExpectedSupport(tokenizer.token_strings, tokenizer.special)


def plan_teacher(
    recipe: Recipe, root: Path, teacher: Teacher, tokenizer: CorpusTokenizer, segment_tokens: int
) -> PlannedTeacher:
    """Find a teacher, hash it, and check that it can do what the recipe wants of it.

    Raises:
        TeacherError: it cannot be found, or does not fit the corpus.
        RecipeError: ``runtime.device`` names no device.
    """
    files = teacher_files(
        teacher.name,
        teacher.model,
        teacher.revision,
        root,
        remote_code=teacher.trust_remote_code,
    )
    spec = TeacherSpec(
        name=teacher.name,
        dtype=teacher.dtype,
        attention=teacher.attention,
        corpus_ids=teacher.tokenizer == "corpus",
        trust_remote_code=teacher.trust_remote_code,
    )
    support = expected_support(tokenizer)
    structure = check_teacher(spec, files.folder, support, segment_tokens)
    capture = recipe.capture
    kept = capture_of(min(capture.top_k, support.size), capture.temperatures, capture.max_nats)
    identity = teacher_identity(files.weights, files.config, teacher, capture)
    device = recipe.runtime.device
    return PlannedTeacher(
        name=teacher.name,
        model=teacher.model,
        identity={**identity, "attention": structure.attention, "top_k": kept.k},
        capture=kept,
        device=str(device_of(device)),
        batch_tokens=recipe.runtime.batch_tokens,
        threads=threads(recipe.runtime.threads),
        load=partial(load_teacher, spec, files.folder, device, support, segment_tokens),
    )
