from __future__ import annotations

import math

import numpy as np
import pytest

from ckd_cache.numerics.logspace import log1mexp, log_probability, logsumexp, softplus


def test_logsumexp_equals_the_plain_sum():
    x = np.random.default_rng(0).normal(size=(3, 5, 7))
    np.testing.assert_allclose(logsumexp(x, axis=1), np.log(np.exp(x).sum(axis=1)), rtol=1e-13)


def test_logsumexp_survives_large_and_infinite_values():
    x = np.array([[1e4, 1e4], [-1e4, -np.inf], [-np.inf, -np.inf]])
    expected = [1e4 + math.log(2.0), -1e4, -np.inf]
    np.testing.assert_array_equal(logsumexp(x), expected)


def test_logsumexp_sums_only_where_asked():
    x = np.array([[0.0, 5.0, 1.0], [0.0, 5.0, 1.0]])
    where = np.array([[True, False, True], [False, False, False]])
    np.testing.assert_allclose(logsumexp(x, where=where), [math.log(1.0 + math.e), -np.inf])


def test_logsumexp_of_float32_is_computed_in_float64():
    x = np.zeros(1, dtype=np.float32)
    assert logsumexp(np.append(x, np.float32(-30.0)))[()] == pytest.approx(math.exp(-30), rel=1e-2)


@pytest.mark.parametrize("x", [-1e-15, -1e-9, -1e-3, -0.5, -math.log(2.0), -1.0, -10.0, -36.0])
def test_log1mexp_is_accurate_at_both_ends(x):
    # Series around 0 and around minus infinity, each where it holds to double precision.
    expected = math.log(-math.expm1(x)) if x > -5 else -(math.exp(x) + math.exp(2 * x) / 2)
    rel = 1e-14 if x > -5 else math.exp(2 * x)
    assert log1mexp(x)[()] == pytest.approx(expected, rel=max(rel, 1e-14))


def test_log1mexp_at_the_ends():
    np.testing.assert_array_equal(log1mexp([0.0, -0.0, -np.inf]), [-np.inf, -np.inf, 0.0])


def test_log_probability_and_softplus_do_not_warn():
    np.testing.assert_array_equal(log_probability([0.0, 1.0]), [-np.inf, 0.0])
    np.testing.assert_allclose(
        softplus([-800.0, 0.0, 800.0, np.inf]), [0.0, math.log(2), 800, np.inf]
    )
