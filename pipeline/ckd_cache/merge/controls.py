"""Controls: what a label does to a target when nothing is learned of which teacher is right.

Random numbers are raw words of a counter-based generator, keyed by the rule's seed, the example and
the slot: the same on every machine and in whatever order examples are read (docs/merge.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ckd_cache.merge.evidence import Evidence
from ckd_cache.merge.label_using import gold_weights
from ckd_cache.numerics.mixture import ordered_sum
from ckd_cache.numerics.philox import words_at

if TYPE_CHECKING:
    from ckd_cache.merge.rule import TargetRule

__all__ = ["SLOTS_PURPOSE", "TEACHERS_PURPOSE", "random_weights", "sharpening"]

TEACHERS_PURPOSE = 1
"""Purpose of the words that permute the teachers of a slot."""
SLOTS_PURPOSE = 2
"""Purpose of the words that shuffle weights between slots."""


def random_weights(evidence: Evidence, rule: TargetRule) -> NDArray[np.float64]:
    """Gold's weights (N, S), shuffled over ``rule.shuffle``.

    ``teachers``: at each slot the weights of the teachers present are permuted among them. Word r
    of the slot belongs to the r-th teacher by name; the teachers present, by name, get the weights
    of the teachers present, by word.

    ``slots``: whole weight vectors are permuted among the slots of one kind at which the same
    teachers are present, within the slots handed in. In each such group the slots, in their order,
    get the weights of the slots, in the order of their first words.
    """
    weights = gold_weights(evidence, rule)
    if rule.shuffle == "teachers":
        return _over_teachers(weights, evidence, rule)
    return _over_slots(weights, evidence, rule)


def sharpening(
    gold_probability: NDArray[np.float64],
    gold_weights: NDArray[np.float64],
    uniform_weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Share ε of a one-hot component on gold that gives a uniform mixture gold's mass on gold.

    ε = (P_gold(y) - P_unif(y)) / (1 - P_unif(y)): (1 - ε) P_unif(y) + ε = P_gold(y). 0 where
    P_unif(y) = 1, and where P_gold(y) < P_unif(y), as may happen at a temperature other than that
    of the weights.

    Args:
        gold_probability: (N, S) p_t(y) at the target's temperature; ignored where both weights
            are 0.
        gold_weights: (N, S) weights that look at gold.
        uniform_weights: (N, S).

    Returns:
        (N,) in [0, 1).
    """
    sharp = _mass(gold_probability, gold_weights)
    flat = _mass(gold_probability, uniform_weights)
    room = 1.0 - flat
    open_ = room > 0.0
    share = np.where(open_, (sharp - flat) / np.where(open_, room, 1.0), 0.0)
    result: NDArray[np.float64] = np.clip(share, 0.0, np.nextafter(1.0, 0.0))
    return result


def _mass(probability: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    masses = np.where(weights > 0.0, weights * probability, 0.0)
    return ordered_sum(np.ascontiguousarray(masses))


def _over_teachers(
    weights: NDArray[np.float64], evidence: Evidence, rule: TargetRule
) -> NDArray[np.float64]:
    by_name = sorted(range(evidence.teachers), key=lambda t: rule.teachers[t])
    words = words_at(
        rule.seed, TEACHERS_PURPOSE, evidence.example, evidence.slot, evidence.teachers
    )
    absent = ~evidence.present[:, by_name]
    givers = np.lexsort((words, absent), axis=1)
    takers = np.argsort(absent, axis=1, kind="stable")
    given = np.take_along_axis(weights[:, by_name], givers, axis=1)
    taken = np.empty_like(given)
    np.put_along_axis(taken, takers, given, axis=1)
    result = np.empty_like(weights)
    result[:, by_name] = taken
    return result


def _over_slots(
    weights: NDArray[np.float64], evidence: Evidence, rule: TargetRule
) -> NDArray[np.float64]:
    words = words_at(rule.seed, SLOTS_PURPOSE, evidence.example, evidence.slot, 1)
    alike = (*evidence.present.T, evidence.kind)
    result = np.empty_like(weights)
    result[np.lexsort((np.arange(len(evidence)), *alike))] = weights[
        np.lexsort((words[:, 0], *alike))
    ]
    return result
