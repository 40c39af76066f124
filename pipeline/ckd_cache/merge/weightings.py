"""The rules of prediction weights by name (docs/merge.md); the set is closed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ckd_cache.merge.controls import random_weights
from ckd_cache.merge.evidence import Evidence
from ckd_cache.merge.fitted import fitted_weights
from ckd_cache.merge.gate import gate_weights
from ckd_cache.merge.label_free import (
    entropy_linear_weights,
    entropy_weights,
    fixed_weights,
    max_prob_weights,
    segment_entropy_weights,
    uniform_weights,
)
from ckd_cache.merge.label_using import (
    avg_ce_weights,
    ca_mkd_weights,
    correctness_weights,
    gold_weights,
    min_ce_weights,
    segment_loo_weights,
)

if TYPE_CHECKING:
    from ckd_cache.merge.rule import TargetRule

__all__ = ["WEIGHTINGS", "Weighting"]


@dataclass(frozen=True, slots=True)
class Weighting:
    """A rule.

    Attributes:
        weigh: (evidence, rule) to weights (N, S), non-negative, rows of sum 1, 0 where a teacher
            is not present.
        tau: softness that is taken where none is given.
        uses_gold: the target at a slot looks at gold: its own, or that of other slots.
        fitted: something is learned on the split ``fit`` first.
        sharpened: gold is given as much more as gold's weights would give it.
    """

    weigh: Callable[[Evidence, TargetRule], NDArray[np.float64]]
    tau: float = 1.0
    uses_gold: bool = False
    fitted: bool = False
    sharpened: bool = False


WEIGHTINGS: Mapping[str, Weighting] = MappingProxyType(
    {
        "uniform": Weighting(uniform_weights),
        "fixed": Weighting(fixed_weights),
        "gold": Weighting(gold_weights, uses_gold=True),
        "max_prob": Weighting(max_prob_weights),
        "entropy": Weighting(entropy_weights),
        "entropy_linear": Weighting(entropy_linear_weights),
        "ca_mkd": Weighting(ca_mkd_weights, uses_gold=True),
        "correctness": Weighting(correctness_weights, uses_gold=True),
        "min_ce": Weighting(min_ce_weights, tau=0.0, uses_gold=True),
        "avg_ce": Weighting(avg_ce_weights, uses_gold=True),
        "segment_entropy": Weighting(segment_entropy_weights),
        "segment_loo": Weighting(segment_loo_weights, uses_gold=True),
        "fitted": Weighting(fitted_weights, fitted=True),
        "gate": Weighting(gate_weights, fitted=True),
        "random": Weighting(random_weights, uses_gold=True),
        "gold_sharpened_uniform": Weighting(uniform_weights, uses_gold=True, sharpened=True),
    }
)
