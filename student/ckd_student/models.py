"""Makes the model that is trained: a fresh one from a config, or an existing one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from ckd_cache.errors import StudentError
from ckd_cache.format.manifest import SupportRecord
from ckd_cache.format.spec import ORDER_NAME, SUPPORT_NAME
from ckd_cache.settings import did_you_mean
from ckd_cache.types import JsonObject, JsonValue
from ckd_student.recipe import ModelRecipe

__all__ = ["check_fits", "load_model", "make_model", "tokenizer_files"]

_OWN_FILES = {SUPPORT_NAME, ORDER_NAME}
_SPECIAL_FIELDS = {
    "pad_token_id": "pad",
    "bos_token_id": "bos",
    "eos_token_id": "eos",
    "cls_token_id": "cls",
    "sep_token_id": "sep",
    "mask_token_id": "mask",
}


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
        StudentError: the model cannot be made or loaded, has another vocabulary, or is too short.
    """
    if recipe.config is not None:
        model = _fresh(recipe.config, recipe.seed, support, segment_tokens)
    else:
        folder = (root / str(recipe.path)).expanduser()
        model = load_model(str(folder) if folder.is_dir() else str(recipe.path), support_files)
    check_fits(model, support.size, segment_tokens)
    return model


def load_model(origin: str, support_files: Path) -> PreTrainedModel:
    """A saved masked LM with the cache's vocabulary, float32, on the CPU.

    Args:
        origin: folder or hub name.
        support_files: folder of the support in the cache.

    Raises:
        StudentError: it cannot be loaded, lacks weights, or has another vocabulary.
    """
    model: PreTrainedModel
    try:
        model, info = AutoModelForMaskedLM.from_pretrained(
            origin, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        message = f"{origin} cannot be loaded as a masked LM (folder or hub name): {error}"
        raise StudentError(message) from error
    _check_weights(origin, sorted(info["missing_keys"]))
    _check_tokens(origin, support_files)
    return model


def _check_weights(origin: str, missing: Sequence[str]) -> None:
    if missing:
        message = (
            f"{origin} lacks {len(missing)} weights, the first {missing[0]}, which transformers "
            "would fill with random numbers. Copy the model again, whole; a model for another "
            "task has no masked-LM head."
        )
        raise StudentError(message)


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


def tokenizer_files(folder: Path) -> list[Path]:
    """The tokenizer's files in the folder of a support."""
    return sorted(path for path in folder.iterdir() if path.name not in _OWN_FILES)


def _fresh(
    fields: Mapping[str, JsonValue], seed: int, support: SupportRecord, segment_tokens: int
) -> PreTrainedModel:
    family = str(fields["model_type"])
    if family not in CONFIG_MAPPING:
        hint = did_you_mean(family, CONFIG_MAPPING.keys())
        message = f"model.config.model_type {family!r} is not known to transformers; {hint}"
        raise StudentError(message)
    config = AutoConfig.for_model(family, **_fields(fields, support, segment_tokens))
    if type(config) not in AutoModelForMaskedLM._model_mapping:  # noqa: SLF001 - no public way
        message = f"model.config.model_type {family!r} has no masked-LM head; use bert, for example"
        raise StudentError(message)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model: PreTrainedModel = AutoModelForMaskedLM.from_config(  # type: ignore[no-untyped-call]
                config, dtype=torch.float32
            )
    except (ValueError, TypeError, ZeroDivisionError) as error:
        message = f"transformers cannot make a {family} from model.config: {error}"
        raise StudentError(message) from error
    return model


def _fields(
    given: Mapping[str, JsonValue], support: SupportRecord, segment_tokens: int
) -> JsonObject:
    """Fields of the config: those given, the rest from the cache where it has a say."""
    family = str(given["model_type"])
    default = CONFIG_MAPPING[family]()
    unknown = [name for name in given if name != "model_type" and not hasattr(default, name)]
    if unknown:
        hints = [f"{name!r} ({did_you_mean(name, default.to_dict())})" for name in unknown]
        message = f"model.config: a {family} config has no field {', '.join(hints)}"
        raise StudentError(message)
    fields = {name: value for name, value in given.items() if name != "model_type"}
    if fields.setdefault("vocab_size", support.size) != support.size:
        message = (
            f"model.config.vocab_size is {fields['vocab_size']}, the cache's support has "
            f"{support.size} entries. Leave vocab_size out."
        )
        raise StudentError(message)
    for name, special in _SPECIAL_FIELDS.items():
        if name not in fields and hasattr(default, name):
            fields[name] = support.special.get(special)
    table = getattr(default, "max_position_embeddings", None)
    if isinstance(table, int) and table > 0:
        # RoBERTa and its kin count positions from pad id + 1.
        needed = segment_tokens + support.pad_id + 1
        fields.setdefault("max_position_embeddings", max(table, needed))
    return fields


def _check_tokens(origin: str, support_files: Path) -> None:
    """Raise StudentError unless the model's tokenizer has the support's tokens by id."""
    from transformers import AutoTokenizer

    try:
        own = AutoTokenizer.from_pretrained(origin)
    except (OSError, ValueError) as error:
        message = (
            f"{origin} has no tokenizer that can be loaded, so nobody knows whether its ids are "
            f"those of the cache: {error}. Put the tokenizer's files into the folder."
        )
        raise StudentError(message) from error
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


def _tokens(tokenizer: Any) -> dict[int, str]:
    return {token_id: token for token, token_id in tokenizer.get_vocab().items()}


def _positions(model: nn.Module) -> int | None:
    """Longest input that the model's learnt position table takes; None if it has no table."""
    for name, module in model.named_modules():
        if name.rsplit(".", 1)[-1] == "position_embeddings" and isinstance(module, nn.Embedding):
            offset = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - offset
    return None
