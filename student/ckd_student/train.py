"""Trains a student from a recipe and a cache: read top to bottom, this is what `train` does."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import TrainingArguments
from transformers.utils import logging as transformers_logging

import ckd_cache
from ckd_cache.errors import StudentError
from ckd_cache.format.reader import open_cache
from ckd_cache.format.spec import MANIFEST_NAME
from ckd_cache.progress import SILENT, Progress
from ckd_cache.types import JsonObject
from ckd_student.arguments import training_arguments
from ckd_student.callbacks import GentleStop, stopping_gently
from ckd_student.claim import claimed
from ckd_student.evaluation import Scores
from ckd_student.failures import brief, storing
from ckd_student.models import tokenizer_files
from ckd_student.output import (
    RECORD_NAME,
    begin_output,
    check_finished,
    check_output,
    check_writable,
    damaged_record,
    newest_checkpoint,
    write_record,
)
from ckd_student.prepare import Job, prepared_trainer
from ckd_student.recipe import read_recipe
from ckd_student.request import TrainRequest, chosen_target, identity_of
from ckd_student.trainer import StudentTrainer

__all__ = ["StoppedEarly", "Trained", "train"]


class StoppedEarly(Exception):  # noqa: N818 - nothing is wrong
    """Training was asked to stop and did, with a checkpoint.

    Attributes:
        step: steps done.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped after step {step}")
        self.step = step


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained student.

    Attributes:
        output: its folder.
        steps: of the optimizer.
        held_out: at the slots of the recipe's ``data.evaluate``; None if that is ``none``.
        split: that split.
        trained_now: False if it had been finished before.
        speaks: whether this is the process that reports.
    """

    output: Path
    steps: int
    held_out: Scores | None
    split: str
    trained_now: bool = True
    speaks: bool = True


def train(request: TrainRequest, progress: Progress = SILENT) -> Trained:
    """Train a student; its folder then loads with ``AutoModelForMaskedLM.from_pretrained``.

    Raises:
        RecipeError: the recipe cannot be used as written.
        StudentError: the student cannot be made or trained as asked.
        MismatchError: ``resume`` was asked for, but the student was begun differently.
        IncompleteCacheError: the cache lacks the set, the target, or parts of it or its teachers.
        MergeError: a live target cannot be merged from what the cache holds.
        StoppedEarly: Ctrl-C; a checkpoint was written.
        StorageError: the folder of the student cannot be written.
        CkdCacheError: the cache cannot be read.
    """
    recipe = read_recipe(request.recipe, request.overrides)
    cache = open_cache(request.cache)
    examples = cache.set(recipe.data.set)
    target = chosen_target(request, recipe, cache)
    arguments = training_arguments(request.output, recipe, request.recipe)
    # One process speaks and writes; the others do the same work at the same time.
    speaks = arguments.should_save
    with claimed(request.output) if speaks else nullcontext():
        job = Job(request, recipe, examples, target, progress if speaks else SILENT)
        record = check_output(
            request.output,
            identity_of(request, recipe, cache, target),
            resume=request.resume,
            overwrite=request.overwrite,
        )
        if record["finished"]:
            return replace(_finished(job, record), speaks=speaks)
        if speaks:
            check_writable(request.output)
        with _quiet():
            return replace(_train(job, arguments, record), speaks=speaks)


def _train(job: Job, arguments: TrainingArguments, record: JsonObject) -> Trained:
    output = job.request.output
    manifest = json.loads((job.request.cache / MANIFEST_NAME).read_bytes())
    trainer = prepared_trainer(job, arguments)
    if not trainer.at_slots:
        job.progress.note("The model's head does not work at slots only: it runs on all tokens.")
    begun_before = (output / RECORD_NAME).is_file()
    _wait_for_all()
    if arguments.should_save:
        begin_output(output, record, overwrite=job.request.overwrite)
    _wait_for_all()
    with storing(output):
        _run(trainer, job.request, job.progress if begun_before else SILENT)
        tally = trainer.measure(job.progress)
        held_out = None if tally is None else tally.scores()
        _refuse_diverged(trainer.student, held_out, output)
        trainer.save_model()
        trained = Trained(output, trainer.state.global_step, held_out, job.recipe.data.evaluate)
        if arguments.should_save:
            result = _result(trained, job) | {"cache_digest": manifest["digest"]}
            write_record(output, {**record, **result})
    return trained


def _refuse_diverged(student: nn.Module, held_out: Scores | None, output: Path) -> None:
    if held_out is not None:
        found, finite = f"its held-out loss is {held_out.loss}", math.isfinite(held_out.loss)
    else:
        found = "some of its weights are infinite or no number"
        finite = all(bool(weight.isfinite().all()) for weight in student.parameters())
    if not finite:
        message = (
            f"{output}: the student diverged: {found}, expected finite numbers. "
            "Lower training.learning_rate (or use bf16 in place of fp16) and train anew with "
            "--overwrite."
        )
        raise StudentError(message)


def _run(trainer: StudentTrainer, request: TrainRequest, progress: Progress) -> None:
    checkpoint = newest_checkpoint(request.output) if request.resume else None
    if request.resume:
        found = "the beginning: there is no checkpoint yet" if checkpoint is None else checkpoint
        progress.note(f"going on from {found}")
    stop = GentleStop()
    trainer.add_callback(stop)
    with stopping_gently(stop), _reading(checkpoint):
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if stop.asked and trainer.state.global_step < trainer.state.max_steps:
        raise StoppedEarly(trainer.state.global_step)


@contextmanager
def _reading(checkpoint: Path | None) -> Iterator[None]:
    """Turn what readers of a damaged checkpoint raise into a StudentError."""
    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        damaged = any(name in str(error) for name in ("PytorchStreamReader", "deserializing"))
        if checkpoint is None or not damaged:
            raise
        message = (
            f"{checkpoint}: is damaged: {brief(error)}. Delete it; the same command with --resume "
            "then goes on from the one before."
        )
        raise StudentError(message) from error


def _result(trained: Trained, job: Job) -> JsonObject:
    scores = trained.held_out
    return {
        "finished": True,
        "steps": trained.steps,
        "held_out": None if scores is None else {"split": trained.split, **scores.to_json()},
        "recipe": job.recipe.model_dump(),
        "versions": {
            "ckd-cache": ckd_cache.__version__,
            "torch": version("torch"),
            "transformers": version("transformers"),
        },
    }


def _finished(job: Job, record: JsonObject) -> Trained:
    output = job.request.output
    check_finished(output, [path.name for path in tokenizer_files(job.examples)])
    stored = record.get("held_out")
    held_out = None
    if stored is not None:
        try:
            held_out = Scores(**{name: stored[name] for name in Scores.__slots__})
        except (KeyError, TypeError) as error:
            raise damaged_record(output, f"'held_out' is {stored!r}") from error
    split = job.recipe.data.evaluate
    return Trained(output, record["steps"], held_out, split, trained_now=False)


def _wait_for_all() -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()


@contextmanager
def _quiet() -> Iterator[None]:
    """No loading bars of transformers: they would cut through ours."""
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
