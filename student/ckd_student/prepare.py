"""Makes everything that a training run needs, writing nothing: what cannot work fails here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel, TrainingArguments

from ckd_cache.errors import RecipeError, StudentError
from ckd_cache.format.paths import support_part
from ckd_cache.format.reader import SetReader
from ckd_cache.progress import Progress
from ckd_student.arguments import check_steps, training_error
from ckd_student.callbacks import ReportProgress
from ckd_student.evaluation import HeldOut
from ckd_student.fresh import named_fields
from ckd_student.genres import GenreLookup
from ckd_student.models import make_model, tokenizer_files
from ckd_student.recipe import StudentRecipe
from ckd_student.request import TrainRequest
from ckd_student.stream import ExampleStream, open_stream
from ckd_student.trainer import StudentData, StudentTrainer

__all__ = ["Job", "prepared_trainer"]


@dataclass(frozen=True, slots=True)
class Job:
    """What was asked for, as read.

    Attributes:
        request: from the command line.
        recipe: of the student.
        examples: the set of the cache.
        target: its target, as it was named; None for a student that learns from gold alone.
        progress: told how far it is.
    """

    request: TrainRequest
    recipe: StudentRecipe
    examples: SetReader
    target: str | None
    progress: Progress


def prepared_trainer(job: Job, arguments: TrainingArguments) -> StudentTrainer:
    """The trainer before its first step; the cache and the recipe have been tried on each other.

    Args:
        job: what was asked for.
        arguments: of transformers' Trainer.

    Raises:
        RecipeError: the recipe cannot be used as written.
        StudentError: the model cannot be loaded, or does not fit the cache.
        CkdCacheError: the cache cannot be read.
    """
    files = tokenizer_files(job.examples)
    where, given = job.request.recipe, job.recipe.training
    model = _model(job)
    check_steps(arguments, model, given, where)
    data = _data(job, files)
    callbacks = [ReportProgress(job.progress)]
    try:
        return StudentTrainer(model, arguments, data, job.recipe.loss, callbacks)
    except (ImportError, TypeError, ValueError) as error:
        raise training_error(where, given, error, []) from error
    except StudentError as error:
        config = job.recipe.model.config
        if config is None or arguments.n_gpu > 1:
            raise
        named = named_fields(config, (name for name in config if name != "model_type"))
        message = f"{where}: {named}: {error}"
        raise RecipeError(message) from error


def _model(job: Job) -> PreTrainedModel:
    try:
        return make_model(
            job.recipe.model,
            job.request.recipe.parent,
            job.examples.support.record,
            job.request.cache / support_part(job.examples.record.support),
            job.examples.record.segment_tokens,
        )
    except RecipeError as error:
        message = f"{job.request.recipe}: {error}"
        raise RecipeError(message) from error


def _data(job: Job, files: list[Path]) -> StudentData:
    recipe, support = job.recipe.data, job.examples.support.record
    return StudentData(
        train=_stream(job, recipe.train, recipe.window),
        held_out=None if recipe.evaluate == "none" else _held_out(job),
        support_size=support.size,
        pad_id=support.pad_id,
        tokenizer_files=files,
    )


def _held_out(job: Job) -> HeldOut:
    support = job.examples.support.record
    stream = _stream(job, job.recipe.data.evaluate, 0)
    genres = GenreLookup(job.examples)
    genres.check(stream.numbers())
    return HeldOut(stream, genres, support.size, support.pad_id)


def _stream(job: Job, split: str, window: int) -> ExampleStream:
    return open_stream(
        job.request.cache,
        target=job.target,
        set_name=job.recipe.data.set,
        split=split,
        seed=job.recipe.data.seed,
        window=window,
        progress=job.progress,
    )
