"""Names of the rules and of their settings; imports nothing, for command lines."""

from __future__ import annotations

__all__ = ["CALIBRATIONS", "MISSING_POLICIES", "MIXTURES", "PRIORS", "SHUFFLES", "WEIGHTING_NAMES"]

WEIGHTING_NAMES = (
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
)
MISSING_POLICIES = ("bucket", "spread", "exact")
"""What may be done with ids that a teacher does not keep; docs/merge.md."""
MIXTURES = ("arithmetic", "geometric")
CALIBRATIONS = ("none", "weights", "target")
"""Whether fitted temperatures are used: not at all, for the weights, or for what is mixed too."""
PRIORS = ("uniform", "fitted")
SHUFFLES = ("teachers", "slots")
"""What the control ``random`` shuffles gold's weights over."""
