"""Mixing teachers at some slots by given weights, with the bound on what that hides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ckd_cache.merge.controls import sharpening
from ckd_cache.merge.rule import TargetRule
from ckd_cache.merge.slots import UsedSlots
from ckd_cache.merge.voices import Voice, component_at
from ckd_cache.numerics.bounds import Rounding, coarsest, rounding_at, uncertain
from ckd_cache.numerics.geometric import mix_geometric, uncertain_geometric
from ckd_cache.numerics.logspace import log_probability
from ckd_cache.numerics.mixture import Component, Mixture, mix, row_sum
from ckd_cache.numerics.quantise import float_up
from ckd_cache.types import Array

__all__ = ["MixPlan", "components_of", "mix_slots", "with_gold"]


@dataclass(frozen=True, slots=True)
class MixPlan:
    """What is the same for all slots of a merge.

    Attributes:
        rule: how to merge.
        k: ids to keep.
        support_size: of the set.
        step: width of the grid that the target will be rounded to; 0 stores it exactly.
    """

    rule: TargetRule
    k: int
    support_size: int
    step: float


def components_of(voices: Sequence[Voice], indices: Sequence[NDArray[np.int64]]) -> list[Component]:
    """The teachers as probabilities, each at its temperature of the slot."""
    return [component_at(voice, index) for voice, index in zip(voices, indices, strict=True)]


def with_gold(gold: NDArray[np.int64]) -> Component:
    """One more component that is certain of gold, for targets that are sharpened."""
    ones = np.ones(gold.size)
    return Component(
        ids=gold[:, None],
        kept=ones[:, None],
        n_valid=np.ones(gold.size, np.int64),
        tail=np.zeros(gold.size),
        gold=ones,
    )


def mix_slots(
    slots: UsedSlots,
    voices: Sequence[Voice],
    indices: Sequence[NDArray[np.int64]],
    weights: NDArray[np.float64],
    plan: MixPlan,
    matched: NDArray[np.float64] | None = None,
) -> dict[str, Array]:
    """Mix teachers; in the order of their names, so that listing them otherwise changes no bit.

    Args:
        slots: the N used slots of some examples.
        voices: the S teachers.
        indices: of each, (N,) into its temperatures: where it is mixed.
        weights: (N, S), rows of sum 1.
        plan: how.
        matched: (N, S) weights; so much more is given to gold that it has the probability that a
            mixture by these weights would give it. None for nothing.

    Returns:
        By name, the arrays of a target at the N slots, but ``weights``.
    """
    order = sorted(range(len(voices)), key=lambda t: voices[t].name)
    components = components_of([voices[t] for t in order], [indices[t] for t in order])
    roundings = [_rounding(voices[t], plan.rule) for t in order]
    shares = weights[:, order]
    if matched is not None:
        golds = np.stack([one.gold for one in components], axis=1)
        extra = sharpening(golds, matched[:, order], shares)
        components.append(with_gold(slots.gold))
        roundings.append(rounding_at(0.0, 1.0))
        shares = np.column_stack([shares * (1.0 - extra)[:, None], extra])
    mixture, bound, gold = _mixed(components, shares, slots.gold, plan, roundings)
    return {
        "ids": mixture.ids,
        "logprobs": mixture.logprobs,
        "n_valid": mixture.n_valid,
        "tail": np.minimum(log_probability(mixture.tail), 0.0),
        "uncertain": float_up(bound),
        "gold_logprob": np.minimum(log_probability(gold), 0.0),
    }


def _mixed(
    components: Sequence[Component],
    weights: NDArray[np.float64],
    gold_ids: NDArray[np.int64],
    plan: MixPlan,
    roundings: Sequence[Rounding],
) -> tuple[Mixture, NDArray[np.float64], NDArray[np.float64]]:
    """A mixture, the bound on what it hides, and its probability of gold."""
    stored = rounding_at(plan.step, 1.0)
    if plan.rule.mixture == "geometric":
        found = mix_geometric(components, weights, gold_ids, plan.k)
        bound = uncertain_geometric(components, weights, found, roundings, stored)
        return found.mixture, bound, found.gold
    policy = plan.rule.missing
    mixture = mix(components, weights, gold_ids, plan.k, policy, plan.support_size)
    bound = uncertain(components, weights, mixture, roundings, stored)
    golds = np.stack([one.gold for one in components], axis=1)
    # Absent teachers have weight 0, and any gold.
    return mixture, bound, row_sum(np.where(weights > 0.0, golds, 0.0) * weights)


def _rounding(voice: Voice, rule: TargetRule) -> Rounding:
    """Of a teacher, the most at any of the temperatures that the rule mixes it at anywhere."""
    fitted = None if rule.fit is None else rule.fit.temperatures
    temperatures = [rule.temperature]
    if rule.calibrate == "target" and fitted is not None:
        temperatures = list(fitted[voice.name].values())
    more = 0.0 if voice.gathered is None else voice.gathered.step
    return coarsest([rounding_at(voice.capture.step, one, more) for one in temperatures])
