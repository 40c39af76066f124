"""What may be written is never called damage, however coarse; what a bit changes is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckd_cache.format.distribution_checks import check_stored, check_target, check_teacher
from ckd_cache.format.encode import (
    decode_target,
    decode_teacher,
    encode_target,
    encode_teacher,
    order_of,
)
from ckd_cache.format.example_checks import SlotTruth
from ckd_cache.format.spec import capture_of
from ckd_cache.format.tallies import difference
from ckd_cache.numerics.topk import reference_distributions
from ckd_cache.types import TargetArrays, TeacherArrays, array_names

SLOTS = 6


def made(seed, size, k, temperatures, scale, holes):
    """Distributions at six slots, of which the last example has but one: arrays and gold."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=scale, size=(SLOTS, size))
    if holes:
        logits[:, rng.random(size) < 0.5] = -np.inf
        logits[:, 0] = 0.0
    logits[1] = np.round(logits[1])
    gold = rng.integers(0, size, SLOTS)
    dense = reference_distributions(logits, gold, k, temperatures)
    mask = np.ones((2, 4), dtype=bool)
    mask[1, 2:] = False
    arrays = {}
    for name in array_names(TeacherArrays):
        values = np.asarray(getattr(dense, name))
        fill = np.nan if values.dtype.kind == "f" else 0
        arrays[name] = np.full((2, 4, *values.shape[1:]), fill, values.dtype)
        arrays[name][mask] = values
    golds = np.zeros((2, 4), np.int64)
    golds[mask] = gold
    return TeacherArrays(**arrays), SlotTruth(mask, golds)


@given(
    seed=st.integers(0, 2**32),
    size=st.integers(2, 300),
    share=st.floats(0.01, 1.0),
    scale=st.sampled_from([0.0, 1e-4, 1.0, 8.0, 60.0, 400.0]),
    max_nats=st.sampled_from([0.0, 1e-6, 1e-4, 1e-2, 1.0]),
    temperature=st.sampled_from([0.25, 2.0]),
    holes=st.booleans(),
)
def test_nothing_that_is_written_is_called_damage(
    seed, size, share, scale, max_nats, temperature, holes
):
    k = max(1, int(size * share))
    capture = capture_of(k, (temperature, 1.0), max_nats)
    arrays, truth = made(seed, size, k, capture.temperatures, scale, holes)
    order = order_of(arrays, size)
    stored = encode_teacher(arrays, capture, order)
    decoded = decode_teacher(stored, capture, order)
    assert list(check_stored(stored, decoded.n_valid, truth)) == []
    assert list(check_teacher(decoded, truth, capture, size)) == []
    assert list(check_teacher(decoded, None, capture, size)) == []
    capture = capture_of(k, (1.0,), max_nats)
    stored = encode_target(target_of(arrays), capture, order)
    decoded_target = decode_target(stored, capture, order)
    assert list(check_stored(stored, decoded_target.n_valid, truth)) == []
    assert list(check_target(decoded_target, capture, temperature, size)) == []


def target_of(arrays):
    """A target with the same distributions, of three teachers."""
    used = arrays.n_valid > 0
    weights = np.where(used[..., None], np.array([0.0, 0.3, 0.7]), np.nan)
    return TargetArrays(
        ids=arrays.ids,
        logprobs=arrays.logprobs,
        n_valid=arrays.n_valid,
        tail=arrays.tail[..., -1],
        weights=weights,
        uncertain=np.where(used, 1.0, np.nan),
        gold_logprob=arrays.gold_logprob,
    )


def exact_target():
    arrays, _ = made(1, 40, 5, (1.0,), 2.0, holes=False)
    capture = capture_of(5, (1.0,), 0.0)
    order = np.arange(40)
    return decode_target(encode_target(target_of(arrays), capture, order), capture, order)


@pytest.mark.parametrize(
    ("array", "factor", "problem"), [("logprobs", 1.01, "mass"), ("weights", 0.99, "weights")]
)
def test_exact_targets_sum_to_one(array, factor, problem):
    target = exact_target()
    capture = capture_of(5, (1.0,), 0.0)
    assert list(check_target(target, capture, 1.0, 40)) == []
    target = replace(target, **{array: target[array] * np.float32(factor)})
    assert [broken.problem for broken in check_target(target, capture, 1.0, 40)] == [problem]


def test_ids_outside_the_support_are_found_by_their_own_check():
    target = exact_target()
    found = next(check_target(target, capture_of(5, (1.0,), 0.0), 1.0, int(target.ids.max())))
    assert (found.problem, found.array) == ("token ids", "ids")
    assert found.rows.any()


@pytest.mark.parametrize(
    ("recorded", "found", "detail"),
    [
        ({"a": 1, "b": 2.5, "more": 7}, {"a": 1, "b": 2.5}, None),
        ({"a": 1e6}, {"a": 1e6 + 1e-6}, None),
        ({"a": 1e6}, {"a": 1e6 + 1e-4}, "a is 1000000.0001 in the files, 1000000.0 in"),
        ({}, {"a": 0}, "a is 0 in the files, None in the manifest"),
        ({"a": {"x": 1, "y": 0}}, {"a": {"x": 1}}, None),
        ({"a": {"x": 1}}, {"a": {"x": 1, "y": 2}}, "a.y is 2 in the files, 0 in the manifest"),
        ({"a": "1"}, {"a": 1}, "a is 1 in the files, 1 in the manifest"),
    ],
)
def test_figures_may_differ_by_rounding_only(recorded, found, detail):
    said = difference(recorded, found)
    assert said is None if detail is None else said.startswith(detail)
