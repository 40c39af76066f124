"""A target as a person asks for it, as a recipe says it, and as a cache has it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ckd_cache.build.recipe_sources import NAME_PATTERN
from ckd_cache.build.target_section import Target
from ckd_cache.errors import MergeError, RecipeError
from ckd_cache.format.manifest import TargetRecord
from ckd_cache.merge.fit import Fit
from ckd_cache.merge.recorded import recorded_rule, rule_settings
from ckd_cache.merge.rule import TargetRule
from ckd_cache.merge.weightings import WEIGHTINGS
from ckd_cache.types import JsonObject

__all__ = [
    "TargetRequest",
    "refuse_contradictions",
    "request_in_recipe",
    "request_of",
    "rule_identity",
    "rule_of",
]

_NAME = re.compile(NAME_PATTERN)
_DEFAULTS = {"mixture": "arithmetic", "calibrate": "none"}


@dataclass(frozen=True, slots=True)
class TargetRequest:
    """A target as a person asks for it.

    Attributes:
        name: of the target.
        weighting: rule of the prediction weights.
        tau: softness of the rule; None for the rule's own.
        temperature: of the target.
        top_k: entries kept a slot; None for as many as the first teacher's.
        teachers: names, in order; None for those the target has if it is there, else for all that
            the set has.
        missing: what becomes of ids that a teacher does not keep.
        mixture: ``arithmetic`` or ``geometric``.
        calibrate: ``none``, ``weights`` or ``target``.
        prior: of ``gold`` and ``segment_loo``.
        weights: of ``fixed``, by teacher.
        shuffle: of ``random``.
        seed: of ``random``.
        stored: False to record the rule only, for use at load time.

    Raises:
        RecipeError: the name cannot be a folder's.
    """

    name: str
    weighting: str
    tau: float | None = None
    temperature: float = 1.0
    top_k: int | None = None
    teachers: tuple[str, ...] | None = None
    missing: str = "bucket"
    mixture: str = "arithmetic"
    calibrate: str = "none"
    prior: str = "uniform"
    weights: Mapping[str, float] = field(default_factory=dict)
    shuffle: str = "teachers"
    seed: int = 0
    stored: bool = True

    def __post_init__(self) -> None:
        """Check the name, which becomes a folder."""
        if not _NAME.fullmatch(self.name):
            message = (
                f"a target cannot be called {self.name!r}; expected up to 64 letters, digits, "
                "`_` and `-`, beginning with a letter or digit. Give it another name."
            )
            raise RecipeError(message)

    @property
    def softness(self) -> float:
        """The tau that is meant."""
        if self.tau is not None or self.weighting not in WEIGHTINGS:
            return 1.0 if self.tau is None else self.tau
        return WEIGHTINGS[self.weighting].tau


def request_in_recipe(target: Target, top_k: int) -> TargetRequest:
    """The request that a recipe makes; ``top_k`` is that of its capture."""
    return TargetRequest(
        name=target.name,
        weighting=target.weighting,
        tau=target.tau,
        temperature=target.temperature,
        top_k=target.top_k or top_k,
        teachers=tuple(target.teachers) if target.teachers else None,
        missing=target.missing,
        mixture=target.mixture,
        calibrate=target.calibrate,
        prior=target.prior,
        weights=target.weights or {},
        shuffle=target.shuffle,
        seed=target.seed,
        stored=target.stored,
    )


def request_of(name: str, record: TargetRecord) -> TargetRequest:
    """The request that a target in a cache was made by.

    Raises:
        MergeError: it was made by a rule that this version does not know.
        DamagedCacheError: what the rule learned cannot be understood.
    """
    rule = recorded_rule(record)
    return TargetRequest(
        name=name,
        weighting=rule.weighting,
        tau=rule.tau,
        temperature=rule.temperature,
        top_k=rule.top_k,
        teachers=rule.teachers,
        missing=rule.missing,
        mixture=rule.mixture,
        calibrate=rule.calibrate,
        prior=rule.prior,
        weights=dict(zip(rule.teachers, rule.weights, strict=bool(rule.weights))),
        shuffle=rule.shuffle,
        seed=rule.seed,
        stored=record.stored,
    )


def rule_of(
    request: TargetRequest, teachers: tuple[str, ...], top_k: int, fit: Fit | None = None
) -> TargetRule:
    """The rule that a request means.

    Args:
        request: what is asked for.
        teachers: its teachers, in order.
        top_k: entries to keep.
        fit: what was learned.

    Raises:
        MergeError: the fields of the request do not go together.
    """
    if request.weights and set(request.weights) != set(teachers):
        raise MergeError(_other_shares(request, teachers))
    weights = tuple(request.weights[name] for name in teachers) if request.weights else ()
    return TargetRule(
        weighting=request.weighting,
        tau=request.softness,
        temperature=request.temperature,
        top_k=top_k,
        teachers=teachers,
        missing=request.missing,
        mixture=request.mixture,
        calibrate=request.calibrate,
        prior=request.prior,
        weights=weights,
        shuffle=request.shuffle,
        seed=request.seed,
        fit=fit,
    )


def refuse_contradictions(request: TargetRequest) -> None:
    """Check what can be said of a request whatever cache it is for.

    Raises:
        RecipeError: its fields do not go together.
    """
    if request.weighting == "fixed" and not request.weights:
        message = (
            "weighting `fixed` without weights, expected a share for each teacher: give"
            " --weight TEACHER=SHARE once for each of them (in a recipe, `weights:` by teacher)"
        )
        raise RecipeError(message)
    if request.weighting != "random" and (request.shuffle != "teachers" or request.seed != 0):
        message = (
            f"shuffle or seed is given, but weighting is {request.weighting!r}, which shuffles "
            "nothing: leave them out, or set weighting to `random`"
        )
        raise RecipeError(message)
    teachers = request.teachers or tuple(request.weights) or ("any",)
    try:
        rule_of(request, teachers, request.top_k or 1)
    except MergeError as error:
        raise RecipeError(str(error)) from error


def _other_shares(request: TargetRequest, teachers: tuple[str, ...]) -> str:
    given = ", ".join(f"{name} {share:g}" for name, share in request.weights.items())
    return (
        f"target {request.name}: weights are given for {given}, expected one for each of its"
        f" teachers {', '.join(teachers)}, and for no other: give each teacher one share"
    )


def rule_identity(rule: TargetRule, k: int, max_nats: float, fit: JsonObject | None) -> JsonObject:
    """Identity of a target, without its teacher parts.

    Members that format version 1 did not have are there only where they say something, so that
    the fingerprints of its targets stay as they are.

    Args:
        rule: what makes the target.
        k: entries kept of a slot.
        max_nats: what quantising the target may cost.
        fit: what was learned, as the manifest has it; its numbers count, not what it says of them.
    """
    learned = {} if fit is None else {name: fit[name] for name in fit if name != "on"}
    extra = {"mixture": rule.mixture, "calibrate": rule.calibrate, **rule_settings(rule)}
    if learned:
        extra["fit"] = learned
    return {
        "teachers": list(rule.teachers),
        "weighting": rule.weighting,
        "tau": rule.tau,
        "temperature": rule.temperature,
        "top_k": k,
        "missing": rule.missing,
        "max_nats": max_nats,
        **{name: value for name, value in extra.items() if value != _DEFAULTS.get(name)},
    }
