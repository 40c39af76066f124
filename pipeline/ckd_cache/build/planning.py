"""Teachers of a recipe, checked before anything long is begun."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ckd_cache.build.identity import teacher_identity
from ckd_cache.build.profile import threads
from ckd_cache.build.recipe import Recipe, Teacher
from ckd_cache.build.teacher_stage import PlannedTeacher
from ckd_cache.corpus.tokenizer import CorpusTokenizer
from ckd_cache.errors import RecipeError
from ckd_cache.format.spec import capture_of
from ckd_cache.progress import Progress
from ckd_cache.teachers.device import device_of
from ckd_cache.teachers.identity import TeacherFiles, teacher_files
from ckd_cache.teachers.load import TeacherSpec, check_teacher, load_teacher
from ckd_cache.teachers.tokens import ExpectedSupport

__all__ = ["expected_support", "find_teacher", "plan_teacher"]


def expected_support(tokenizer: CorpusTokenizer) -> ExpectedSupport:
    """What the distributions of every teacher of a set must be over."""
    return ExpectedSupport(tokenizer.token_strings, tokenizer.special)


def find_teacher(root: Path, teacher: Teacher, progress: Progress) -> TeacherFiles:
    """Find a teacher and hash its files.

    Raises:
        TeacherError: it cannot be found or read.
    """
    task = progress.task(f"hashing teacher {teacher.name}", total=1, unit="teachers")
    files = teacher_files(
        teacher.name,
        teacher.model,
        teacher.revision,
        root,
        remote_code=teacher.trust_remote_code,
    )
    task.advance()
    task.done()
    return files


_LARGEST_CHUNK = 2**31 - 2**20
"""Bytes: what Blosc takes in one piece, less its own."""
_WIDEST = 4


def _check_chunk(recipe: Recipe, k: int) -> None:
    slots = recipe.shards.chunk_slots
    if slots * k * _WIDEST > _LARGEST_CHUNK:
        message = (
            f"shards.chunk_slots: {slots} slots of {k} kept entries are a chunk of"
            f" {slots * k * _WIDEST:,} bytes, expected at most {_LARGEST_CHUNK:,}. Set"
            f" shards.chunk_slots to {_LARGEST_CHUNK // (k * _WIDEST)} or less, or capture.top_k"
            " lower."
        )
        raise RecipeError(message)


def _widest(recipe: Recipe) -> int:
    """How many teachers' kept ids one slot of an array can hold: by gathering, several."""
    exact = [one.teachers or recipe.teachers for one in recipe.targets if one.missing == "exact"]
    return max(1, *(len(group) - 1 for group in [*(recipe.gather or []), *exact, []]))


def plan_teacher(
    recipe: Recipe,
    teacher: Teacher,
    files: TeacherFiles,
    tokenizer: CorpusTokenizer,
    segment_tokens: int,
) -> PlannedTeacher:
    """Check that a teacher can do what the recipe wants of it on one set.

    Raises:
        TeacherError: it does not fit the corpus.
        RecipeError: ``runtime.device`` names no device, or a chunk would be too large.
    """
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
    kept = capture_of(
        min(capture.top_k, support.size), capture.temperatures, capture.max_nats, capture.top_p
    )
    _check_chunk(recipe, min(kept.k * _widest(recipe), support.size))
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
        insisted=frozenset({"batch_tokens", "threads"} & recipe.runtime.model_fields_set),
        load=partial(load_teacher, spec, files.folder, device, support, segment_tokens),
    )
