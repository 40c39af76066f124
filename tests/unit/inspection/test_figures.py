"""The sums that figures are made of: in parts or at once, and against dense distributions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckd_cache.format.spec import capture_of
from ckd_cache.inspection.figures.agreement import add_pairs, pairs_of
from ckd_cache.inspection.figures.uncertain import (
    cells_sentence,
    coverage_figures,
    uncertain_figures,
)
from ckd_cache.inspection.figures.weights import (
    add_weights,
    confidence_bins,
    mean_weights,
    position_ranges,
    segment_count,
    segment_numbers,
    weight_sums,
)
from ckd_cache.merge.voices import Voice, voice_of
from ckd_cache.numerics.topk import reference_distributions
from ckd_cache.types import TeacherArrays

K, SIZE = 4, 12
SEEDS = st.integers(0, 2**32 - 1)


def voice(name: str, logits: Any) -> Voice:
    """A teacher that keeps the K most probable ids, one example a slot."""
    gold = np.zeros(len(logits), np.int64)
    flat = reference_distributions(logits, gold, K, (1.0,))
    arrays = {one: np.asarray(getattr(flat, one))[:, None] for one in TeacherArrays.__slots__}
    rows = np.arange(len(logits))
    return voice_of(name, TeacherArrays(**arrays), capture_of(K, (1.0,), 0.0), (rows, rows * 0))


def softmax(logits: Any) -> Any:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@given(seed=SEEDS, heat=st.floats(0.2, 8.0))
def test_the_distance_of_whole_teachers_is_within_what_is_said(seed: int, heat: float) -> None:
    """On the cells {each id that one of both keeps, everything else}, slot by slot."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, heat, (2, 1, SIZE))
    one, other = (voice(name, x) for name, x in zip("ab", logits, strict=True))
    (pair,) = pairs_of([one, other]).values()
    union = sorted({*one.ids[0].tolist(), *other.ids[0].tolist()})
    p, q = (softmax(x)[0] for x in logits)
    cells = [np.append(x[union], 1.0 - x[union].sum()) for x in (p, q)]
    true = np.abs(cells[0] - cells[1]).sum() / 2
    assert abs(pair.distance - true) <= pair.doubt + 1e-6
    assert pair.same == (p.argmax() == q.argmax())


@given(seed=SEEDS)
def test_with_all_ids_kept_the_distance_is_the_dense_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (2, 5, K))
    (pair,) = pairs_of([voice(name, x) for name, x in zip("ab", logits, strict=True)]).values()
    dense = np.abs(softmax(logits[0]) - softmax(logits[1])).sum() / 2
    assert pair.distance == pytest.approx(dense, abs=1e-5)
    assert pair.doubt == pytest.approx(0.0, abs=1e-5)


def test_slots_without_a_distribution_are_not_compared() -> None:
    from dataclasses import replace

    logits = np.random.default_rng(3).normal(0, 3, (2, 6, SIZE))
    one, other = (voice(name, x) for name, x in zip("ab", logits, strict=True))
    some = replace(other, present=np.arange(6) < 4)
    (pair,) = pairs_of([one, some]).values()
    parts = [pairs_of([one.piece(i, j), other.piece(i, j)]) for i, j in ((0, 1), (1, 4))]
    both = add_pairs(*(next(iter(part.values())) for part in parts))
    assert (pair.slots, pair.same) == (4, both.same)
    assert pair.distance == pytest.approx(both.distance)
    assert pair.doubt == pytest.approx(both.doubt)


@given(seed=SEEDS, cut=st.integers(0, 30))
def test_sums_of_weights_add(seed: int, cut: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(3), 30)
    group = rng.integers(-1, 4, (30, 3))
    whole = weight_sums(weights, group, 4)
    parts = [weight_sums(weights[piece], group[piece], 4) for piece in (slice(cut), slice(cut, 30))]
    added = add_weights(*parts)
    assert np.array_equal(whole.slots, added.slots)
    assert whole.weights == pytest.approx(added.weights)
    assert whole.slots.sum() == (group >= 0).sum()


