"""Rules to the manifest and back, and requests that are made of what a manifest has."""

from __future__ import annotations

import json

import pytest

from ckd_cache.build.target_request import request_of, rule_identity, rule_of
from ckd_cache.errors import DamagedCacheError, MergeError
from ckd_cache.format.manifest import TargetRecord
from ckd_cache.merge.fit import Fit, Gate, fit_to_json
from ckd_cache.merge.recorded import recorded_rule, rule_settings
from ckd_cache.merge.rule import TargetRule
from ckd_cache.merge.weightings import WEIGHTINGS
from ckd_cache.types import JsonObject

GATE = Gate({"a": 0.1, "b": -0.1}, ("entropy",), (0.5,), (1.0,), (2.0,), 1e-3)
LEARNED = Fit(
    on={"split": "fit", "teacher_parts": {}},
    temperatures={name: {"masked": 1.1, "shown": 0.9} for name in "ab"},
    weights={"a": 0.7, "b": 0.3},
    gate=GATE,
)


def rule(weighting: str, **changes) -> TargetRule:
    shares = (0.75, 0.25) if weighting == "fixed" else ()
    given = {"tau": 0.7, "temperature": 2.0, "top_k": 5, "teachers": ("b", "a"), "weights": shares}
    return TargetRule(weighting, **{**given, **changes})


def record(rule: TargetRule, **changes) -> TargetRecord:
    fit = None if rule.fit is None else json.loads(json.dumps(fit_to_json(rule.fit)))
    fields = {
        "weighting": rule.weighting,
        "tau": rule.tau,
        "temperature": rule.temperature,
        "k": rule.top_k,
        "step": 0.0,
        "max_nats": 0.0,
        "teachers": list(rule.teachers),
        "missing": rule.missing,
        "mixture": rule.mixture,
        "calibrate": rule.calibrate,
        "settings": rule_settings(rule),
        "fit": fit,
        "identity": rule_identity(rule, rule.top_k, 0.0, fit),
        "parts": {},
    }
    return TargetRecord(**{**fields, **changes})


CASES = [
    *(rule(name) for name in WEIGHTINGS),
    rule("gold", prior="fitted", fit=LEARNED, missing="exact", mixture="geometric"),
    rule("gate", fit=LEARNED, calibrate="target", temperature=1.0, missing="spread"),
    rule("random", shuffle="slots", seed=2**63 - 1),
]


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_a_rule_comes_back_from_its_record(case):
    kept = record(case)
    assert recorded_rule(kept) == case
    request = request_of("own", kept)
    assert rule_of(request, case.teachers, case.top_k, recorded_rule(kept).fit) == case
    assert request.stored is kept.stored


def test_a_record_without_tau_means_the_rules_own():
    assert recorded_rule(record(rule("min_ce"), tau=None)).tau == 0.0
    assert recorded_rule(record(rule("uniform"), tau=None)).tau == 1.0


def test_records_of_other_programs_are_refused_by_name():
    with pytest.raises(MergeError, match="unknown weighting 'oracle'"):
        recorded_rule(record(rule("uniform"), weighting="oracle", tau=None))
    fits: list[JsonObject] = [
        {"weights": {}},
        {"on": {}, "gate": {"bias": {}}},
        {"on": {}, "gate": [1]},
    ]
    for fit in fits:
        with pytest.raises(DamagedCacheError, match="cannot be understood"):
            recorded_rule(record(rule("gate"), fit=fit))
