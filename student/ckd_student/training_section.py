"""The section ``training`` of a recipe: the fields of ``transformers.TrainingArguments``.

All but those that this package decides, with limits where transformers has none and would train
on, or fail only after the first step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BaseModel, Field, create_model

from ckd_cache.settings import did_you_mean
from ckd_cache.types import JsonObject

__all__ = ["TRAINING_DEFAULTS", "training_section"]

TRAINING_DEFAULTS: JsonObject = {
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 32,
    "learning_rate": 1.0e-3,
    "logging_steps": 50,
    "save_total_limit": 2,
    "report_to": "none",
}
"""What ``training`` has where the recipe is silent; all else as in TrainingArguments."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Decided:
    """An argument that this package decides; ``only`` is the one value that may be repeated."""

    reason: str
    only: Sequence[object] = ()


_DECIDED: Mapping[str, _Decided] = {
    "output_dir": _Decided("the folder is what --output names"),
    "resume_from_checkpoint": _Decided("use --resume"),
    "remove_unused_columns": _Decided(
        "it must stay false: it would drop the cached target from every batch", [False]
    ),
    "label_names": _Decided("the gold token of a slot is its label"),
    "label_smoothing_factor": _Decided(
        "it must stay 0: the loss is what the section 'loss' says", [0.0]
    ),
    "average_tokens_across_devices": _Decided(
        "it must stay true: the loss is divided by the slots of the global step", [True]
    ),
    "ignore_data_skip": _Decided(
        "it must stay false: a resumed run would see the same examples again", [False]
    ),
    "train_sampling_strategy": _Decided("data.seed and data.window decide the order"),
    "length_column_name": _Decided("data.seed and data.window decide the order"),
    "data_seed": _Decided("use data.seed"),
    "auto_find_batch_size": _Decided(
        "it must stay false: the order of batches would depend on free memory", [False]
    ),
    "disable_tqdm": _Decided("it must stay true: ckd-student draws its own progress", [True]),
    "use_liger_kernel": _Decided("it must stay false: it would replace the loss", [False]),
    "push_to_hub": _Decided("it must stay false: upload the folder when done", [False]),
    "parallelism_config": _Decided("it is an object of Python, which no recipe can hold"),
    "local_rank": _Decided("the launcher sets it"),
    "do_train": _Decided("'ckd-student train' trains"),
    "do_eval": _Decided("held-out loss is always measured at the end"),
    "do_predict": _Decided("use ckd-student evaluate"),
}

_AT_LEAST_0 = Field(ge=0)
_AT_LEAST_1 = Field(ge=1)
_ABOVE_0 = Field(gt=0)
_LIMITS: Mapping[str, Any] = {
    "adam_beta1": Field(ge=0, lt=1),
    "adam_beta2": Field(ge=0, lt=1),
    "adam_epsilon": _AT_LEAST_0,
    "dataloader_num_workers": _AT_LEAST_0,
    "dataloader_prefetch_factor": _AT_LEAST_1,
    "ddp_bucket_cap_mb": _AT_LEAST_1,
    "ddp_timeout": _AT_LEAST_1,
    "eval_accumulation_steps": _AT_LEAST_1,
    "eval_delay": _AT_LEAST_0,
    "eval_steps": _ABOVE_0,
    "gradient_accumulation_steps": _AT_LEAST_1,
    "learning_rate": _AT_LEAST_0,
    "logging_steps": _ABOVE_0,
    "max_grad_norm": _AT_LEAST_0,
    "neftune_noise_alpha": _AT_LEAST_0,
    "num_train_epochs": _ABOVE_0,
    "per_device_eval_batch_size": _AT_LEAST_1,
    "per_device_train_batch_size": _AT_LEAST_1,
    "save_steps": _ABOVE_0,
    "save_total_limit": _AT_LEAST_1,
    "seed": Field(ge=0, lt=2**32),
    "torch_empty_cache_steps": _AT_LEAST_1,
    "warmup_steps": _AT_LEAST_0,
    "weight_decay": _AT_LEAST_0,
}
_WRITTEN = {int, float, bool, str, NoneType, dict, list}
"""Types of what can be written in YAML."""
_METRICS = ("loss", "top1", "top5", "kl")


