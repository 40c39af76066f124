"""What a target is made by, and whether the captures allow it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ckd_cache.errors import MergeError
from ckd_cache.format.spec import Capture
from ckd_cache.merge.weights import WEIGHTINGS

__all__ = ["MISSING_POLICIES", "TargetRule", "check_captures"]

MISSING_POLICIES = ("bucket",)
"""What may be done with ids that a teacher does not keep; docs/merge.md."""


@dataclass(frozen=True, slots=True)
class TargetRule:
    """How teachers are merged into a target.

    Attributes:
        weighting: name of a rule in ``WEIGHTINGS``.
        tau: softness of the rule, > 0.
        temperature: of the target, > 0; a temperature that every teacher was captured at.
        top_k: ids to keep, at least 1; the support's size if that is smaller.
        teachers: names, at least one, none twice; the weights stand in this order.
        missing: ``bucket``, mass that a teacher gives to ids it does not keep stays in the tail.

    Raises:
        MergeError: a field has none of these values.
    """

    weighting: str
    tau: float
    temperature: float
    top_k: int
    teachers: tuple[str, ...]
    missing: str = "bucket"

    def __post_init__(self) -> None:
        """Check the fields one by one, each with a message of its own."""
        _check_name("weighting", self.weighting, sorted(WEIGHTINGS))
        _check_name("missing", self.missing, MISSING_POLICIES)
        _check_positive("tau", self.tau)
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

    def effective_k(self, support_size: int) -> int:
        """Ids that are kept: no more than the support has."""
        return min(self.top_k, support_size)


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


def _check_positive(field: str, found: float) -> None:
    if not (math.isfinite(found) and found > 0.0):
        message = f"{field} is {found}, expected a finite number above 0: set {field}, e.g. to 1.0"
        raise MergeError(message)
