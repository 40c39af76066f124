"""The section of a recipe that asks for a target."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ckd_cache.build.recipe_sources import Name, Section

__all__ = ["Target", "Weighting"]

Weighting = Literal[
    "avg_ce",
    "ca_mkd",
    "correctness",
    "entropy",
    "entropy_linear",
    "fitted",
    "fixed",
    "gate",
    "gold",
    "gold_sharpened_uniform",
    "max_prob",
    "min_ce",
    "random",
    "segment_entropy",
    "segment_loo",
    "uniform",
]
"""The rules of `ckd_cache.merge.weightings`, which a test holds this list to."""


class Target(Section):
    """A mixture of the teachers."""

    name: Name
    weighting: Weighting = "gold"
    tau: float | None = Field(None, ge=0, description="default: the rule's own, docs/merge.md")
    temperature: float = Field(1.0, gt=0)
    top_k: int | None = Field(None, ge=1, le=65_535, description="default: capture.top_k")
    teachers: list[Name] | None = Field(
        None, min_length=1, description="default: all teachers of the recipe"
    )
    missing: Literal["bucket", "spread", "exact"] = "bucket"
    mixture: Literal["arithmetic", "geometric"] = "arithmetic"
    calibrate: Literal["none", "weights", "target"] = "none"
    prior: Literal["uniform", "fitted"] = "uniform"
    weights: dict[Name, float] | None = Field(None, description="of `fixed`, by teacher")
    shuffle: Literal["teachers", "slots"] = "teachers"
    seed: int = Field(0, ge=0, lt=2**63)
    stored: bool = Field(True, description="false: record the rule only, for live targets")
