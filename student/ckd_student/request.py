"""What is asked of a training run, and what its student then depends on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ckd_cache.errors import RecipeError, StudentError
from ckd_cache.fingerprint import hash_file
from ckd_cache.format.reader import CacheReader
from ckd_cache.types import JsonObject
from ckd_student.models import origin_folder
from ckd_student.recipe import StudentRecipe
from ckd_student.targets import check_target, target_identity
from ckd_student.training_section import TRAINING_DEFAULTS

__all__ = ["TrainRequest", "chosen_target", "identity_of"]

_RUNTIME_PREFIXES = ("dataloader_", "ddp_", "eval_", "hub_", "log", "per_device_eval_", "report_to",
                     "run_name", "save_", "torch_compile", "use_cpu")  # fmt: skip
"""Arguments of training that may change when a run is resumed."""


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """What to train.

    Attributes:
        recipe: file of the recipe.
        cache: folder of the cache.
        target: name of the target, or ``live:NAME`` to merge it as it is read; None only if the
            recipe's ``loss.distill`` is 0.
        output: folder of the student.
        overrides: ``a.b=c`` over the recipe.
        resume: go on with what ``output`` holds.
        overwrite: delete the student that ``output`` holds.
    """

    recipe: Path
    cache: Path
    target: str | None
    output: Path
    overrides: Sequence[str] = ()
    resume: bool = False
    overwrite: bool = False


def chosen_target(request: TrainRequest, recipe: StudentRecipe, cache: CacheReader) -> str | None:
    """The target to read along; None for a student that learns from gold alone.

    Raises:
        RecipeError: no target was named.
        StudentError: the target was made at another temperature than the loss's.
        IncompleteCacheError: the cache has no such target, or it or its teachers lack parts.
        MergeError: a live target cannot be merged from what the cache holds.
    """
    if recipe.loss.distill == 0.0:
        return None
    if request.target is None:
        known = ", ".join(sorted(cache.set(recipe.data.set).record.targets)) or "none"
        message = (
            f"{request.recipe}: loss.distill is {recipe.loss.distill:g}, which needs a target. "
            f"Name one with --target ({request.cache} has {known}), or set loss.distill to 0."
        )
        raise RecipeError(message)
    made_at = check_target(cache, recipe.data.set, request.target).temperature
    if made_at != recipe.loss.temperature:
        message = (
            f"{request.recipe}: loss.temperature is {recipe.loss.temperature:g}, but target "
            f"{request.target!r} of {request.cache} was made at temperature {made_at:g}. Set "
            f"loss.temperature to {made_at:g}, or merge a target at "
            f"{recipe.loss.temperature:g}."
        )
        raise StudentError(message)
    return request.target


def identity_of(
    request: TrainRequest, recipe: StudentRecipe, cache: CacheReader, target: str | None
) -> JsonObject:
    """What a student depends on: the same again gives the same student.

    Args:
        request: what was asked for.
        recipe: as read.
        cache: as opened.
        target: as `chosen_target` gives it.
    """
    record = cache.set(recipe.data.set).record
    training = {
        name: value
        for name, value in {**TRAINING_DEFAULTS, **recipe.training}.items()
        if not name.startswith(_RUNTIME_PREFIXES)
    }
    return {
        "support": record.support,
        "examples": {part.name: part.fingerprint for part in record.parts},
        **target_identity(cache, recipe.data.set, target),
        "model": {**recipe.model.model_dump(), "weights": _weights(request, recipe)},
        "loss": recipe.loss.model_dump(),
        "data": recipe.data.model_dump(),
        "training": training,
    }


def _weights(request: TrainRequest, recipe: StudentRecipe) -> JsonObject:
    """sha256 of the weight files of a local model to start from."""
    if recipe.model.path is None:
        return {}
    folder = origin_folder(recipe.model.path, request.recipe.parent)
    return {path.name: hash_file(path) for path in sorted(folder.glob("*.safetensors"))}
