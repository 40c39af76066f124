from __future__ import annotations

import numpy as np
import pytest
from tests.unit.merge.fit_cases import TEMPERATURES, Dense, batch_of, drawn

from ckd_cache.merge.calibration import (
    add_sums,
    calibrated_scalars,
    choose_temperatures,
    nll_sums,
)
from ckd_cache.merge.fit_sample import FitBatch
from ckd_cache.merge.reliability import (
    add_reliability,
    expected_calibration_error,
    reliability,
)
from ckd_cache.types import Array

ONE = TEMPERATURES.index(1.0)


def _tempered(seed: int, by_seen: tuple[float, float, float], n: int = 6000) -> FitBatch:
    """A teacher that knows the truth, but says it at another temperature by what is seen."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(scale=2.0, size=(n, 24))
    seen = rng.choice(3, n, p=[0.6, 0.2, 0.2])
    logits = truth * np.array(by_seen)[seen][:, None]
    where = np.zeros(n, np.int64)
    return batch_of(Dense([logits], drawn(rng, truth)), where, where, seen)


def _sums(batch: FitBatch, rows: Array | slice = slice(None)):
    gold = batch.evidence.gold_logprob[rows, 0]
    return nll_sums(gold, batch.logsumexp[rows, 0], TEMPERATURES, batch.seen[rows])


@pytest.mark.parametrize(("masked", "shown"), [(1.25, 0.8), (1.0, 1.5), (0.9, 2.0)])
def test_the_temperature_that_was_hidden_is_found_by_type(masked, shown):
    found = choose_temperatures(_sums(_tempered(0, (masked, shown, shown))), TEMPERATURES)
    assert found == {"masked": masked, "shown": shown}


def test_nll_is_that_of_the_dense_softmax():
    rng = np.random.default_rng(1)
    logits, gold = rng.normal(scale=3.0, size=(200, 24)), rng.integers(0, 24, 200)
    seen = rng.integers(0, 3, 200)
    sums = _sums(batch_of(Dense([logits], gold), seen, np.zeros(200, np.int64), seen))
    for place, temperature in enumerate(TEMPERATURES):
        z = logits / temperature
        nll = np.log(np.exp(z).sum(axis=1)) - z[np.arange(200), gold]
        np.testing.assert_allclose(sums.nll[:, place], np.bincount(seen, nll, 3))
    assert sums.slots.tolist() == np.bincount(seen).tolist()


def test_random_and_kept_slots_share_a_temperature_as_only_gold_tells_them_apart():
    batch = _tempered(2, (1.0, 0.8, 2.0))
    found = choose_temperatures(_sums(batch), TEMPERATURES)
    assert 0.8 < found["shown"] < 2.0
    apart = _sums(batch).nll
    assert TEMPERATURES[int(apart[1].argmin())] == 0.8
    assert TEMPERATURES[int(apart[2].argmin())] == 2.0


def test_sums_of_chunks_add_up():
    batch = _tempered(3, (1.0, 1.0, 1.0), n=500)
    both = add_sums(_sums(batch, slice(0, 123)), _sums(batch, slice(123, None)))
    np.testing.assert_allclose(both.nll, _sums(batch).nll)
    assert both.slots.tolist() == _sums(batch).slots.tolist()


def test_absent_and_impossible_slots_are_left_out():
    batch = _tempered(4, (1.0, 1.0, 1.0), n=50)
    batch.evidence.gold_logprob[:2, 0] = [np.nan, -np.inf]
    found = _sums(batch)
    assert found.slots.sum() == 48
    assert found.left_out == 1
    np.testing.assert_allclose(found.nll, _sums(batch, slice(2, None)).nll)


def test_a_type_with_few_slots_takes_the_temperature_of_all():
    batch = _tempered(5, (1.5, 0.8, 0.8))
    rows = np.flatnonzero((batch.seen == 0) | (np.cumsum(batch.seen > 0) < 50))
    assert choose_temperatures(_sums(batch, rows), TEMPERATURES) == {"masked": 1.5, "shown": 1.5}
    own = choose_temperatures(_sums(batch, rows), TEMPERATURES, fewest=10)
    assert own["shown"] < 1.0


def test_without_slots_the_temperature_is_one():
    empty = _sums(_tempered(6, (1.0, 1.0, 1.0), n=5), slice(0, 0))
    assert choose_temperatures(empty, TEMPERATURES) == {"masked": 1.0, "shown": 1.0}


def test_scalars_are_those_of_the_dense_softmax_at_the_temperature_of_the_slot():
    rng = np.random.default_rng(7)
    n = 300
    logits, gold = rng.normal(scale=3.0, size=(n, 24)), rng.integers(0, 24, n)
    batch = batch_of(Dense([logits], gold), gold, np.zeros(n, np.int64))
    chosen = rng.integers(0, len(TEMPERATURES), n)
    given = batch.evidence
    found = calibrated_scalars(
        given.gold_logprob[:, 0],
        given.max_logprob[:, 0],
        batch.logsumexp[:, 0],
        batch.entropy[:, 0],
        TEMPERATURES,
        chosen,
    )
    z = logits / np.array(TEMPERATURES)[chosen][:, None]
    logprob = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(found.gold_logprob, logprob[np.arange(n), gold])
    np.testing.assert_allclose(found.max_logprob, logprob.max(axis=1))
    np.testing.assert_allclose(found.entropy, -(np.exp(logprob) * logprob).sum(axis=1))
    same = chosen == ONE
    np.testing.assert_array_equal(found.gold_logprob[same], given.gold_logprob[same, 0])


def test_bins_count_confidence_and_hits():
    found = reliability(
        np.array([0.0, 0.05, 0.1, 0.95, 1.0, 1.0 + 1e-12]),
        np.array([False, True, False, True, True, False]),
        bins=10,
    )
    assert found.slots.tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 0, 3]
    assert found.hits.tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    assert found.confidence[9] == pytest.approx(2.95)
    assert expected_calibration_error(found) == pytest.approx((0.95 + 0.1 + 0.95) / 6)


def test_bins_of_chunks_add_up():
    rng = np.random.default_rng(8)
    confidence, correct = rng.random(1000), rng.random(1000) < 0.5
    whole = reliability(confidence, correct)
    parts = [
        reliability(confidence[rows], correct[rows]) for rows in (slice(300), slice(300, None))
    ]
    both = add_reliability(*parts)
    assert both.slots.tolist() == whole.slots.tolist()
    assert both.hits.tolist() == whole.hits.tolist()
    np.testing.assert_allclose(both.confidence, whole.confidence)


def test_calibrating_lowers_the_error_and_a_pool_of_calibrated_teachers_is_underconfident():
    batch = _tempered(9, (2.0, 2.0, 2.0), n=20_000)
    confidence = np.exp(batch.evidence.max_logprob[:, 0])
    correct = batch.evidence.correct[:, 0]
    before = expected_calibration_error(reliability(confidence, correct))
    at_two = np.full(len(batch), TEMPERATURES.index(2.0))
    scalars = calibrated_scalars(
        batch.evidence.gold_logprob[:, 0],
        batch.evidence.max_logprob[:, 0],
        batch.logsumexp[:, 0],
        batch.entropy[:, 0],
        TEMPERATURES,
        at_two,
    )
    after = expected_calibration_error(reliability(np.exp(scalars.max_logprob), correct))
    assert before > 0.1
    assert after < 0.02
    # Two forecasters that each see half of what there is are calibrated; their mean is not.
    rng = np.random.default_rng(10)
    parts = rng.normal(scale=2.0, size=(2, 200_000))
    happens = rng.random(200_000) < 1 / (1 + np.exp(-parts.sum(axis=0)))
    singles = [_calibrated_half(part) for part in parts]
    errors = [_signed_gap(one, happens) for one in (*singles, np.mean(singles, axis=0))]
    assert max(abs(errors[0]), abs(errors[1])) < 0.01
    assert errors[2] > 0.03


def _calibrated_half(part: Array) -> Array:
    """P(event | one of the two parts), by Gauss-Hermite quadrature over the other."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    chances = 1 / (1 + np.exp(-(part[:, None] + 2.0 * nodes)))
    found: Array = (chances * weights).sum(axis=1) / weights.sum()
    return found


def _signed_gap(chance: Array, happens: Array) -> float:
    """Accuracy above confidence."""
    confidence, hit = np.maximum(chance, 1 - chance), (chance > 0.5) == happens
    return float(hit.mean() - confidence.mean())


def test_no_slots_have_no_error():
    assert np.isnan(expected_calibration_error(reliability(np.zeros(0), np.zeros(0, np.bool_))))
