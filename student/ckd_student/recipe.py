"""A student's recipe: model, loss, data and training.

``training`` takes the fields of ``transformers.TrainingArguments`` by name, but those that this
package decides.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, Self, get_args, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model, model_validator

from ckd_cache.settings import read_settings
from ckd_cache.types import JsonObject

__all__ = [
    "TRAINING_DEFAULTS",
    "DataRecipe",
    "LossRecipe",
    "ModelRecipe",
    "StudentRecipe",
    "read_recipe",
]

Split = Literal["train", "fit", "test"]
Seed = Annotated[int, Field(ge=0, lt=2**64)]

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
    "local_rank": _Decided("the launcher sets it"),
    "do_train": _Decided("'ckd-student train' trains"),
    "do_eval": _Decided("held-out loss is always measured at the end"),
    "do_predict": _Decided("use ckd-student evaluate"),
}


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=()
    )


class ModelRecipe(_Section):
    """A fresh model from a config, or an existing one.

    Attributes:
        config: ``model_type`` and fields of that family's config; vocabulary and special ids
            come from the cache.
        path: folder (relative to the recipe) or hub name of a masked LM to go on from.
        seed: of the fresh weights.
    """

    config: dict[str, Any] | None = None
    path: str | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.config is None) == (self.path is None):
            message = "give either config (a fresh model) or path (an existing one)"
            raise ValueError(message)
        if self.config is not None and not isinstance(self.config.get("model_type"), str):
            message = "config needs model_type, such as bert"
            raise ValueError(message)
        return self


class LossRecipe(_Section):
    """``distill`` · T² · KL(target || student) + ``hard`` · cross-entropy with gold.

    Attributes:
        distill: weight of the KL.
        hard: weight of the cross-entropy.
        temperature: T; must be that of the target.
        tail: how the mass outside the kept ids counts; ``bucket``: as one cell.
    """

    distill: Annotated[float, Field(ge=0)] = 0.9
    hard: Annotated[float, Field(ge=0)] = 0.1
    temperature: Annotated[float, Field(gt=0)] = 1.0
    tail: Literal["bucket"] = "bucket"

    @model_validator(mode="after")
    def _some_loss(self) -> Self:
        if self.distill == 0.0 and self.hard == 0.0:
            message = "distill and hard are both 0: nothing would be learnt"
            raise ValueError(message)
        return self


class DataRecipe(_Section):
    """What is read, and in which order.

    Attributes:
        seed: of the order.
        set: the set of the cache.
        train: split that is trained on.
        evaluate: split on which the held-out loss is measured.
        window: chunks that are shuffled together and kept in memory.
    """

    seed: Seed = 0
    set: str = "text"
    train: Split = "train"
    evaluate: Split = "test"
    window: Annotated[int, Field(ge=1, le=65_536)] = 16

    @model_validator(mode="after")
    def _held_out(self) -> Self:
        if self.train == self.evaluate:
            message = f"train and evaluate are both {self.train!r}: the loss would not be held out"
            raise ValueError(message)
        return self


class StudentRecipe(_Section):
    """A student's recipe.

    Attributes:
        training: fields of TrainingArguments that the recipe sets, by name.
    """

    model: ModelRecipe
    loss: LossRecipe = LossRecipe()
    data: DataRecipe = DataRecipe()
    training: dict[str, Any]


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> StudentRecipe:
    """The recipe at ``path``, changed by ``overrides`` (``a.b=c``).

    Raises:
        RecipeError: something in it is wrong; the message lists every problem.
    """
    read = read_settings(path, _written_recipe(), overrides)
    sections = {name: getattr(read, name) for name in StudentRecipe.model_fields}
    training = sections.pop("training").model_dump(exclude_unset=True)
    return StudentRecipe(**sections, training=training)


@cache
def _written_recipe() -> type[StudentRecipe]:
    """The recipe as it is validated: ``training`` a section with a field for every argument."""
    training = (_training_section(), Field(default_factory=_training_section()))
    return create_model("WrittenRecipe", __base__=StudentRecipe, training=training)


def _training_section() -> type[BaseModel]:
    from transformers import TrainingArguments

    hints = get_type_hints(TrainingArguments)
    known = {field.name: hints[field.name] for field in dataclasses.fields(TrainingArguments)}
    fields: dict[str, Any] = {name: (_checked(hint), None) for name, hint in known.items()}
    for name in _DECIDED:
        fields[name] = (Annotated[Any, AfterValidator(_refusal(name))], None)
    return create_model("Training", __base__=_Section, **fields)


def _checked(hint: object) -> object:
    """The type of an argument where it is a plain one; anything goes for the others."""
    plain = {int, float, bool, str}
    members = set(get_args(hint))
    return hint if hint in plain or (members and members <= plain | {NoneType}) else Any


def _refusal(name: str) -> Callable[[object], object]:
    decided = _DECIDED[name]

    def refuse(value: object) -> object:
        if value not in decided.only:
            message = f"cannot be set here; {decided.reason}"
            raise ValueError(message)
        return value

    return refuse
