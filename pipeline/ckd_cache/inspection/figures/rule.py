"""The rule of a target that is in a cache."""

from __future__ import annotations

from ckd_cache.format.manifest import TargetRecord
from ckd_cache.merge.fit import fit_from_json
from ckd_cache.merge.rule import TargetRule

__all__ = ["recorded_rule"]


def recorded_rule(record: TargetRecord) -> TargetRule:
    """The rule by which a target was made, or is to be made, with what it learned.

    Raises:
        MergeError: it is no rule that this version knows.
    """
    settings = record.settings
    weights = settings.get("weights", {})
    return TargetRule(
        weighting=record.weighting,
        tau=1.0 if record.tau is None else record.tau,
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
        fit=None if record.fit is None else fit_from_json(record.fit),
    )
