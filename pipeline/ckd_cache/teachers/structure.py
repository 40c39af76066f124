"""What a model can do, from its configuration alone: no weight is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ckd_cache.errors import TeacherError
from ckd_cache.modeling.unreadable import first_line, is_unreadable
from ckd_cache.teachers.quiet import quiet_transformers

__all__ = ["Structure", "check_length", "position_limit", "structure_of"]

# What a model that is made of a configuration with bad values may raise.
_UNFIT = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
)
_POSITION_TABLES = ("position_embeddings", "embed_positions")


@dataclass(frozen=True, slots=True)
class Structure:
    """What is known of the masked LM in a folder without reading its weights.

    Attributes:
        attention: the implementation of attention that it will run with.
        positions: tokens that an input may have; None if there is no limit.
        embeddings: ids that it can read.
    """

    attention: str
    positions: int | None
    embeddings: int


def structure_of(
    name: str, folder: Path, attention: str | None, *, remote_code: bool = False
) -> Structure:
    """Look at a teacher without its weights.

    Args:
        name: the teacher's name in the recipe.
        folder: its folder.
        attention: ``sdpa``, ``eager`` or another of transformers; None takes ``sdpa`` where the
            model has it, else ``eager``.
        remote_code: run the Python files of the folder.

    Raises:
        TeacherError: config.json cannot be used, it is no masked LM, or it has no such attention.
    """
    config = _config(name, folder, remote_code=remote_code)
    if getattr(config, "is_decoder", False):
        message = (
            f"teacher {name}: {folder} is a causal model (is_decoder is true in config.json), "
            f"expected a masked LM."
        )
        raise TeacherError(message)
    model = _without_weights(config, "eager", remote_code=remote_code)
    if isinstance(model, Exception):
        message = (
            f"teacher {name}: {folder} holds a {_architecture(config)}, expected a masked LM that "
            f"AutoModelForMaskedLM of transformers can load ({first_line(model)}). Correct its "
            "config.json, or name another model."
        )
        raise TeacherError(message) from model
    return Structure(
        _attention(name, config, attention, remote_code=remote_code),
        position_limit(model),
        int(model.get_input_embeddings().weight.shape[0]),
    )


def position_limit(model: nn.Module) -> int | None:
    """Tokens that an input may have; None if nothing limits them.

    A position table with a padding index (RoBERTa and its kin) counts positions from behind that
    index, so its first rows are never used. Rotary models have no table, but a length that they
    were made for.
    """
    stated = getattr(model.config, "max_position_embeddings", None)
    limits = [
        min(module.num_embeddings, stated or module.num_embeddings) - _skipped(module)
        for name, module in model.named_modules()
        if name.rpartition(".")[2] in _POSITION_TABLES and isinstance(module, nn.Embedding)
    ]
    if limits:
        return min(limits)
    rotary = any("Rotary" in type(module).__name__ for module in model.modules())
    return int(stated) if rotary and stated is not None else None


def check_length(name: str, positions: int | None, segment_tokens: int) -> None:
    """Check that segments are not longer than what a teacher can read.

    Raises:
        TeacherError: they are.
    """
    if positions is not None and segment_tokens > positions:
        message = (
            f"teacher {name} reads at most {positions} tokens, but segments have up to "
            f"{segment_tokens} (corpus.segment_tokens, special tokens included). Set "
            f"corpus.segment_tokens to {positions} or less, or leave this teacher out."
        )
        raise TeacherError(message)


def _skipped(table: nn.Embedding) -> int:
    return 0 if table.padding_idx is None else table.padding_idx + 1


def _config(name: str, folder: Path, *, remote_code: bool) -> Any:
    from transformers import AutoConfig

    try:
        with quiet_transformers():
            return AutoConfig.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=remote_code
            )
    except Exception as error:
        if not is_unreadable(error):
            raise
        message = (
            f"teacher {name}: config.json in {folder} is no configuration that transformers knows: "
            f"{first_line(error)}"
        )
        raise TeacherError(message) from error


def _attention(name: str, config: Any, wanted: str | None, *, remote_code: bool) -> str:
    failure = _failure(config, wanted or "sdpa", remote_code=remote_code)
    if failure is None:
        return wanted or "sdpa"
    if wanted is None:
        return "eager"
    message = (
        f"teacher {name}: {_architecture(config)} cannot run with attention: {wanted} "
        f"({first_line(failure)}). Set `attention: eager` for this teacher."
    )
    raise TeacherError(message) from failure


def _failure(config: Any, attention: str, *, remote_code: bool) -> Exception | None:
    model = _without_weights(config, attention, remote_code=remote_code)
    return model if isinstance(model, Exception) else None


def _without_weights(config: Any, attention: str, *, remote_code: bool) -> Any:
    """The model on ``meta``, or the error that says why transformers has none."""
    from transformers import AutoModelForMaskedLM

    factory: Any = AutoModelForMaskedLM
    try:
        with quiet_transformers(), torch.device("meta"):
            return factory.from_config(
                config, attn_implementation=attention, trust_remote_code=remote_code
            )
    except _UNFIT as error:
        return error


def _architecture(config: Any) -> str:
    return str((getattr(config, "architectures", None) or [type(config).__name__])[0])
