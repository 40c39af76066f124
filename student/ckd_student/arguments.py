"""The arguments of transformers' Trainer, checked as far as can be before the first step."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel, Trainer, TrainingArguments, get_scheduler

from ckd_cache.errors import RecipeError
from ckd_cache.types import JsonObject, JsonValue
from ckd_student.failures import brief
from ckd_student.recipe import StudentRecipe
from ckd_student.training_section import TRAINING_DEFAULTS

__all__ = ["check_steps", "training_arguments", "training_error"]

_REFUSALS = (
    AttributeError,
    ImportError,  # an optimizer, or deepspeed, that is not installed
    KeyError,
    OSError,  # a file that the section names
    TypeError,
    ValueError,
    ZeroDivisionError,
)
_OF_MODEL = {"model", "params", "optimizer_dict"}
_SOME_STEPS = 10


def training_arguments(output: Path, recipe: StudentRecipe, where: Path) -> TrainingArguments:
    """The arguments that a recipe asks for.

    Args:
        output: folder of the student.
        recipe: as read.
        where: its file, for messages.

    Raises:
        RecipeError: transformers refuses them, or they need a held-out loss that
            ``data.evaluate`` leaves out.
    """
    gpu = torch.accelerator.is_available()
    if not gpu and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(_usable_cores())
    silent = {"dataloader_pin_memory": gpu, **TRAINING_DEFAULTS}
    try:
        arguments = _made(output, {**silent, **recipe.training})
    except _REFUSALS as error:
        names = _culprits(output, silent, recipe.training)
        raise training_error(where, recipe.training, error, names) from error
    if recipe.data.evaluate == "none":
        _check_unmeasured(arguments, where)
    return arguments


def check_steps(
    arguments: TrainingArguments, model: PreTrainedModel, given: JsonObject, where: Path
) -> None:
    """Check that the optimizer and its schedule can be made, with one number for weights.

    Args:
        arguments: of the Trainer.
        model: that is trained.
        given: the section ``training`` of the recipe.
        where: the recipe's file, for messages.

    Raises:
        RecipeError: they cannot, or the model cannot do what they ask for.
    """
    for name in ("activation_checkpointing", "gradient_checkpointing"):
        if getattr(arguments, name, False) and not model.supports_gradient_checkpointing:
            message = f"{where}: training.{name}: {type(model).__name__} cannot do it"
            raise RecipeError(message)
    if arguments.deepspeed:
        return
    weight = nn.Parameter(torch.zeros(1, device=arguments.device))
    try:
        optimizer, fields = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
        fields = {name: value for name, value in fields.items() if name not in _OF_MODEL}
        get_scheduler(
            arguments.lr_scheduler_type,
            optimizer([weight], **fields),
            num_warmup_steps=arguments.get_warmup_steps(_SOME_STEPS),
            num_training_steps=_SOME_STEPS,
            scheduler_specific_kwargs=arguments.lr_scheduler_kwargs,  # type: ignore[arg-type]
        )
    except _REFUSALS as error:
        names = [name for name in given if name.startswith(("optim", "lr_", "adam", "warmup"))]
        raise training_error(where, given, error, names) from error


def training_error(
    where: Path, given: Mapping[str, JsonValue], error: BaseException, names: list[str]
) -> RecipeError:
    """The error that transformers refuses the section ``training``.

    Args:
        where: the recipe's file.
        given: the section.
        error: what transformers raised.
        names: of the fields that are to blame; empty if that is not known.
    """
    named = ", ".join(f"training.{name} ({given[name]!r})" for name in names or given)
    message = f"{where}: {named or 'training'}: transformers refuses this: {brief(error)}"
    return RecipeError(message)


def _made(output: Path, given: JsonObject) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(output),
        **{**given, "remove_unused_columns": False, "disable_tqdm": True},
    )


def _culprits(output: Path, silent: JsonObject, given: JsonObject) -> list[str]:
    """The given fields without which, or else because of which alone, nothing can be made."""
    without = [
        name
        for name in given
        if _works(output, silent | {other: given[other] for other in given if other != name})
    ]
    return without or [name for name in given if not _works(output, {**silent, name: given[name]})]


def _works(output: Path, given: JsonObject) -> bool:
    try:
        _made(output, given)
    except _REFUSALS:
        return False
    return True


def _check_unmeasured(arguments: TrainingArguments, where: Path) -> None:
    name = "eval_on_start" if arguments.eval_on_start else "eval_strategy"
    if arguments.eval_on_start or arguments.eval_strategy != "no":
        message = (
            f"{where}: training.{name} asks for the held-out loss, but data.evaluate is 'none'. "
            f"Leave {name} out, or name a split in data.evaluate."
        )
        raise RecipeError(message)


def _usable_cores() -> int:
    """Cores this process may run on: fewer than the machine's in a container or under taskset."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
