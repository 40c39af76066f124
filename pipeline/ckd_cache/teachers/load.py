"""A teacher ready to run: checked against the corpus, loaded, probed, and released again."""

from __future__ import annotations

import gc
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ckd_cache.errors import TeacherError
from ckd_cache.modeling.slot_head import agrees, plain_slot_logits
from ckd_cache.teachers.device import device_of
from ckd_cache.teachers.structure import Structure, check_length, structure_of
from ckd_cache.teachers.tokens import ExpectedSupport, check_tokens
from ckd_cache.teachers.weights import model_with_weights

__all__ = [
    "Head",
    "LoadedTeacher",
    "TeacherSpec",
    "check_teacher",
    "load_teacher",
    "release_teacher",
]

Head = Literal["slots", "plain"]

_PROBE_TOKENS = 24
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TeacherSpec:
    """How the recipe wants a teacher to run.

    Attributes:
        name: the teacher's name.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        attention: implementation of attention; None takes ``sdpa`` where the model has it, else
            ``eager``.
        corpus_ids: the recipe vouches that a folder without a tokenizer has the corpus's ids.
        trust_remote_code: run the Python files of the folder.
    """

    name: str
    dtype: str = "float32"
    attention: str | None = "sdpa"
    corpus_ids: bool = False
    trust_remote_code: bool = False


@dataclass(frozen=True, slots=True)
class LoadedTeacher:
    """A resident teacher.

    Attributes:
        name: its name in the recipe.
        model: the masked LM, in evaluation mode, on ``device``.
        device: where it runs.
        dtype: of its weights.
        attention: the implementation of attention that it runs with.
        head: ``slots`` if its head runs at slots only, ``plain`` if everywhere.
        support_size: entries of the support; output rows beyond them are cut.
    """

    name: str
    model: nn.Module
    device: torch.device
    dtype: str
    attention: str
    head: Head
    support_size: int

    @property
    def uses_slot_head(self) -> bool:
        """Whether the head runs at slots only."""
        return self.head == "slots"


def check_teacher(
    spec: TeacherSpec, folder: Path, support: ExpectedSupport, segment_tokens: int
) -> Structure:
    """Everything that can be said about a teacher without reading its weights.

    Raises:
        TeacherError: it is no masked LM, cannot run as asked, has another tokenizer, reads fewer
            tokens than a segment may have, or fewer ids than the support has.
    """
    remote = spec.trust_remote_code
    structure = structure_of(spec.name, folder, spec.attention, remote_code=remote)
    check_length(spec.name, structure.positions, segment_tokens)
    check_tokens(spec.name, folder, support, corpus_ids=spec.corpus_ids, remote_code=remote)
    _check_rows(spec.name, "reads", structure.embeddings, support.size)
    return structure


def load_teacher(
    spec: TeacherSpec, folder: Path, device: str, support: ExpectedSupport, segment_tokens: int
) -> LoadedTeacher:
    """Check a teacher, load it and probe its head.

    Args:
        spec: how it is to run.
        folder: its folder, see ``teachers.identity.teacher_folder``.
        device: ``auto``, ``cpu``, ``mps``, ``cuda`` or ``cuda:N``.
        support: what its distributions are to be over.
        segment_tokens: longest segment, special tokens included.

    Raises:
        TeacherError: as ``check_teacher``; or weights are missing, the device is absent or too
            small, or it predicts fewer ids than the support has.
        RecipeError: ``device`` names no device.
    """
    where = device_of(device)
    structure = check_teacher(spec, folder, support, segment_tokens)
    model = model_with_weights(
        spec.name,
        folder,
        spec.dtype,
        structure.attention,
        remote_code=spec.trust_remote_code,
    )
    model = _placed(spec, model, where)
    head = _probed(spec.name, model, where, support, segment_tokens)
    return LoadedTeacher(
        spec.name, model, where, spec.dtype, structure.attention, head, support.size
    )


def release_teacher(teacher: LoadedTeacher) -> None:
    """Give back the memory of a teacher, whoever still holds a reference to it."""
    teacher.model.to("meta")
    gc.collect()
    if teacher.device.type == "cuda":
        torch.cuda.empty_cache()
    elif teacher.device.type == "mps":
        torch.mps.empty_cache()


def _placed(spec: TeacherSpec, model: nn.Module, device: torch.device) -> nn.Module:
    try:
        return model.to(device)
    except torch.OutOfMemoryError as error:
        message = (
            f"teacher {spec.name} does not fit into the memory of {device} as {spec.dtype}: "
            f"{str(error).splitlines()[0]} Use another device (--set runtime.device=cpu)"
            f"{' or dtype: bfloat16 for this teacher' if spec.dtype == 'float32' else ''}."
        )
        raise TeacherError(message) from error


def _probed(
    name: str,
    model: nn.Module,
    device: torch.device,
    support: ExpectedSupport,
    segment_tokens: int,
) -> Head:
    inputs, rows, positions = _probe(support, min(segment_tokens, _PROBE_TOKENS), device)
    with torch.inference_mode():
        _check_rows(
            name,
            "predicts",
            plain_slot_logits(model, inputs, rows, positions).shape[1],
            support.size,
        )
        if agrees(model, inputs, rows, positions):
            return "slots"
    _logger.warning(
        "teacher %s: the head of %s does not give the same logits at slots alone; "
        "it runs at every token (slower)",
        name,
        type(model).__name__,
    )
    return "plain"


def _probe(
    support: ExpectedSupport, length: int, device: torch.device
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Two rows of different lengths with ids from all over the support, and slots in both."""
    short = max(1, length // 2)
    ids = (torch.arange(2 * length).reshape(2, length) * 7919 + 13) % support.size
    ids[1, short:] = support.special.get("pad") or 0
    mask = torch.ones_like(ids)
    mask[1, short:] = 0
    rows = torch.tensor([0] * length + [1] * short)[::2]
    positions = torch.tensor([*range(length), *range(short)])[::2]
    inputs = {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": torch.zeros_like(ids),
    }
    placed = {key: tensor.to(device) for key, tensor in inputs.items()}
    return placed, rows.to(device), positions.to(device)


def _check_rows(name: str, does: str, found: int, size: int) -> None:
    if found < size:
        message = (
            f"teacher {name} {does} {found} ids, but the support has {size}. Its folder does not "
            f"belong to this tokenizer; set corpus.tokenizer to the one it was trained with."
        )
        raise TeacherError(message)
