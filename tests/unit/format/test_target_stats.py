from __future__ import annotations

import math

import numpy as np
import pytest

from ckd_cache.format.stats import target_stats
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
