from __future__ import annotations

import math
from typing import Any

import pytest

from ckd_cache.errors import MergeError
from ckd_cache.format.spec import Capture
from ckd_cache.merge.rule import TargetRule, check_captures


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
        ({"weighting": "golden"}, "unknown weighting 'golden'; known: gold, uniform"),
        ({"missing": "spread"}, "unknown missing 'spread'; known: bucket"),
        ({"tau": 0.0}, "tau is 0.0, expected a finite number above 0"),
        ({"tau": -1.0}, "tau is -1.0"),
        ({"tau": math.nan}, "tau is nan"),
        ({"tau": math.inf}, "tau is inf"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"top_k": 0}, "top_k is 0"),
        ({"teachers": ()}, "one or more teachers"),
        ({"teachers": ("a", "a")}, r"teachers is \['a', 'a'\]"),
    ],
)
def test_a_wrong_field_is_refused_by_name(changes, words):
    with pytest.raises(MergeError, match=words):
        _rule(**changes)


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
