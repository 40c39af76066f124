"""Distributions on the device against the float64 reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ckd_cache.numerics.topk import reference_distributions
from ckd_cache.teachers import device_topk
from ckd_cache.teachers.device_topk import NonFiniteLogitsError, distributions

SIZES = [1, 2, 3, 7, 8, 9, 31, 32, 33, 127, 128, 129, 255, 256, 257]
INF = float("inf")


def assert_like_reference(
    logits: torch.Tensor, gold: torch.Tensor, k: int, temperatures: tuple[float, ...]
) -> None:
    found = distributions(logits, gold, k, temperatures)
    k = min(k, logits.shape[1])
    expected = reference_distributions(logits.double().numpy(), gold.numpy(), k, temperatures)
    for name in ("ids", "n_valid", "gold_rank"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)
    for name in ("logprobs", "tail", "logsumexp", "entropy", "gold_logprob"):
        values, right = getattr(found, name), getattr(expected, name)
        assert values.dtype == torch.float32
        np.testing.assert_allclose(values, right, rtol=2e-5, atol=2e-6, err_msg=name)


@st.composite
def tied_logits(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Logits of few distinct values: runs of ties, -inf among them, one-hot rows."""
    size, slots = draw(st.sampled_from(SIZES)), draw(st.integers(1, 5))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([1, 2, 5, 1000]))
    scale = draw(st.sampled_from([0.25, 3.0, 30.0]))
    logits = generator.integers(0, levels, (slots, size)) * scale / levels
    logits[generator.random((slots, size)) < draw(st.sampled_from([0.0, 0.3, 0.97]))] = -INF
    logits[np.arange(slots), generator.integers(0, size, slots)] = scale * draw(
        st.sampled_from([0.5, 1.0, 4.0])
    )
    gold = torch.from_numpy(generator.integers(0, size, slots))
    k = draw(st.sampled_from([1, 2, size // 2 + 1, size, size + 3]))
    return torch.from_numpy(logits).float(), gold, k


@given(tied_logits())
def test_equal_to_the_reference(case: tuple[torch.Tensor, torch.Tensor, int]) -> None:
    assert_like_reference(*case, (0.5, 1.0, 2.0))


@given(st.integers(0, 2**32 - 1), st.sampled_from(SIZES))
def test_half_precision_logits(seed: int, size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(6, size, generator=generator) * 8).to(torch.bfloat16)
    gold = torch.randint(size, (6,), generator=generator)
    assert_like_reference(logits, gold, max(1, size // 3), (1.0, 4.0))


def test_one_hot_certainty_keeps_the_small_numbers() -> None:
    """A tail of 1e-13 has the right relative size, and so has the entropy that it causes."""
    logits = torch.zeros(1, 1000)
    logits[0, 7] = 37.0
    found = distributions(logits, torch.tensor([7]), 1, (1.0,))
    tail = np.log(999) - 37.0
    assert float(found.tail[0, 0]) == pytest.approx(tail, rel=1e-6)
    assert float(found.gold_logprob[0]) == pytest.approx(-np.exp(tail), rel=1e-4)
    assert float(found.entropy[0, 0]) == pytest.approx(np.exp(tail) * (1 - tail + 6.9), rel=0.01)
    assert_like_reference(logits, torch.tensor([3]), 4, (1.0, 0.1))


def test_a_single_possible_entry() -> None:
    logits = torch.full((1, 5), -INF)
    logits[0, 2] = -700.0
    found = distributions(logits, torch.tensor([0]), 3, (1.0, 2.0))
    assert found.ids.tolist() == [[2, 0, 0]]
    assert found.logprobs.tolist() == [[0.0, -INF, -INF]]
    assert found.n_valid.tolist() == [1]
    assert found.tail.tolist() == [[-INF, -INF]]
    assert found.entropy.tolist() == [[0.0, 0.0]]
    assert found.logsumexp.tolist() == [[-700.0, -350.0]]
    assert found.gold_logprob.tolist() == [-INF]
    assert found.gold_rank.tolist() == [1]


def test_far_complement_does_not_underflow() -> None:
    logits = torch.full((1, 300), -300.0)
    logits[0, 11] = 0.0
    found = distributions(logits, torch.tensor([11]), 1, (1.0,))
    assert float(found.tail[0, 0]) == pytest.approx(-300 + np.log(299), rel=1e-6)


def test_ties_across_the_boundary_take_the_smallest_ids() -> None:
    logits = torch.zeros(1, 4096)
    logits[0, 4000] = 1.0
    found = distributions(logits, torch.tensor([3]), 3, (1.0,))
    assert found.ids.tolist() == [[4000, 0, 1]]
    assert found.gold_rank.tolist() == [4]


def test_temperature_one_is_not_needed_among_the_temperatures() -> None:
    logits = torch.randn(4, 60, generator=torch.Generator().manual_seed(1))
    assert_like_reference(logits, torch.arange(4), 5, (3.0,))


@pytest.mark.parametrize("bad", [float("nan"), INF, None])
def test_what_is_no_distribution_is_named(
    bad: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(device_topk._TILE_BYTES, "cpu", 4 * 50 * 2)
    logits = torch.randn(9, 50, generator=torch.Generator().manual_seed(1))
    for slot in (4, 5):
        if bad is None:
            logits[slot] = -INF
        else:
            logits[slot, 48] = bad
    with pytest.raises(NonFiniteLogitsError) as caught:
        distributions(logits, torch.zeros(9, dtype=torch.int64), 4, (1.0,))
    assert caught.value.slots == [4, 5]


def test_tiles_do_not_change_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(37, 500, generator=generator) * 4
    gold = torch.randint(500, (37,), generator=generator)
    whole = distributions(logits, gold, 16, (1.0, 2.0))
    sizes = []
    real = device_topk._of_tile

    def watched(x: torch.Tensor, *rest: Any) -> Any:
        sizes.append(x.shape[0])
        return real(x, *rest)

    monkeypatch.setattr(device_topk, "_of_tile", watched)
    monkeypatch.setitem(device_topk._TILE_BYTES, "cpu", 4 * 500 * 8)
    tiled = distributions(logits, gold, 16, (1.0, 2.0))
    assert sizes == [8, 8, 8, 8, 5]
    for name in ("ids", "logprobs", "tail", "logsumexp", "entropy", "gold_logprob", "gold_rank"):
        torch.testing.assert_close(getattr(tiled, name), getattr(whole, name), rtol=0, atol=1e-6)


def test_no_slots() -> None:
    found = distributions(torch.zeros(0, 9), torch.zeros(0, dtype=torch.int64), 4, (1.0,))
    assert found.ids.shape == (0, 4)
    assert found.tail.shape == (0, 1)