def training_section(base: type[BaseModel]) -> type[BaseModel]:
    """A model with a field for every argument, none of them required.

    Args:
        base: what it derives from.
    """
    from transformers import TrainingArguments

    hints = get_type_hints(TrainingArguments)
    known = [field.name for field in dataclasses.fields(TrainingArguments)]
    own = _own_checks()
    fields: dict[str, Any] = {
        name: (own.get(name, _checked(name, hints[name])), None) for name in known
    }
    for name in _DECIDED:
        fields[name] = (Annotated[Any, AfterValidator(_refusal(name))], None)
    return create_model("Training", __base__=base, **fields)


def _own_checks() -> dict[str, object]:
    from torch._inductor import list_mode_options
    from transformers.training_args import trainer_log_levels

    levels = Annotated[str, AfterValidator(_one_of(trainer_log_levels))]
    metrics = [*_METRICS, *(f"eval_{name}" for name in _METRICS)]
    return {
        "log_level": levels,
        "log_level_replica": levels,
        "max_steps": Annotated[int, AfterValidator(_step_count)],
        "metric_for_best_model": Annotated[str, AfterValidator(_one_of(metrics))] | None,
        "torch_compile_mode": Annotated[str, AfterValidator(_one_of(list_mode_options()))] | None,
        "report_to": Annotated[Any, AfterValidator(_usable_trackers)],
    }


def _checked(name: str, hint: object) -> object:
    """The type of an argument where it is a plain one; anything goes for the others."""
    members = set(get_args(hint)) or {hint}
    for member in members:
        if isinstance(member, type) and issubclass(member, Enum):
            return Annotated[str, AfterValidator(_one_of([each.value for each in member]))]
    if not {get_origin(member) or member for member in members} <= _WRITTEN:
        return Any
    if name in _LIMITS:
        limits = _LIMITS[name]
        limited = Annotated[float, limits] if float in members else Annotated[int, limits]
        return limited | None if NoneType in members else limited
    return hint


def _refusal(name: str) -> Callable[[object], object]:
    decided = _DECIDED[name]

    def refuse(value: object) -> object:
        if value not in decided.only:
            message = f"cannot be set here; {decided.reason}"
            raise ValueError(message)
        return value

    return refuse


def _one_of(names: Collection[str]) -> Callable[[str], str]:
    def check(value: str) -> str:
        if value not in names:
            message = f"{value!r} is not known; {did_you_mean(value, names)}"
            raise ValueError(message)
        return value

    return check


def _step_count(value: int) -> int:
    if value < 1 and value != -1:
        message = f"expected at least 1, or -1 to train num_train_epochs; found {value}"
        raise ValueError(message)
    return value


def _usable_trackers(value: object) -> object:
    from transformers.integrations import integration_utils

    if value is None or value in ("none", "all", ["none"], ["all"]):
        return value
    names = value if isinstance(value, list) else [value]
    installed = integration_utils.get_available_reporting_integrations()  # type: ignore[no-untyped-call]
    for name in names:
        if not isinstance(name, str):
            message = f"expected names of trackers, such as tensorboard; found {name!r}"
            raise ValueError(message)  # noqa: TRY004 - pydantic collects ValueErrors
        if name not in installed:
            _try_tracker(name)
    return value


def _try_tracker(name: str) -> None:
    from transformers.integrations import integration_utils

    try:
        made = integration_utils.get_reporting_integration_callbacks([name])  # type: ignore[no-untyped-call]
        for callback in made:
            callback()
    except (ImportError, RuntimeError, ValueError) as error:
        message = f"{name!r} cannot be used: {error}"
        raise ValueError(message) from error
