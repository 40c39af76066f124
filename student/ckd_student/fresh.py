"""Makes a fresh masked LM from the section ``model.config`` of a recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from ckd_cache.errors import RecipeError, StudentError
from ckd_cache.format.manifest import SupportRecord
from ckd_cache.settings import did_you_mean
from ckd_cache.types import JsonObject, JsonValue
from ckd_student.failures import MODEL_REFUSALS, brief

__all__ = ["fresh_model", "named_fields"]

_SPECIAL_FIELDS = {
    "pad_token_id": "pad",
    "bos_token_id": "bos",
    "eos_token_id": "eos",
    "cls_token_id": "cls",
    "sep_token_id": "sep",
    "mask_token_id": "mask",
}
_IDS = ("_id", "_ids")


def fresh_model(
    given: Mapping[str, JsonValue], seed: int, support: SupportRecord, segment_tokens: int
) -> PreTrainedModel:
    """A model with random weights, float32, on the CPU.

    Args:
        given: ``model_type`` and fields of its config; vocabulary, special ids and the length of
            the position table come from the cache where they are silent.
        seed: of the weights.
        support: the support of the set.
        segment_tokens: tokens of the longest example.

    Raises:
        RecipeError: no masked LM can be made of the fields.
        StudentError: the fields ask for another vocabulary than the cache's.
    """
    family = str(given["model_type"])
    if family not in CONFIG_MAPPING:
        hint = did_you_mean(family, CONFIG_MAPPING.keys())
        message = f"model.config.model_type: {family!r} is not known to transformers; {hint}"
        raise RecipeError(message)
    fields = _fields(given, support, segment_tokens)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _made(family, fields)
    except MODEL_REFUSALS as error:
        named = named_fields(given, _culprits(family, fields, given, str(error)))
        message = f"{named}: transformers cannot make a {family} of this: {brief(error)}"
        raise RecipeError(message) from error


def named_fields(given: Mapping[str, JsonValue], names: Iterable[str]) -> str:
    """Fields of ``model.config`` with their values, for messages."""
    listed = [f"model.config.{name} ({given[name]!r})" for name in names]
    return ", ".join(listed) or "model.config"


def _made(family: str, fields: JsonObject) -> PreTrainedModel:
    config = AutoConfig.for_model(family, **fields)
    if type(config) not in AutoModelForMaskedLM._model_mapping:  # noqa: SLF001 - no public way
        message = (
            f"model.config.model_type: {family!r} has no masked-LM head; use bert, for example"
        )
        raise RecipeError(message)
    model: PreTrainedModel = AutoModelForMaskedLM.from_config(  # type: ignore[no-untyped-call]
        config, dtype=torch.float32
    )
    return model


def _culprits(
    family: str, fields: JsonObject, given: Mapping[str, JsonValue], reason: str
) -> list[str]:
    """The given fields to blame: a model can be made without them, or the reason names them.

    All of them if there is no such field.
    """
    names = [name for name in given if name != "model_type"]
    suspects = [
        name
        for name in names
        if name.removeprefix("num_").replace("_", " ") in reason.lower()
        or _works(family, {other: fields[other] for other in fields if other != name})
    ]
    return suspects or names


def _works(family: str, fields: JsonObject) -> bool:
    try:
        with torch.device("meta"):  # no memory, no random numbers
            _made(family, fields)
    except MODEL_REFUSALS:
        return False
    return True


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
        raise RecipeError(message)
    fields = {name: value for name, value in given.items() if name != "model_type"}
    _check_sizes(fields, default)
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


def _check_sizes(fields: JsonObject, default: object) -> None:
    """Refuse sizes below 1: some families would make a model without layers of it."""
    for name, value in fields.items():
        usual = getattr(default, name, None)
        is_size = type(usual) is int and usual > 0 and not name.endswith(_IDS)
        if is_size and type(value) is int and value < 1:
            message = f"model.config.{name}: expected at least 1, found {value}"
            raise RecipeError(message)