def test_a_group_without_slots_has_no_mean() -> None:
    sums = weight_sums(np.array([[0.25, 0.75]]), np.array([[1, -1]]), 2)
    assert mean_weights(sums) == [[None, None], [0.25, None]]


def test_confidence_on_a_border_belongs_above_and_1_to_the_last_bin() -> None:
    confidence = np.array([0.05, 0.5, 1.0, 1.0 + 1e-9, 0.3])
    present = np.array([True, True, True, True, False])
    assert confidence_bins(np.log(confidence), present).tolist() == [0, 5, 9, 9, -1]


def test_segments_are_counted_through_increments_and_the_same_in_all_views(tiny: Any) -> None:
    """Two increments of 7 and 4 segments in two views: four parts, the new increment's last."""
    from ckd_cache.format.reader import open_cache

    record = open_cache(tiny.path).sets["text"].record
    (first,) = record.increments
    more = first.model_copy(update={"name": "0001", "segments": 4})
    parts = list(record.parts)
    for view in (0, 1):
        start = sum(part.examples for part in parts)
        update = {"name": f"v{view}-0001", "view": view, "increment": "0001", "examples": 4}
        parts.append(parts[0].model_copy(update={**update, "first_example": start}))
    record = record.model_copy(update={"increments": [first, more], "parts": parts})
    old, new = list(range(7)), list(range(7, 11))
    assert segment_count(record) == 11
    assert segment_numbers(record, np.arange(22)).tolist() == [*old, *old, *new, *new]


@given(segments=st.integers(0, 200))
def test_ranges_of_segments_cover_each_segment_once(segments: int) -> None:
    ranges = position_ranges(segments)
    assert [one for first, after in ranges for one in range(first, after)] == list(range(segments))
    assert len(ranges) == min(segments, 20)
    for number, (first, after) in enumerate(ranges):
        for segment in range(first, after):
            assert segment * len(ranges) // segments == number


def test_a_percentile_needs_the_counts_of_all_slots() -> None:
    stats = {"slots": 4, "uncertain_sum": 1.0, "uncertain_max": 0.5}
    assert uncertain_figures(stats) == {"mean": 0.25, "p99": None, "max": 0.5}
    half = {**stats, "uncertain_counts": {"200": 2}}
    assert uncertain_figures(half)["p99"] is None
    whole = {**stats, "uncertain_counts": {"200": 4}}
    assert uncertain_figures(whole)["p99"] is not None
    assert uncertain_figures({}) == {"mean": None, "p99": None, "max": None}


def test_coverage_of_teachers_with_another_tokenizer() -> None:
    stats = {"slots": 8, "coverage": {"present": {"r": 6, "s": 0}, "carried": {"r": 3.0, "s": 0}}}
    assert coverage_figures(stats) == {
        "r": {"slots": 0.75, "mass": 0.5},
        "s": {"slots": 0.0, "mass": None},
    }
    assert coverage_figures({"slots": 8}) == {}


@pytest.mark.parametrize(
    ("missing", "mixture", "quantised", "says"),
    [
        (
            "bucket",
            "arithmetic",
            True,
            "rounding of teachers and target to their grids",
        ),
        ("spread", "arithmetic", False, "nothing was rounded to a grid"),
        ("exact", "arithmetic", True, "it is rounding alone"),
        ("exact", "arithmetic", False, "there was none"),
        ("exact", "geometric", True, "It is a loose bound"),
    ],
)
def test_a_bound_names_its_cells_and_what_it_holds_for(
    missing: str, mixture: str, quantised: bool, says: str
) -> None:
    sentence = cells_sentence(missing, mixture, quantised=quantised)
    assert "total variation" in sentence
    assert "{each kept id of the target, everything else}" in sentence
    assert says in sentence
