from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckd_cache.format.stats import add_stats, quantile_from_counts, target_stats
from ckd_cache.types import TargetArrays, array_names


def _target() -> TargetArrays:
    """Two examples of two slots; the last slot is unused."""
    nan = np.nan
    float_ = np.float32
    return TargetArrays(
        ids=np.array([[[1], [2]], [[3], [0]]], dtype=np.int32),
        logprobs=np.log(np.array([[[0.5], [0.5]], [[0.75], [nan]]], dtype=float_)),
        n_valid=np.array([[1, 1], [1, 0]], dtype=np.int32),
        tail=np.log(np.array([[0.5, 0.5], [0.25, nan]], dtype=float_)),
        weights=np.array([[[0.5, 0.5], [0.25, 0.75]], [[1, 0], [nan, nan]]], dtype=float_),
        uncertain=np.array([[0.125, 0.25], [0.5, nan]], dtype=float_),
        gold_logprob=np.array([[-1.0, -np.inf], [-2.5, nan]], dtype=float_),
    )


def bin_of(value: float) -> int:
    """First ten bits of a float16 that needs no more."""
    pattern = int(np.float16(value).view(np.uint16))
    assert pattern % 64 == 0
    return pattern >> 6


def test_only_used_slots_count():
    found = target_stats(_target(), ["a", "b"])
    assert found == {
        "slots": 3,
        "gold_logprob_sum": -3.5,
        "gold_zero": 1,
        "weights_sum": {"a": 1.75, "b": 1.25},
        "tail_mass_sum": pytest.approx(1.25),
        "uncertain_sum": 0.875,
        "uncertain_max": 0.5,
        "uncertain_counts": {str(bin_of(0.125)): 1, str(bin_of(0.25)): 1, str(bin_of(0.5)): 1},
    }


def test_sums_add_over_shards():
    whole = target_stats(_target(), ["a", "b"])
    pieces = [
        target_stats(
            TargetArrays(
                **{name: _target()[name][i : i + 1] for name in array_names(TargetArrays)}
            ),
            ["a", "b"],
        )
        for i in range(2)
    ]
    for name in ("slots", "gold_logprob_sum", "gold_zero", "tail_mass_sum", "uncertain_sum"):
        assert math.isclose(sum(piece[name] for piece in pieces), whole[name])
    assert sum(piece["weights_sum"]["a"] for piece in pieces) == whole["weights_sum"]["a"]
    assert max(piece["uncertain_max"] for piece in pieces) == whole["uncertain_max"]


def test_a_shard_without_slots_has_statistics():
    empty = TargetArrays(**{name: _target()[name][:0] for name in array_names(TargetArrays)})
    found = target_stats(empty, ["a", "b"])
    assert found["slots"] == found["uncertain_max"] == 0
    assert found["weights_sum"] == {"a": 0.0, "b": 0.0}


def counts_of(values: np.ndarray) -> dict[str, int]:
    """``uncertain_counts`` of a target with these values."""
    arrays = {name: _target()[name][:1, :1] for name in array_names(TargetArrays)}
    shaped = {
        name: np.repeat(one, len(values), axis=1) if name != "uncertain" else values[None]
        for name, one in arrays.items()
    }
    found: dict[str, int] = target_stats(TargetArrays(**shaped), ["a", "b"])["uncertain_counts"]
    return found


@given(
    values=st.lists(st.floats(0, 1.5, width=32), min_size=1, max_size=40),
    q=st.sampled_from([0.0, 0.5, 0.99, 1.0]),
)
def test_a_quantile_from_counts_is_a_close_upper_bound(values, q):
    array = np.array(values, dtype=np.float32)
    counts = counts_of(array)
    assert sum(counts.values()) == len(values)
    found = quantile_from_counts(counts, q)
    rank = max(int(np.ceil(q * len(values))), 1)
    true = float(np.sort(array)[rank - 1])
    assert true <= found <= max(true * (1 + 2**-4) * (1 + 2**-10), 2**-14)


def test_counts_add_and_nothing_counted_is_zero():
    one, two = np.array([0.0, 0.5], np.float32), np.array([0.5, 0.75], np.float32)
    together = add_stats({"uncertain_counts": counts_of(each)} for each in (one, two))
    assert together["uncertain_counts"] == counts_of(np.concatenate([one, two]))
    assert quantile_from_counts(counts_of(np.zeros(3, np.float32)), 0.99) == 0.0
    assert quantile_from_counts({}, 0.99) == 0.0


def test_coverage_stands_as_it_is_given():
    coverage = {"present": {"b": 2}, "carried": {"b": 1.5}}
    assert "coverage" not in target_stats(_target(), ["a", "b"])
    found = target_stats(_target(), ["a", "b"], coverage)
    assert add_stats([found, found])["coverage"] == {"present": {"b": 4}, "carried": {"b": 3.0}}


def test_a_teacher_may_have_any_name():
    shards = [
        {"weights_sum": {"x_max": 1.0}, "uncertain_max": 0.2, "coverage": {"carried": {"b": 1.0}}},
        {"weights_sum": {"x_max": 2.0}, "uncertain_max": 0.1, "coverage": {"carried": {"c": 2.0}}},
        {"weights_sum": {"x_max": 4.0}, "uncertain_max": 0.1, "coverage": {"present": {"c": 3}}},
    ]
    assert add_stats(shards) == {
        "weights_sum": {"x_max": 7.0},
        "uncertain_max": 0.2,
        "coverage": {"carried": {"b": 1.0, "c": 2.0}, "present": {"c": 3}},
    }
