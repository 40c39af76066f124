"""What a rule learns on the split ``fit``: temperatures, constant weights, a gate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ckd_cache.errors import MergeError
from ckd_cache.merge.calibration import calibrated_scalars, choose_temperatures, nll_sums
from ckd_cache.merge.evidence import Evidence
from ckd_cache.merge.features import FEATURES, features
from ckd_cache.merge.fit import SLOT_TYPES, Fit, Gate
from ckd_cache.merge.fit_record import (
    calibration_record,
    gate_record,
    sample_record,
    weights_record,
)
from ckd_cache.merge.fit_sample import MOST_SLOTS, FitBatch, collect
from ckd_cache.merge.fitted import TOLERANCE, Likelihoods, em_weights, likelihoods
from ckd_cache.merge.gate import GateProblem, constant_start, fit_parameters, standard_of
from ckd_cache.merge.gate_choice import choose_l2
from ckd_cache.merge.rule import TargetRule
from ckd_cache.types import JsonObject

__all__ = ["FitBatch", "calibrated_evidence", "learn"]


def learn(
    batches: Iterable[FitBatch],
    rule: TargetRule,
    temperatures: Sequence[float],
    names: Sequence[str],
    on: JsonObject,
    most_slots: int = MOST_SLOTS,
) -> Fit:
    """Learn what a rule needs; the order in which teachers are listed changes no bit of it.

    Calibration comes first. What constant weights and a gate make likely is gold under what is
    mixed: the teachers as captured, or calibrated ones with ``calibrate: target``. A prior
    stands beside calibrated probabilities, and is fitted to them.

    Args:
        batches: slots of the split ``fit``, in the order of the set; read once.
        rule: one for which ``needs_fit`` holds.
        temperatures: T that all teachers were captured at, 1 among them.
        names: of the S teachers, in the order of the batches.
        on: what the fit stands on; more is added to a copy of it.
        most_slots: slots to learn from; of more, examples are left out evenly.

    Raises:
        MergeError: there is no slot, no slot that can be used, or no temperature to choose.
    """
    if rule.calibrate != "none" and len(temperatures) < 2:
        raise MergeError(_nothing_to_choose(rule, temperatures))
    order = sorted(range(len(names)), key=lambda place: names[place])
    by_name = [names[place] for place in order]
    keep = slice(None) if rule.calibrate != "none" else slice(0)
    sample = collect((_prepared(one, order, keep) for one in batches), most_slots)
    if sample.batch is None:
        raise MergeError(_no_slots(rule))
    on = on | sample_record(sample)
    evidence, chosen = sample.batch.evidence, None
    if rule.calibrate != "none":
        chosen, on["calibration"] = _calibrate(sample.batch, temperatures, by_name)
        evidence = calibrated_evidence(sample.batch, temperatures, [chosen[n] for n in by_name])
    weights, gate = None, None
    if rule.weighting in {"fitted", "gate"} or rule.prior == "fitted":
        mixed = sample.batch.evidence if _mixes_as_captured(rule) else evidence
        gold = likelihoods(mixed.gold_logprob, mixed.present)
        constant = em_weights(gold)
        on["fitted"] = weights_record(gold, constant, by_name, TOLERANCE)
        weights = dict(zip(by_name, constant.weights.tolist(), strict=True))
        if rule.weighting == "gate":
            weights = None
            gate, on["gate"] = _fit_gate(evidence, gold, by_name)
    return Fit(on=on, temperatures=chosen, weights=weights, gate=gate)


def calibrated_evidence(
    batch: FitBatch, temperatures: Sequence[float], chosen: Sequence[Mapping[str, float]]
) -> Evidence:
    """The evidence of a batch at the temperatures chosen for its teachers.

    ``unit_logprob`` stays at temperature 1.

    Args:
        batch: S teachers.
        temperatures: of the batch.
        chosen: for each teacher, a temperature by type of slot.
    """
    places = [[temperatures.index(one[kind]) for kind in SLOT_TYPES] for one in chosen]
    kinds = np.where(batch.evidence.masked, 0, 1)
    scalars = [
        calibrated_scalars(
            batch.evidence.gold_logprob[:, t],
            batch.evidence.max_logprob[:, t],
            batch.logsumexp[:, t],
            batch.entropy[:, t],
            temperatures,
            np.array(place, dtype=np.int64)[kinds],
        )
        for t, place in enumerate(places)
    ]
    return replace(
        batch.evidence,
        gold_logprob=np.stack([one.gold_logprob for one in scalars], axis=1),
        max_logprob=np.stack([one.max_logprob for one in scalars], axis=1),
        entropy=np.stack([one.entropy for one in scalars], axis=1),
    )


def _calibrate(
    batch: FitBatch, temperatures: Sequence[float], names: Sequence[str]
) -> tuple[dict[str, Mapping[str, float]], JsonObject]:
    chosen: dict[str, Mapping[str, float]] = {}
    record: JsonObject = {}
    for t, name in enumerate(names):
        sums = nll_sums(
            batch.evidence.gold_logprob[:, t], batch.logsumexp[:, t], temperatures, batch.seen
        )
        chosen[name] = choose_temperatures(sums, temperatures)
        record[name] = calibration_record(sums, temperatures, chosen[name])
    return chosen, record


def _fit_gate(
    evidence: Evidence, gold: Likelihoods, names: Sequence[str]
) -> tuple[Gate, JsonObject]:
    known = tuple(FEATURES)
    seen = features(evidence, known)[:, gold.used]
    standard = standard_of(seen)
    problem = GateProblem(gold, np.ascontiguousarray(standard.apply(seen).transpose(0, 2, 1)))
    document = evidence.document[gold.used]
    held_out = choose_l2(problem, document)
    found = fit_parameters(problem, held_out.l2, constant_start(problem))
    gate = Gate(
        bias=dict(zip(names, found.bias.tolist(), strict=True)),
        features=known,
        theta=tuple(found.theta.tolist()),
        centre=tuple(standard.centre.tolist()),
        scale=tuple(standard.scale.tolist()),
        l2=held_out.l2,
    )
    return gate, gate_record(len(np.unique(document)), held_out, found)


def _prepared(batch: FitBatch, order: Sequence[int], keep: slice) -> FitBatch:
    """Teachers sorted, and without what is not needed of the temperatures."""
    per_teacher = ("gold_logprob", "max_logprob", "entropy", "correct", "present", "unit_logprob")
    columns = {name: getattr(batch.evidence, name)[:, order] for name in per_teacher}
    return FitBatch(
        evidence=replace(batch.evidence, **columns),
        logsumexp=batch.logsumexp[:, order, keep],
        entropy=batch.entropy[:, order, keep],
        seen=batch.seen,
    )


def _mixes_as_captured(rule: TargetRule) -> bool:
    return rule.calibrate != "target" and rule.prior != "fitted"


def _what(rule: TargetRule) -> str:
    asked = [f"weighting `{rule.weighting}`"] if rule.weighting in {"fitted", "gate"} else []
    asked += ["prior `fitted`"] if rule.prior == "fitted" else []
    asked += [f"calibrate `{rule.calibrate}`"] if rule.calibrate != "none" else []
    return " with ".join(asked)


def _no_slots(rule: TargetRule) -> str:
    return (
        f"{_what(rule)} is learned on the split `fit`, which has no slot in this cache. Set "
        "splits.fit above 0 in the recipe, e.g. `splits: {fit: 0.02, test: 0.02}`, and build it "
        "into a new cache; or take a weighting that learns nothing, e.g. `segment_entropy`"
    )


def _nothing_to_choose(rule: TargetRule, temperatures: Sequence[float]) -> str:
    return (
        f"calibrate `{rule.calibrate}` chooses among temperatures that all of "
        f"{', '.join(rule.teachers)} were captured at, and they share "
        f"{', '.join(str(one) for one in temperatures)} only. Set capture.temperatures to "
        "[0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0] and build the teachers into a new cache, or set "
        "calibrate to `none`"
    )
