"""The folder of a student: what may be written where, and what it says about its origin.

runs/student/
    config.json, model.safetensors       the trained model, plain transformers
    tokenizer.json, …                     copied from the cache
    ckd_student.json                      where it comes from, how far it got, how good it is
    checkpoint-500/                       of transformers.Trainer
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from ckd_cache.errors import MismatchError, StorageError, StudentError
from ckd_cache.fingerprint import differences
from ckd_cache.types import JsonObject

__all__ = [
    "RECORD_NAME",
    "begin_output",
    "check_output",
    "copy_files",
    "newest_checkpoint",
    "read_record",
    "write_record",
]

RECORD_NAME = "ckd_student.json"
_STATE_NAME = "trainer_state.json"
_NEEDED = (_STATE_NAME, "optimizer.pt", "scheduler.pt")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def check_output(
    folder: Path, identity: JsonObject, *, resume: bool, overwrite: bool
) -> JsonObject:
    """Check that a run may use a folder, writing nothing; the record to go on from.

    Args:
        folder: of the student.
        identity: what the student depends on; a run resumes only with the same.
        resume: go on with what is there.
        overwrite: delete what is there, if it is a student's.

    Returns:
        The stored record when resuming, else that of a student not yet begun.

    Raises:
        StudentError: the folder holds something, and neither was asked for or fits.
        MismatchError: another student was begun there.
    """
    fresh: JsonObject = {"finished": False, "identity": identity}
    if folder.exists() and not folder.is_dir():
        message = f"{folder}: is a file, expected a folder. Choose another --output."
        raise StudentError(message)
    if not folder.is_dir() or not any(folder.iterdir()):
        return fresh
    record = read_record(folder)
    if record is None:
        message = (
            f"{folder}: holds files, but no student (no {RECORD_NAME}), and only students are "
            "overwritten. Choose another --output, or delete the folder yourself."
        )
        raise StudentError(message)
    if overwrite:
        return fresh
    if not resume:
        how_far = "finished" if record.get("finished") else "begun"
        message = (
            f"{folder}: holds a {how_far} student. Use --resume to go on with it, --overwrite to "
            "train anew, or another --output."
        )
        raise StudentError(message)
    _check_same(folder, record.get("identity", {}), identity)
    return record


def begin_output(folder: Path, record: JsonObject, *, overwrite: bool) -> None:
    """Make the folder of a run that `check_output` allowed.

    Args:
        folder: of the student.
        record: what it says while the student is trained.
        overwrite: delete what is there.

    Raises:
        StorageError: the folder cannot be written.
    """
    try:
        if overwrite and folder.is_dir():
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_record(folder, record)
    except OSError as error:
        message = f"{folder}: cannot be written ({error.strerror}). Choose another --output."
        raise StorageError(message) from error


def read_record(folder: Path) -> JsonObject | None:
    """The record in a student's folder; None if there is none.

    Raises:
        StudentError: the record is damaged.
    """
    path = folder / RECORD_NAME
    if not path.is_file():
        return None
    try:
        record: JsonObject = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        message = f"{path}: not the JSON that was written ({error}). Train anew with --overwrite."
        raise StudentError(message) from error
    return record


def write_record(folder: Path, record: JsonObject) -> None:
    """Write the record of a student, whole or not at all."""
    path = folder / RECORD_NAME
    unfinished = path.with_suffix(".json.new")
    text = json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the most steps that was written to its end; None if there is none."""
    found = [path for path in folder.glob("checkpoint-*") if path.name[11:].isdecimal()]
    for path in sorted(found, key=lambda path: int(path.name[11:]), reverse=True):
        if _is_whole(path):
            return path
    return None


def copy_files(files: Sequence[Path], folder: Path) -> None:
    """Copy files into a folder under their own names."""
    for path in files:
        shutil.copyfile(path, folder / path.name)


def _is_whole(checkpoint: Path) -> bool:
    if not all((checkpoint / name).is_file() for name in _NEEDED):
        return False
    if not any((checkpoint / name).is_file() for name in _WEIGHTS):
        return False
    try:
        state = json.loads((checkpoint / _STATE_NAME).read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(state, dict) and "global_step" in state


def _check_same(folder: Path, stored: JsonObject, identity: JsonObject) -> None:
    found = list(differences(stored, identity))
    if found:
        named = "\n  ".join(f"{path}: then {old!r}, now {new!r}" for path, old, new in found)
        message = (
            f"{folder}: the student there was begun differently, so it cannot go on:\n  {named}\n"
            "Restore what it was begun with, use --overwrite to train anew, or another --output."
        )
        raise MismatchError(message)
