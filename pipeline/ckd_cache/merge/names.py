"""Names of the rules and of their settings; imports nothing heavy, for command lines."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = [
    "CALIBRATIONS",
    "MISSING_POLICIES",
    "MIXTURES",
    "PRIORS",
    "SHUFFLES",
    "WEIGHTING_NAMES",
    "Calibration",
    "MissingPolicy",
    "MixtureKind",
    "Prior",
    "Shuffle",
    "WeightingName",
]

WeightingName = Literal[
    "gold",
    "uniform",
    "fixed",
    "max_prob",
    "entropy",
    "entropy_linear",
    "ca_mkd",
    "correctness",
    "min_ce",
    "avg_ce",
    "segment_entropy",
    "segment_loo",
    "fitted",
    "gate",
    "random",
    "gold_sharpened_uniform",
]
MissingPolicy = Literal["bucket", "spread", "exact"]
"""What may be done with ids that a teacher does not keep; docs/merge.md."""
MixtureKind = Literal["arithmetic", "geometric"]
Calibration = Literal["none", "weights", "target"]
"""Whether fitted temperatures are used: not at all, for the weights, or for what is mixed too."""
Prior = Literal["uniform", "fitted"]
Shuffle = Literal["teachers", "slots"]
"""What the control ``random`` shuffles gold's weights over."""

WEIGHTING_NAMES: tuple[str, ...] = get_args(WeightingName)
MISSING_POLICIES: tuple[str, ...] = get_args(MissingPolicy)
MIXTURES: tuple[str, ...] = get_args(MixtureKind)
CALIBRATIONS: tuple[str, ...] = get_args(Calibration)
PRIORS: tuple[str, ...] = get_args(Prior)
SHUFFLES: tuple[str, ...] = get_args(Shuffle)
