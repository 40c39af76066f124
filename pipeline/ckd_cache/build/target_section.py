"""The section of a recipe that asks for a target."""

from __future__ import annotations

from pydantic import Field

from ckd_cache.build.recipe_sources import Name, Section
from ckd_cache.merge.names import (
    Calibration,
    MissingPolicy,
    MixtureKind,
    Prior,
    Shuffle,
    WeightingName,
)

__all__ = ["Target"]


class Target(Section):
    """A mixture of the teachers."""

    name: Name
    weighting: WeightingName = "gold"
    tau: float | None = Field(None, ge=0, description="default: the rule's own, docs/merge.md")
    temperature: float = Field(1.0, gt=0)
    top_k: int | None = Field(None, ge=1, le=65_535, description="default: capture.top_k")
    teachers: list[Name] | None = Field(
        None, min_length=1, description="default: all teachers of the recipe"
    )
    missing: MissingPolicy = "bucket"
    mixture: MixtureKind = "arithmetic"
    calibrate: Calibration = "none"
    prior: Prior = "uniform"
    weights: dict[Name, float] | None = Field(None, description="of `fixed`, by teacher")
    shuffle: Shuffle = "teachers"
    seed: int = Field(0, ge=0, lt=2**63)
    stored: bool = Field(True, description="false: record the rule only, for live targets")
