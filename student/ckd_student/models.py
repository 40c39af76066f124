"""Makes the model that is trained: a fresh one from a config, or an existing one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedModel

from ckd_cache.errors import StudentError
from ckd_cache.format.manifest import SupportRecord
from ckd_cache.format.paths import support_part
from ckd_cache.format.reader import SetReader
from ckd_cache.format.spec import SUPPORT_NAME
from ckd_cache.modeling.tokenizer_files import holds_tokenizer
from ckd_cache.modeling.unreadable import is_unreadable
from ckd_student.failures import MODEL_REFUSALS, brief
from ckd_student.fresh import fresh_model
from ckd_student.output import newest_checkpoint
from ckd_student.recipe import ModelRecipe

__all__ = ["check_fits", "load_model", "make_model", "origin_folder", "tokenizer_files"]

_PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth")


def make_model(
    recipe: ModelRecipe,
    root: Path,
    support: SupportRecord,
    support_files: Path,
    segment_tokens: int,
) -> PreTrainedModel:
    """The student before its first step, float32, on the CPU.

    Args:
        recipe: which model.
        root: folder that a relative path is relative to.
        support: the support of the set.
        support_files: folder of the support in the cache.
        segment_tokens: tokens of the longest example.

    Raises:
        RecipeError: no model can be made of ``model.config``.
        StudentError: the model cannot be loaded, has another vocabulary, or is too short.
    """
    if recipe.config is not None:
        model = fresh_model(recipe.config, recipe.seed, support, segment_tokens)
    else:
        model = load_model(_origin(str(recipe.path), root), support_files)
    check_fits(model, support.size, segment_tokens)
    return model


def origin_folder(path: str, root: Path) -> Path:
    """The folder that ``model.path`` means if it means one.

    Args:
        path: as in the recipe.
        root: folder of the recipe.
    """
    return root / Path(path).expanduser()


def load_model(origin: str, support_files: Path) -> PreTrainedModel:
    """A saved masked LM with the cache's vocabulary, float32, on the CPU.

    Args:
        origin: folder or hub name.
        support_files: folder of the support in the cache.

    Raises:
        StudentError: it cannot be loaded, lacks weights, or has another vocabulary.
    """
    if Path(origin).is_dir():
        _check_folder(Path(origin))
    model: PreTrainedModel
    try:
        _check_family(origin)
        model, info = AutoModelForMaskedLM.from_pretrained(
            origin, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    except MODEL_REFUSALS as error:
        kind = "" if Path(origin).is_dir() else " (there is no such folder, and the hub gave none)"
        message = (
            f"{origin} cannot be loaded as a masked LM{kind}: {brief(error)} Name the folder of a "
            "masked LM, whole."
        )
        raise StudentError(message) from error
    _check_weights(origin, sorted(info["missing_keys"]))
    _check_tokens(origin, support_files)
    return model


def check_fits(model: PreTrainedModel, support_size: int, segment_tokens: int) -> None:
    """Check that a model can read the examples and has a logit for every entry of the support.

    Raises:
        StudentError: it cannot, or has not.
    """
    weight: torch.Tensor = model.get_input_embeddings().weight  # type: ignore[assignment]
    rows = weight.shape[0]
    if rows < support_size:
        message = (
            f"the model has {rows} token embeddings, the cache's support has {support_size} "
            "entries. Start from a model with the tokenizer of the cache."
        )
        raise StudentError(message)
    limit = _positions(model)
    if limit is not None and limit < segment_tokens:
        message = (
            f"the model's position table holds {limit} tokens, examples of this cache have up to "
            f"{segment_tokens}. Set model.config.max_position_embeddings to at least "
            f"{segment_tokens} (RoBERTa and its kin: {segment_tokens} + pad id + 1)."
        )
        raise StudentError(message)


def tokenizer_files(examples: SetReader) -> list[Path]:
    """The tokenizer's files in the support of a set, each with the bytes that were written.

    Raises:
        DamagedCacheError: one is missing or damaged.
    """
    access = examples.support.access
    rows = access.files.of_part(support_part(examples.record.support))
    named = sorted(row.path for row in rows if Path(row.path).name != SUPPORT_NAME)
    return [access.verified(path) for path in named]


def _origin(path: str, root: Path) -> str:
    folder = origin_folder(path, root)
    if folder.is_dir():
        return str(folder)
    if path.startswith((".", "/", "~")) or path.count("/") > 1 or folder.exists():
        message = (
            f"model.path: there is no folder {folder}. Correct the path (a relative one is "
            "relative to the recipe), or name a model of the hub."
        )
        raise StudentError(message)
    return path


def _check_folder(folder: Path) -> None:
    """Raise StudentError unless a folder holds a config and weights in safetensors."""
    if not (folder / "config.json").is_file():
        checkpoint = newest_checkpoint(folder)
        hint = "" if checkpoint is None else f" Its training was not finished: use {checkpoint}."
        message = f"{folder}: there is no model here (no config.json).{hint}"
        raise StudentError(message)
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if not pickles:
        message = f"{folder}: has no weights, expected model.safetensors. Copy it again, whole."
        raise StudentError(message)
    message = (
        f"{folder}: its weights are pickled ({', '.join(pickles)}), expected model.safetensors. "
        "Pickled files can run any code and are never read. Convert them once, if you trust them: "
        'python -c "from transformers import AutoModelForMaskedLM as M; '
        f"M.from_pretrained('{folder}').save_pretrained('{folder}')\""
    )
    raise StudentError(message)


def _check_family(origin: str) -> None:
    """Raise StudentError if a model is of a family without masked LMs."""
    config = AutoConfig.from_pretrained(origin)
    if type(config) not in AutoModelForMaskedLM._model_mapping:  # noqa: SLF001 - no public way
        message = (
            f"{origin}: is a {config.model_type}, which has no masked-LM head. Take a masked LM, "
            "such as a bert."
        )
        raise StudentError(message)


def _check_weights(origin: str, missing: Sequence[str]) -> None:
    if missing:
        message = (
            f"{origin} lacks {len(missing)} weights, the first {missing[0]}, which transformers "
            "would fill with random numbers. Copy the model again, whole; a model for another "
            "task has no masked-LM head."
        )
        raise StudentError(message)


def _check_tokens(origin: str, support_files: Path) -> None:
    """Raise StudentError unless the model's tokenizer has the support's tokens by id."""
    from transformers import AutoTokenizer

    if Path(origin).is_dir() and not holds_tokenizer(Path(origin)):
        raise StudentError(_no_tokenizer(origin, "expected tokenizer.json or its like."))
    try:
        own = AutoTokenizer.from_pretrained(origin)
    except Exception as error:
        if not is_unreadable(error):
            raise
        raise StudentError(_no_tokenizer(origin, brief(error))) from error
    cached = AutoTokenizer.from_pretrained(support_files)
    theirs, ours = _tokens(own), _tokens(cached)
    for token_id in range(max(len(theirs), len(ours))):
        mine, other = ours.get(token_id), theirs.get(token_id)
        if mine != other:
            message = (
                f"the support of {origin} is not that of the cache: id {token_id} is {other!r} "
                f"there and {mine!r} here ({len(theirs)} and {len(ours)} tokens). Start from a "
                "model with the cache's tokenizer, or from a fresh one (model.config)."
            )
            raise StudentError(message)


def _no_tokenizer(origin: str, reason: str) -> str:
    return (
        f"{origin} has no tokenizer that can be loaded, so nobody knows whether its ids are those "
        f"of the cache: {reason} Put the tokenizer's files into the folder."
    )


def _tokens(tokenizer: Any) -> dict[int, str]:
    return {token_id: token for token, token_id in tokenizer.get_vocab().items()}


def _positions(model: nn.Module) -> int | None:
    """Longest input that the model's learnt position table takes; None if it has no table."""
    for name, module in model.named_modules():
        if name.rsplit(".", 1)[-1] == "position_embeddings" and isinstance(module, nn.Embedding):
            offset = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - offset
    return None
