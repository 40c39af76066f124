"""Measures a saved masked LM at the held-out slots of a cache."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers.utils import logging as transformers_logging

from ckd_cache.errors import StudentError
from ckd_cache.format.paths import support_part
from ckd_cache.format.reader import open_cache
from ckd_cache.progress import SILENT, Progress
from ckd_student.evaluation import HeldOut, Tally, evaluate_held_out, works_at_slots
from ckd_student.genres import GenreLookup
from ckd_student.models import check_fits, load_model, tokenizer_files
from ckd_student.stream import open_stream
from ckd_student.targets import check_target

__all__ = ["measure_folder"]


def measure_folder(
    folder: Path,
    cache: Path,
    set_name: str,
    split: str,
    target: str | None = None,
    *,
    batch_size: int = 32,
    progress: Progress = SILENT,
) -> Tally:
    """Sums over all slots of a split, for the masked LM in a folder.

    Args:
        folder: of the model and its tokenizer.
        cache: folder of the cache.
        set_name: the set.
        split: ``train``, ``fit`` or ``test``.
        target: also measure the KL to this target, or ``live:NAME``, at its temperature.
        batch_size: examples of a forward.
        progress: told how far it is.

    Raises:
        StudentError: there is no model, it has another vocabulary, or the split has no slot.
        CkdCacheError: the cache cannot be read, or lacks the set or the target.
    """
    if not folder.is_dir():
        message = f"{folder}: there is no such folder. Name the --output of ckd-student train."
        raise StudentError(message)
    reader = open_cache(cache)
    examples = reader.set(set_name)
    temperature = 1.0
    if target is not None:
        temperature = check_target(reader, set_name, target).temperature
    support = examples.support.record
    tokenizer_files(examples)  # so that damage is not mistaken for another tokenizer
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model = load_model(str(folder), cache / support_part(examples.record.support))
    check_fits(model, support.size, examples.record.segment_tokens)
    if torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())  # type: ignore[arg-type]
    stream = open_stream(
        cache, target=target, set_name=set_name, split=split, window=0, progress=progress
    )
    genres = GenreLookup(examples)
    genres.check(stream.numbers())
    held_out = HeldOut(stream, genres, support.size, support.pad_id)
    task = progress.task("evaluating", total=len(stream), unit="examples")
    tally = evaluate_held_out(
        model,
        held_out,
        batch_size=batch_size,
        temperature=temperature,
        at_slots=works_at_slots(model, stream, support.pad_id),
        on_examples=task.advance,
    )
    task.done()
    return tally
