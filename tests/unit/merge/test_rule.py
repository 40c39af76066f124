from __future__ import annotations

import math
from typing import Any

import pytest

from ckd_cache.errors import MergeError
from ckd_cache.format.spec import Capture
from ckd_cache.merge.rule import TargetRule, check_captures, needs_fit


def _rule(**changes: Any) -> TargetRule:
    fields: dict[str, Any] = {
        "weighting": "gold",
        "tau": 1.0,
        "temperature": 1.0,
        "top_k": 32,
        "teachers": ("a", "b"),
    }
    return TargetRule(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weighting": "golden"}, "unknown weighting 'golden'; known: avg_ce, ca_mkd, .*uniform"),
        ({"missing": "drop"}, "unknown missing 'drop'; known: bucket, spread, exact"),
        ({"mixture": "harmonic"}, "unknown mixture 'harmonic'; known: arithmetic, geometric"),
        ({"calibrate": "yes"}, "unknown calibrate 'yes'; known: none, weights, target"),
        ({"prior": "mine"}, "unknown prior 'mine'; known: uniform, fitted"),
        ({"shuffle": "words"}, "unknown shuffle 'words'; known: teachers, slots"),
        ({"tau": -1.0}, "tau is -1.0, expected a finite number, 0 or above"),
        ({"seed": -1}, r"seed is -1, expected a whole number from 0 to 2\^63 - 1"),
        ({"seed": 2**63}, "seed is 9223372036854775808"),
        ({"tau": math.nan}, "tau is nan"),
        ({"tau": math.inf}, "tau is inf"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"top_k": 0}, "top_k is 0"),
        ({"teachers": ()}, "one or more teachers"),
        ({"teachers": ("a", "a")}, r"teachers is \['a', 'a'\]"),
        ({"weighting": "fixed"}, r"`fixed` has weights \[\] for the teachers a, b"),
        ({"weighting": "fixed", "weights": (1.0,)}, r"`fixed` has weights \[1.0\]"),
        ({"weighting": "fixed", "weights": (1.0, -1.0)}, "a number of 0 or above for each"),
        ({"weighting": "fixed", "weights": (1.0, math.nan)}, "a number of 0 or above for each"),
        ({"weighting": "fixed", "weights": (0.0, 0.0)}, "not all 0"),
        ({"weights": (1.0, 1.0)}, "weights are given, but weighting is 'gold'"),
        ({"mixture": "geometric"}, "mixture `geometric` with missing 'bucket'"),
        ({"calibrate": "target", "temperature": 2.0}, "calibrate `target` .* temperature is 2.0"),
        ({"weighting": "entropy", "prior": "fitted"}, "prior `fitted` with weighting 'entropy'"),
    ],
)
def test_a_wrong_field_is_refused_by_name(changes, words):
    with pytest.raises(MergeError, match=words):
        _rule(**changes)


def test_tau_may_be_the_limit():
    assert _rule(tau=0.0).tau == 0.0


@pytest.mark.parametrize(
    ("changes", "learns"),
    [
        ({}, False),
        ({"weighting": "segment_entropy"}, False),
        ({"weighting": "fitted"}, True),
        ({"weighting": "gate"}, True),
        ({"prior": "fitted"}, True),
        ({"calibrate": "weights"}, True),
    ],
)
def test_rules_that_learn_something_say_so(changes, learns):
    assert needs_fit(_rule(**changes)) is learns


def test_a_temperature_must_be_captured_of_every_teacher():
    captures = [Capture(4, (1.0, 2.0, 3.0), 0.0, 0.0), Capture(4, (1.0, 3.0), 0.0, 0.0)]
    with pytest.raises(MergeError) as error:
        check_captures(_rule(temperature=2.0), captures)
    message = str(error.value)
    assert "teacher 'b' was captured at 1.0, 3.0" in message
    assert "captured of all of a, b: 1.0, 3.0." in message
    check_captures(_rule(temperature=3.0), captures)


def test_weights_need_temperature_one():
    with pytest.raises(MergeError, match=r"needs teachers captured at 1\.0 \(prediction weights"):
        check_captures(_rule(temperature=2.0, teachers=("a",)), [Capture(4, (2.0,), 0.0, 0.0)])


def test_every_teacher_needs_a_capture():
    with pytest.raises(MergeError, match="captures of 1 teachers, expected 2"):
        check_captures(_rule(), [Capture(4, (1.0,), 0.0, 0.0)])


def test_no_more_ids_are_kept_than_the_support_has():
    assert _rule(top_k=32).effective_k(8) == 8
    assert _rule(top_k=32).effective_k(8192) == 32
