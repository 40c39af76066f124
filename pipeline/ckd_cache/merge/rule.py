"""What a target is made by, and whether the captures allow it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ckd_cache.errors import MergeError
from ckd_cache.format.spec import Capture
from ckd_cache.merge.fit import Fit
from ckd_cache.merge.names import CALIBRATIONS, MISSING_POLICIES, MIXTURES, PRIORS, SHUFFLES
from ckd_cache.merge.weightings import WEIGHTINGS

__all__ = ["TargetRule", "check_captures", "needs_fit"]


@dataclass(frozen=True, slots=True)
class TargetRule:
    """How teachers are merged into a target.

    Attributes:
        weighting: name of a rule in ``WEIGHTINGS``.
        tau: softness of the rule, >= 0; 0 is the limit in which the best teacher counts alone.
        temperature: of the target, > 0; a temperature that every teacher was captured at.
        top_k: ids to keep, at least 1; the support's size if that is smaller.
        teachers: names, at least one, none twice; the weights stand in this order.
        missing: what becomes of ids that a teacher does not keep: ``bucket`` leaves their mass in
            the tail, ``spread`` shares the tail out evenly, ``exact`` takes gathered logprobs.
        mixture: ``arithmetic`` or ``geometric``.
        calibrate: ``none``, ``weights`` or ``target``.
        prior: of ``gold`` and ``segment_loo``.
        weights: of ``fixed``, in the order of ``teachers``; else empty.
        shuffle: of ``random``.
        seed: of ``random``, 0 … 2^63 - 1.
        fit: what was learned on the split ``fit``; None where nothing was, or not yet.

    Raises:
        MergeError: a field has none of these values, or two do not go together.
    """

    weighting: str
    tau: float
    temperature: float
    top_k: int
    teachers: tuple[str, ...]
    missing: str = "bucket"
    mixture: str = "arithmetic"
    calibrate: str = "none"
    prior: str = "uniform"
    weights: tuple[float, ...] = ()
    shuffle: str = "teachers"
    seed: int = 0
    fit: Fit | None = None

    def __post_init__(self) -> None:
        """Check the fields one by one, each with a message of its own."""
        _check_name("weighting", self.weighting, sorted(WEIGHTINGS))
        _check_name("missing", self.missing, MISSING_POLICIES)
        _check_name("mixture", self.mixture, MIXTURES)
        _check_name("calibrate", self.calibrate, CALIBRATIONS)
        _check_name("prior", self.prior, PRIORS)
        _check_name("shuffle", self.shuffle, SHUFFLES)
        _check_tau(self.tau)
        _check_seed(self.seed)
        _check_positive("temperature", self.temperature)
        if self.top_k < 1:
            message = f"top_k is {self.top_k}, but a target keeps at least 1 id: set top_k >= 1"
            raise MergeError(message)
        if not self.teachers or len(set(self.teachers)) < len(self.teachers):
            message = (
                f"teachers is {list(self.teachers)}, but a target needs one or more teachers, "
                "each once: correct the list of teachers of the target"
            )
            raise MergeError(message)
        _check_fixed(self)
        _check_together(self)

    def effective_k(self, support_size: int) -> int:
        """Ids that are kept: no more than the support has."""
        return min(self.top_k, support_size)


def needs_fit(rule: TargetRule) -> bool:
    """Whether a rule learns something on the split ``fit`` before it can be used."""
    learned = WEIGHTINGS[rule.weighting].fitted or rule.calibrate != "none"
    return learned or rule.prior == "fitted"


def check_captures(rule: TargetRule, captures: Sequence[Capture]) -> None:
    """Check that every teacher was captured as the rule needs it.

    Args:
        rule: the rule.
        captures: one for each of ``rule.teachers``, in their order.

    Raises:
        MergeError: their number is wrong, or a teacher lacks the rule's temperature or 1.0.
    """
    if len(captures) != len(rule.teachers):
        message = (
            f"got captures of {len(captures)} teachers, expected {len(rule.teachers)}: "
            f"one for each of {', '.join(rule.teachers)}"
        )
        raise MergeError(message)
    for name, capture in zip(rule.teachers, captures, strict=True):
        for needed in (1.0, rule.temperature):
            if needed not in capture.temperatures:
                raise MergeError(_not_captured(needed, name, capture, rule, captures))


def _not_captured(
    needed: float, name: str, capture: Capture, rule: TargetRule, captures: Sequence[Capture]
) -> str:
    common = set.intersection(*(set(c.temperatures) for c in captures))
    shared = ", ".join(str(t) for t in sorted(common)) or "none"
    found = ", ".join(str(t) for t in capture.temperatures)
    reason = "" if needed == rule.temperature else " (prediction weights are computed there)"
    return (
        f"a target at temperature {rule.temperature} needs teachers captured at {needed}{reason}, "
        f"but teacher {name!r} was captured at {found}; captured of all of "
        f"{', '.join(rule.teachers)}: {shared}. Choose one of these for the target, or add "
        f"{needed} to capture.temperatures and build the teachers into a new cache"
    )


def _check_name(field: str, found: str, known: Sequence[str]) -> None:
    if found not in known:
        message = (
            f"unknown {field} {found!r}; known: {', '.join(known)}. Set {field} to one of them"
        )
        raise MergeError(message)


def _check_tau(found: float) -> None:
    if not (math.isfinite(found) and found >= 0.0):
        message = f"tau is {found}, expected a finite number, 0 or above: set tau, e.g. to 1.0"
        raise MergeError(message)


def _check_seed(found: int) -> None:
    if not 0 <= found < 2**63:
        message = (
            f"seed is {found}, expected a whole number from 0 to 2^63 - 1: set seed, e.g. to 0"
        )
        raise MergeError(message)


def _check_positive(field: str, found: float) -> None:
    if not (math.isfinite(found) and found > 0.0):
        message = f"{field} is {found}, expected a finite number above 0: set {field}, e.g. to 1.0"
        raise MergeError(message)


def _check_fixed(rule: TargetRule) -> None:
    given = rule.weights
    if rule.weighting != "fixed":
        if given:
            message = (
                f"weights are given, but weighting is {rule.weighting!r}, which computes its own: "
                "set weighting to `fixed`, or leave the weights out"
            )
            raise MergeError(message)
        return
    usable = all(math.isfinite(weight) and weight >= 0.0 for weight in given)
    if len(given) != len(rule.teachers) or not usable or sum(given) <= 0.0:
        message = (
            f"weighting `fixed` has weights {list(given)} for the teachers "
            f"{', '.join(rule.teachers)}, expected a number of 0 or above for each of them, not "
            "all 0: give one weight a teacher, in their order"
        )
        raise MergeError(message)


def _check_together(rule: TargetRule) -> None:
    if rule.mixture == "geometric" and rule.missing != "exact":
        message = (
            f"mixture `geometric` with missing {rule.missing!r}: a token that a teacher does not "
            "keep has no known logprob, and would count as 0. Set missing to `exact` (the cache "
            "needs gathered logprobs, see docs/merge.md), or mixture to `arithmetic`"
        )
        raise MergeError(message)
    if rule.mixture == "geometric" and WEIGHTINGS[rule.weighting].sharpened:
        message = (
            f"weighting {rule.weighting!r} with mixture `geometric`: a component that is certain "
            "of gold would give every other id probability 0. Set mixture to `arithmetic`"
        )
        raise MergeError(message)
    if rule.calibrate == "target" and rule.temperature != 1.0:
        message = (
            f"calibrate `target` mixes each teacher at the temperature that was fitted for it, but "
            f"temperature is {rule.temperature}: set temperature to 1.0, or calibrate to `weights`"
        )
        raise MergeError(message)
    if rule.prior == "fitted" and rule.weighting not in {"gold", "segment_loo"}:
        message = (
            f"prior `fitted` with weighting {rule.weighting!r}, which has no prior: set prior to "
            "`uniform`, or weighting to `gold` or `segment_loo`"
        )
        raise MergeError(message)
