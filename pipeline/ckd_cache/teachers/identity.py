"""Which model a teacher is: its folder, its weight files and its configuration.

Everything is taken from the contents. A revision or a name may come to mean another model, and
transformers ignores a revision that is given with a folder.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from ckd_cache.errors import TeacherError
from ckd_cache.fingerprint import canonical_json, hash_bytes, hash_file
from ckd_cache.modeling.unreadable import first_line
from ckd_cache.types import JsonObject, JsonValue

__all__ = [
    "TeacherFiles",
    "config_fingerprint",
    "teacher_files",
    "teacher_folder",
    "weight_files",
]

_CONFIG = "config.json"
_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_ADAPTER = "adapter_config.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_NOT_IDENTITY = ("transformers_version", "_name_or_path", "dtype")
_FETCHED = ["*.safetensors", "*.json", "*.txt", "*.model"]
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True, slots=True)
class TeacherFiles:
    """A teacher as it lies on disk.

    Attributes:
        folder: where its files are.
        weights: sha256 of every weight file, by file name.
        config: fingerprint of its configuration.
    """

    folder: Path
    weights: dict[str, str]
    config: str


def teacher_files(
    name: str, model: str, revision: str | None, root: Path, *, remote_code: bool = False
) -> TeacherFiles:
    """Find a teacher and hash what it is made of.

    Args:
        name: the teacher's name in the recipe, for messages.
        model: folder, relative to ``root`` or absolute, or hub name.
        revision: of the hub's repository; None for its main branch.
        root: the recipe's folder.
        remote_code: also fetch the repository's Python files.

    Raises:
        TeacherError: see ``teacher_folder``, ``weight_files`` and ``config_fingerprint``.
    """
    folder = teacher_folder(name, model, revision, root, remote_code=remote_code)
    return TeacherFiles(folder, weight_files(name, folder), config_fingerprint(name, folder))


def teacher_folder(
    name: str, model: str, revision: str | None, root: Path, *, remote_code: bool = False
) -> Path:
    """The folder of a teacher; a hub name is fetched (or taken from the local hub cache).

    Raises:
        TeacherError: there is neither such a folder nor such a model on the hub, or a revision is
            given for a folder.
    """
    path = (root / Path(model).expanduser()).absolute()
    if path.is_dir():
        if revision is not None:
            message = (
                f"teacher {name}: revision {revision!r} is given, but {path} is a folder, and a "
                f"folder has no revisions. Remove `revision` (the weight files are hashed anyway)."
            )
            raise TeacherError(message)
        return path
    return _fetched(name, model, revision, path, remote_code=remote_code)


def weight_files(name: str, folder: Path) -> dict[str, str]:
    """sha256 of each weight file that transformers would load, by name, sorted.

    Raises:
        TeacherError: there is no safetensors file, only pickled checkpoints, or the index names a
            file that is missing, or the folder holds an adapter.
    """
    if (folder / _ADAPTER).is_file():
        message = (
            f"teacher {name}: {folder} holds an adapter ({_ADAPTER}), expected a whole model. "
            f"Merge the adapter into its model and save that with save_pretrained."
        )
        raise TeacherError(message)
    if (folder / _SINGLE).is_file():
        files = [_SINGLE]
    elif (folder / _INDEX).is_file():
        files = _indexed(name, folder)
    else:
        raise TeacherError(_no_weights(name, folder))
    return {file: hash_file(folder / file) for file in files}


def config_fingerprint(name: str, folder: Path) -> str:
    """Fingerprint of config.json, without the fields that leave the numbers alone.

    Raises:
        TeacherError: config.json is missing or is no JSON object.
    """
    config = _read_json(name, folder / _CONFIG)
    try:
        return hash_bytes(
            canonical_json({key: config[key] for key in config if key not in _NOT_IDENTITY})
        )
    except ValueError as error:
        message = f"teacher {name}: {folder / _CONFIG} holds NaN or Infinity, expected plain JSON"
        raise TeacherError(message) from error


def _fetched(name: str, model: str, revision: str | None, path: Path, *, remote_code: bool) -> Path:
    from huggingface_hub import snapshot_download

    if not _HUB_NAME.fullmatch(model):
        message = (
            f"teacher {name}: model {model!r} was not found. There is no folder {path}, and it "
            f"cannot be a hub name (expected NAME or OWNER/NAME). Correct `model`; relative paths "
            f"are relative to the recipe file."
        )
        raise TeacherError(message)
    try:
        folder = snapshot_download(
            model,
            revision=revision,
            allow_patterns=[*_FETCHED, "*.py"] if remote_code else _FETCHED,
            ignore_patterns=["*/*"],
        )
    except (OSError, ValueError) as error:
        # Every error of the hub client (absent, gated, offline, unreachable) is one of these.
        reason = first_line(error).rstrip(".")
        message = (
            f"teacher {name}: model {model!r} was not found. There is no folder {path}, and no "
            f"model of this name{_at(revision)} could be fetched from the hub: {reason}. "
            f"Correct `model` (relative paths are relative to the recipe file), or fetch it where "
            f"there is a network: hf download {model}"
        )
        raise TeacherError(message) from error
    return Path(folder)


def _at(revision: str | None) -> str:
    return "" if revision is None else f" at revision {revision!r}"


def _indexed(name: str, folder: Path) -> list[str]:
    index = folder / _INDEX
    files = sorted(set(_weight_map(name, index).values()))
    for file in files:
        if Path(file).name != file or not (folder / file).is_file():
            message = (
                f"teacher {name}: {index} names the weight file {file!r}, which is not in "
                f"{folder}. Copy or download the folder again, whole."
            )
            raise TeacherError(message)
    return files


def _weight_map(name: str, index: Path) -> dict[str, str]:
    weight_map: JsonValue = _read_json(name, index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        message = f"teacher {name}: {index} has no `weight_map`, expected file names by weight."
        raise TeacherError(message)
    return {str(weight): str(file) for weight, file in weight_map.items()}


def _no_weights(name: str, folder: Path) -> str:
    pickles = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
    expected = f"expected {_SINGLE} or {_INDEX}"
    if not pickles:
        return f"teacher {name}: no weights in {folder}, {expected}. Is this a model's folder?"
    return (
        f"teacher {name}: {folder} holds pickled weights only ({', '.join(pickles)}), {expected}. "
        f"Pickled files can run any code and are never read. Convert them once, if you trust "
        f'them: python -c "from transformers import AutoModelForMaskedLM as M; '
        f"M.from_pretrained('{folder}').save_pretrained('{folder}')\""
    )


def _read_json(name: str, path: Path) -> JsonObject:
    try:
        content: JsonValue = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        message = (
            f"teacher {name}: {path} cannot be read: {error.strerror}. Is this a model's folder?"
        )
        raise TeacherError(message) from error
    except (ValueError, RecursionError) as error:
        message = f"teacher {name}: {path} is no JSON text: {error}"
        raise TeacherError(message) from error
    if not isinstance(content, dict):
        message = f"teacher {name}: {path} holds a {type(content).__name__}, expected an object."
        raise TeacherError(message)
    return content
