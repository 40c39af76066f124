"""What libraries raise when they refuse something, and how that is told in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES, EDQUOT, EFBIG, ENOSPC, EPERM, EROFS
from pathlib import Path

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from ckd_cache.errors import StorageError

__all__ = ["MODEL_REFUSALS", "brief", "storing"]

MODEL_REFUSALS = (
    ArithmeticError,  # 0 heads
    AssertionError,  # a padding id beyond the vocabulary
    AttributeError,  # a number where a mapping was expected
    ImportError,  # a kernel that is not installed
    LookupError,  # an activation that does not exist
    OSError,  # files that are missing
    RuntimeError,  # sizes below 0, or that do not fit each other
    SafetensorError,
    StrictDataclassError,  # a value of another type than the config declares
    TypeError,
    UnboundLocalError,  # 0 layers
    ValueError,
)
"""What transformers and torch raise for configs and files that make no model."""

_LONGEST = 300
_SPEAK_FOR_THEMSELVES = (ImportError, OSError, RuntimeError, StrictDataclassError, ValueError)
_WRITERS = ("PytorchStreamWriter", "inline_container", "file write failed")
_ROOM = "Make room"
_ADVICE = {
    ENOSPC: _ROOM,
    EDQUOT: _ROOM,
    EFBIG: "Raise the limit on file sizes (ulimit -f)",
    EACCES: "Give permission",
    EPERM: "Give permission",
    EROFS: "Make the file system writable",
}


def brief(error: BaseException) -> str:
    """An error of a library in one line of bounded length."""
    text = " ".join(str(error).split())
    if not isinstance(error, _SPEAK_FOR_THEMSELVES):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


@contextmanager
def storing(folder: Path) -> Iterator[None]:
    """Turn what writers of weights and checkpoints raise in the block into a StorageError.

    Args:
        folder: of the student.

    Raises:
        StorageError: the disk refused.
    """
    try:
        yield
    except OSError as error:
        where = f" at {error.filename}" if error.filename else ""
        reason = f"{error.strerror or brief(error)}{where}"
        raise StorageError(_refused(folder, reason, error.errno)) from error
    except SafetensorError as error:
        if "os error" not in str(error):
            raise
        raise StorageError(_refused(folder, brief(error), None)) from error
    except RuntimeError as error:
        # torch.save hides the system's error.
        if not any(writer in str(error) for writer in _WRITERS):
            raise
        raise StorageError(_refused(folder, brief(error), None)) from error


def _refused(folder: Path, reason: str, number: int | None) -> str:
    advice = _ADVICE.get(number or 0, "Make room, or check the permissions")
    return (
        f"{folder}: the disk refused to store the student ({reason}). {advice}, then run the same "
        "command with --resume: it goes on from the newest whole checkpoint."
    )
