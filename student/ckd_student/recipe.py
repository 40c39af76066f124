"""A student's recipe: model, loss, data and training.

``training`` takes the fields of ``transformers.TrainingArguments`` by name, but those that this
package decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from ckd_cache.settings import read_settings
from ckd_student.training_section import training_section

__all__ = ["DataRecipe", "LossRecipe", "ModelRecipe", "StudentRecipe", "read_recipe"]

Split = Literal["train", "fit", "test"]
Seed = Annotated[int, Field(ge=0, lt=2**64)]


class _Section(BaseModel):
    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=()
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
        evaluate: split on which the held-out loss is measured; ``none`` measures nothing.
        window: chunks that are shuffled together and kept in memory.
    """

    seed: Seed = 0
    set: str = "text"
    train: Split = "train"
    evaluate: Literal["train", "fit", "test", "none"] = "test"
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
    section = training_section(_Section)
    training = (section, Field(default_factory=section))
    return create_model("WrittenRecipe", __base__=StudentRecipe, training=training)
