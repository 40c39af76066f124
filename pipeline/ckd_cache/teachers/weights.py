"""A masked LM with its weights, all of them, in the dtype that was asked for."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ckd_cache.errors import TeacherError
from ckd_cache.teachers.quiet import quiet_transformers

__all__ = ["DTYPES", "model_with_weights"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

_SHOWN = 5
# Parts of an encoder that a masked LM has no place for and does not need.
_UNUSED = ("pooler", "position_ids", "embeddings.position_ids")


def model_with_weights(
    name: str, folder: Path, dtype: str, attention: str, *, remote_code: bool = False
) -> nn.Module:
    """Load a masked LM on the CPU, in evaluation mode, without gradients.

    Args:
        name: the teacher's name in the recipe.
        folder: its folder.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        attention: implementation of attention, by transformers' name.
        remote_code: run the Python files of the folder.

    Raises:
        TeacherError: the weights cannot be read, some are missing, some of the encoder have no
            place, or some did not take the dtype.
    """
    model, info = _loaded(name, folder, dtype, attention, remote_code=remote_code)
    _check_missing(name, folder, model, info["missing_keys"])
    _check_unexpected(name, folder, model, info["unexpected_keys"])
    _check_dtype(name, model, dtype)
    return model.eval().requires_grad_(requires_grad=False)


def _loaded(
    name: str, folder: Path, dtype: str, attention: str, *, remote_code: bool
) -> tuple[nn.Module, dict[str, Any]]:
    from safetensors import SafetensorError
    from transformers import AutoModelForMaskedLM

    try:
        with quiet_transformers():
            model, info = AutoModelForMaskedLM.from_pretrained(
                str(folder),
                dtype=DTYPES[dtype],
                attn_implementation=attention,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=remote_code,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        message = (
            f"teacher {name}: the weights in {folder} do not load: {error}\n"
            f"Copy or download the folder again, whole."
        )
        raise TeacherError(message) from error
    return model, info


def _check_missing(name: str, folder: Path, model: nn.Module, missing: Collection[str]) -> None:
    if missing:
        message = (
            f"teacher {name}: the weight files in {folder} lack {_listed(missing)}, which "
            f"transformers would have filled with random numbers. Expected all weights of a "
            f"{type(model).__name__}; is this folder a model for another task?"
        )
        raise TeacherError(message)


def _check_unexpected(
    name: str, folder: Path, model: nn.Module, unexpected: Collection[str]
) -> None:
    """Weights of other heads are left alone; weights of the encoder must all find a place."""
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    homeless = [
        key
        for key in unexpected
        if key.startswith(prefix) and not any(part in key for part in _UNUSED)
    ]
    if homeless:
        message = (
            f"teacher {name}: the weight files in {folder} hold {_listed(homeless)}, which a "
            f"{type(model).__name__} of its config.json has no place for. Does config.json belong "
            f"to these weights?"
        )
        raise TeacherError(message)


def _check_dtype(name: str, model: nn.Module, dtype: str) -> None:
    found = {parameter.dtype for parameter in model.parameters()}
    if found != {DTYPES[dtype]}:
        names = ", ".join(sorted(str(one).removeprefix("torch.") for one in found))
        message = (
            f"teacher {name}: asked for dtype {dtype}, but its weights load as {names}. Quantised "
            f"and mixed checkpoints cannot be used; save the model in one dtype first."
        )
        raise TeacherError(message)


def _listed(keys: Collection[str]) -> str:
    shown = ", ".join(sorted(keys)[:_SHOWN])
    more = len(keys) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
