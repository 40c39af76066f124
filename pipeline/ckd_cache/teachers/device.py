"""Which device a teacher runs on."""

from __future__ import annotations

import re

import torch

from ckd_cache.errors import RecipeError, TeacherError

__all__ = ["device_of"]

_KNOWN = re.compile(r"auto|cpu|mps|cuda(:[0-9]{1,3})?")


def device_of(device: str) -> torch.device:
    """The device that ``runtime.device`` names; ``auto`` is the first GPU, else the CPU.

    Raises:
        RecipeError: it names no device that can be meant.
        TeacherError: this machine has no such device.
    """
    if not _KNOWN.fullmatch(device):
        message = f"runtime.device is {device!r}, expected auto, cpu, mps, cuda or cuda:N"
        raise RecipeError(message)
    if device == "auto":
        return torch.device(_best())
    found = torch.device(device)
    if found.type == "cuda":
        _check_cuda(device, found.index or 0)
    if found.type == "mps" and not torch.backends.mps.is_available():
        message = (
            f"runtime.device is {device!r}, but torch {torch.__version__} finds no Apple GPU here. "
            f"Use --set runtime.device=auto"
        )
        raise TeacherError(message)
    return found


def _best() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _check_cuda(device: str, index: int) -> None:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= count:
        seen = (
            "no CUDA device" if count == 0 else f"{count} CUDA devices, cuda:0 to cuda:{count - 1}"
        )
        message = (
            f"runtime.device is {device!r}, but torch {torch.__version__} finds {seen} here. Use "
            f"--set runtime.device=auto, or install a torch that fits this machine's driver"
        )
        raise TeacherError(message)
