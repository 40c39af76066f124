"""Trains a student from a recipe and a cache: read top to bottom, this is what `train` does."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import TrainingArguments
from transformers.utils import logging as transformers_logging

import ckd_cache
from ckd_cache.errors import StudentError
from ckd_cache.format.paths import support_part
from ckd_cache.format.reader import SetReader
from ckd_cache.format.spec import MANIFEST_NAME
from ckd_cache.progress import SILENT, Progress
from ckd_cache.types import JsonObject
from ckd_student.callbacks import GentleStop, ReportProgress, stopping_gently
from ckd_student.chunks import open_set
from ckd_student.evaluation import HeldOut, Scores
from ckd_student.genres import GenreLookup
from ckd_student.models import make_model, tokenizer_files
from ckd_student.output import begin_output, check_output, newest_checkpoint, write_record
from ckd_student.recipe import TRAINING_DEFAULTS, StudentRecipe, read_recipe
from ckd_student.request import TrainRequest, chosen_target, identity_of
from ckd_student.stream import open_stream
from ckd_student.trainer import StudentData, StudentTrainer

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
        held_out: at the slots of the recipe's ``data.evaluate``.
        split: that split.
        trained_now: False if it had been finished before.
        speaks: whether this is the process that reports.
    """

    output: Path
    steps: int
    held_out: Scores
    split: str
    trained_now: bool = True
    speaks: bool = True


def train(request: TrainRequest, progress: Progress = SILENT) -> Trained:
    """Train a student; its folder then loads with ``AutoModelForMaskedLM.from_pretrained``.

    Raises:
        RecipeError: the recipe cannot be used as written.
        StudentError: the student cannot be made or trained as asked.
        MismatchError: ``resume`` was asked for, but the student was begun differently.
        IncompleteCacheError: the cache lacks the set, the target, or parts of it.
        StoppedEarly: Ctrl-C; a checkpoint was written.
        CkdCacheError: the cache cannot be read.
    """
    recipe = read_recipe(request.recipe, request.overrides)
    examples = open_set(request.cache, recipe.data.set)
    target = chosen_target(request, recipe, examples)
    identity = identity_of(request, recipe, examples, target)
    arguments = _arguments(request.output, recipe)
    record = check_output(
        request.output, identity, resume=request.resume, overwrite=request.overwrite
    )
    if record["finished"]:
        done = _finished(request.output, record, recipe.data.evaluate)
        return replace(done, speaks=arguments.should_save)
    # One process speaks; the others do the same work at the same time.
    shown = progress if arguments.should_save else SILENT
    begun_before = request.output.is_dir()  # Trainer makes it
    with _quiet():
        data = _data(request, recipe, examples, target, shown)
        model = make_model(
            recipe.model,
            request.recipe.parent,
            examples.support.record,
            request.cache / support_part(examples.record.support),
            examples.record.segment_tokens,
        )
        trainer = StudentTrainer(model, arguments, data, recipe.loss, [ReportProgress(shown)])
        if not trainer.at_slots:
            shown.note("The model's head does not work at slots only: it runs on all tokens.")
        _wait_for_all()
        if arguments.should_save:
            begin_output(request.output, record, overwrite=request.overwrite)
        _wait_for_all()
        _run(trainer, request, shown if begun_before else SILENT)
        held_out = trainer.measure(shown).scores()
        _refuse_diverged(held_out, request.output)
        trainer.save_model()
    trained = Trained(request.output, trainer.state.global_step, held_out, recipe.data.evaluate)
    if arguments.should_save:
        write_record(request.output, {**record, **_result(trained, request, recipe)})
    return replace(trained, speaks=arguments.should_save)


def _refuse_diverged(held_out: Scores, output: Path) -> None:
    if not math.isfinite(held_out.loss):
        message = (
            f"{output}: the student diverged: its held-out loss is {held_out.loss}, expected a "
            "finite number. Lower training.learning_rate (or use bf16 in place of fp16) and train "
            "anew with --overwrite."
        )
        raise StudentError(message)


def _run(trainer: StudentTrainer, request: TrainRequest, progress: Progress) -> None:
    checkpoint = newest_checkpoint(request.output) if request.resume else None
    if request.resume:
        found = "the beginning: there is no checkpoint yet" if checkpoint is None else checkpoint
        progress.note(f"going on from {found}")
    stop = GentleStop()
    trainer.add_callback(stop)
    with stopping_gently(stop):
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if stop.asked and trainer.state.global_step < trainer.state.max_steps:
        raise StoppedEarly(trainer.state.global_step)


def _arguments(output: Path, recipe: StudentRecipe) -> TrainingArguments:
    gpu = torch.accelerator.is_available()
    if not gpu and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(_usable_cores())
    given = {"dataloader_pin_memory": gpu, **TRAINING_DEFAULTS, **recipe.training}
    try:
        return TrainingArguments(
            output_dir=str(output),
            **{**given, "remove_unused_columns": False, "disable_tqdm": True},
        )
    except (ValueError, TypeError, ImportError) as error:
        message = f"transformers does not accept the section 'training' of the recipe: {error}"
        raise StudentError(message) from error


def _usable_cores() -> int:
    """Cores this process may run on: fewer than the machine's in a container or under taskset."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _data(
    request: TrainRequest,
    recipe: StudentRecipe,
    examples: SetReader,
    target: str | None,
    progress: Progress,
) -> StudentData:
    return StudentData(
        train=open_stream(
            request.cache,
            target=target,
            set_name=recipe.data.set,
            split=recipe.data.train,
            seed=recipe.data.seed,
            window=recipe.data.window,
            progress=progress,
        ),
        held_out=HeldOut(
            open_stream(
                request.cache,
                target=target,
                set_name=recipe.data.set,
                split=recipe.data.evaluate,
                window=0,
                progress=progress,
            ),
            GenreLookup(examples),
            examples.support.record.size,
            examples.support.record.pad_id,
        ),
        tokenizer_files=tokenizer_files(request.cache / support_part(examples.record.support)),
    )


def _result(trained: Trained, request: TrainRequest, recipe: StudentRecipe) -> JsonObject:
    manifest = json.loads((request.cache / MANIFEST_NAME).read_bytes())
    return {
        "finished": True,
        "steps": trained.steps,
        "held_out": {"split": trained.split, **trained.held_out.to_json()},
        "cache_digest": manifest["digest"],
        "recipe": recipe.model_dump(),
        "versions": {
            "ckd-cache": ckd_cache.__version__,
            "torch": version("torch"),
            "transformers": version("transformers"),
        },
    }


def _finished(output: Path, record: JsonObject, split: str) -> Trained:
    held_out = {name: value for name, value in record["held_out"].items() if name != "split"}
    return Trained(output, record["steps"], Scores(**held_out), split, trained_now=False)


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
