"""The rules of prediction weights by name (docs/merge.md); the set is closed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ckd_cache.merge.evidence import Evidence
from ckd_cache.merge.softmax import softmax_weights

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
        uses_gold: the weights of a slot look at gold: its own, or that of other slots.
        fitted: something is learned on the split ``fit`` first.
        sharpened: gold is given as much more as gold's weights would give it.
    """

    weigh: Callable[[Evidence, TargetRule], NDArray[np.float64]]
    tau: float = 1.0
    uses_gold: bool = False
    fitted: bool = False
    sharpened: bool = False


def _uniform(evidence: Evidence, rule: TargetRule) -> NDArray[np.float64]:
    return softmax_weights(np.zeros(evidence.present.shape), 1.0, evidence.present)


def _gold(evidence: Evidence, rule: TargetRule) -> NDArray[np.float64]:
    return softmax_weights(evidence.gold_logprob, rule.tau, evidence.present)


WEIGHTINGS: Mapping[str, Weighting] = MappingProxyType(
    {"uniform": Weighting(_uniform), "gold": Weighting(_gold, uses_gold=True)}
)
