"""The rule of a target, to the manifest and back."""

from __future__ import annotations

from ckd_cache.errors import DamagedCacheError
from ckd_cache.format.manifest import TargetRecord
from ckd_cache.merge.fit import Fit, fit_from_json
from ckd_cache.merge.rule import TargetRule
from ckd_cache.merge.weightings import WEIGHTINGS
from ckd_cache.types import JsonObject

__all__ = ["recorded_rule", "rule_settings"]


def rule_settings(rule: TargetRule) -> JsonObject:
    """Settings that only some rules have, by name, as far as this rule has them."""
    settings: JsonObject = {}
    if rule.prior != "uniform":
        settings["prior"] = rule.prior
    if rule.weighting == "fixed":
        settings["weights"] = dict(zip(rule.teachers, rule.weights, strict=True))
    if rule.weighting == "random":
        settings |= {"shuffle": rule.shuffle, "seed": rule.seed}
    return settings


def recorded_rule(record: TargetRecord) -> TargetRule:
    """The rule by which a target was made, or is to be made, with what it learned.

    Raises:
        MergeError: it is no rule that this version knows.
        DamagedCacheError: what it learned cannot be understood.
    """
    settings = record.settings
    weights = settings.get("weights", {})
    tau = record.tau
    if tau is None:
        tau = WEIGHTINGS[record.weighting].tau if record.weighting in WEIGHTINGS else 1.0
    return TargetRule(
        weighting=record.weighting,
        tau=tau,
        temperature=record.temperature,
        top_k=record.k,
        teachers=tuple(record.teachers),
        missing=record.missing,
        mixture=record.mixture,
        calibrate=record.calibrate,
        prior=settings.get("prior", "uniform"),
        weights=tuple(weights[name] for name in record.teachers if name in weights),
        shuffle=settings.get("shuffle", "teachers"),
        seed=settings.get("seed", 0),
        fit=None if record.fit is None else _fit(record.fit),
    )


def _fit(members: JsonObject) -> Fit:
    try:
        return fit_from_json(members)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        message = (
            f"what a target learned cannot be understood ({type(error).__name__}: {error}): the "
            "manifest was written by another program. Drop the target with `ckd-cache drop`, and "
            "merge it again."
        )
        raise DamagedCacheError(message) from error
