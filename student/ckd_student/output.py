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
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ckd_cache.errors import MismatchError, StorageError, StudentError
from ckd_cache.fingerprint import differences
from ckd_cache.types import JsonObject

__all__ = [
    "RECORD_NAME",
    "begin_output",
    "check_finished",
    "check_output",
    "check_writable",
    "copy_files",
    "damaged_record",
    "newest_checkpoint",
    "read_record",
    "write_record",
]

RECORD_NAME = "ckd_student.json"
_UNFINISHED_NAME = f"{RECORD_NAME}.new"
_STATE_NAME = "trainer_state.json"
_NEEDED = (_STATE_NAME, "optimizer.pt", "scheduler.pt")
_CONFIG_NAME = "config.json"
_SINGLE_NAME = "model.safetensors"
_INDEX_NAME = "model.safetensors.index.json"
_WEIGHTS = (_SINGLE_NAME, _INDEX_NAME)
_TRIAL_BYTES = 4096


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
        StudentError: the folder holds something, and neither was asked for or fits, or the record
            of the student in it is damaged.
        MismatchError: another student was begun there.
    """
    fresh: JsonObject = {"finished": False, "identity": identity}
    if not any(_held(folder)):
        return fresh
    if not (folder / RECORD_NAME).is_file():
        message = (
            f"{folder}: holds files, but no student (no {RECORD_NAME}), and only students are "
            "overwritten. Choose another --output, or delete the folder yourself."
        )
        raise StudentError(message)
    if overwrite:
        return fresh
    record = read_record(folder)
    if not resume:
        how_far = "finished" if record["finished"] else "begun"
        message = (
            f"{folder}: holds a {how_far} student. Use --resume to go on with it, --overwrite to "
            "train anew, or another --output."
        )
        raise StudentError(message)
    _check_same(folder, record["identity"], identity)
    return record


def check_writable(folder: Path) -> None:
    """Write a small file into a student's folder, and remove it again.

    Raises:
        StorageError: the folder cannot be written.
    """
    trial = folder / _UNFINISHED_NAME
    try:
        with trial.open("wb") as file:
            file.write(bytes(_TRIAL_BYTES))
            file.flush()
            os.fsync(file.fileno())
        trial.unlink()
    except OSError as error:
        with suppress(OSError):
            trial.unlink(missing_ok=True)
        raise _not_writable(folder, error) from error


def check_finished(folder: Path, tokenizer_names: Sequence[str]) -> None:
    """Check that everything of a finished student is still there.

    Args:
        folder: of the student.
        tokenizer_names: files of its tokenizer.

    Raises:
        StudentError: a file is missing, or its weights are not whole.
    """
    names = [_CONFIG_NAME, *tokenizer_names, *_weight_names(folder)]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        message = (
            f"{folder}: the student there was finished, but {', '.join(missing)} is missing now. "
            "Restore it from a copy, or train anew with --overwrite."
        )
        raise StudentError(message)
    for name in _weight_names(folder):
        try:
            with safe_open(folder / name, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            message = (
                f"{folder / name}: the weights of this finished student are damaged ({error}). "
                "Restore them from a copy, or train anew with --overwrite."
            )
            raise StudentError(message) from error


def begin_output(folder: Path, record: JsonObject, *, overwrite: bool) -> None:
    """Begin the student of a run that `check_output` allowed.

    Args:
        folder: of the student.
        record: what it says while the student is trained.
        overwrite: delete what is there.

    Raises:
        StorageError: the folder cannot be written.
    """
    try:
        if overwrite:
            # The record goes last: what an interruption leaves is still known as a student's.
            for path in _held(folder):
                if path.name != RECORD_NAME:
                    _delete(path)
        write_record(folder, record)
    except OSError as error:
        raise _not_writable(folder, error) from error


def read_record(folder: Path) -> JsonObject:
    """The record in a student's folder.

    Raises:
        StudentError: the record cannot be read, or is damaged.
    """
    path = folder / RECORD_NAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror}). Check its permissions."
        raise StudentError(message) from error
    except ValueError as error:
        raise damaged_record(folder, str(error)) from error
    if not isinstance(record, dict):
        raise damaged_record(folder, f"it is {type(record).__name__}, expected an object")
    expected = {"finished": bool, "identity": dict}
    if record.get("finished"):
        expected["steps"] = int
    for name, kind in expected.items():
        if not isinstance(record.get(name), kind):
            raise damaged_record(folder, f"{name!r} is {record.get(name)!r}")
    return record


def damaged_record(folder: Path, found: str) -> StudentError:
    """The error that a student's record is not what was written."""
    message = (
        f"{folder / RECORD_NAME}: is damaged: {found}. Restore it from a copy, or train anew with "
        "--overwrite."
    )
    return StudentError(message)


def write_record(folder: Path, record: JsonObject) -> None:
    """Write the record of a student, whole or not at all."""
    unfinished = folder / _UNFINISHED_NAME
    text = json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(folder / RECORD_NAME)


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


def _held(folder: Path) -> Iterator[Path]:
    """What a folder holds, but for a record that was never finished; nothing if there is none."""
    if folder.is_dir():
        yield from (path for path in sorted(folder.iterdir()) if path.name != _UNFINISHED_NAME)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _not_writable(folder: Path, error: OSError) -> StorageError:
    message = f"{folder}: cannot be written ({error.strerror}). Choose another --output."
    return StorageError(message)


def _weight_names(folder: Path) -> list[str]:
    """Names of the files that hold, or should hold, a student's weights."""
    index = folder / _INDEX_NAME
    if (folder / _SINGLE_NAME).is_file() or not index.is_file():
        return [_SINGLE_NAME]
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return sorted({str(name) for name in weight_map.values()})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        message = (
            f"{index}: is damaged ({error}). Restore it from a copy, or train anew with "
            "--overwrite."
        )
        raise StudentError(message) from error


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
