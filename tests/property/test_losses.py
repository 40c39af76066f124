"""The losses against dense references, finite differences, and what they must not depend on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ckd_student.losses import cell_forward_kl, hard_cross_entropy, slot_loss_sum

INF = float("inf")


def dense_kl(p_log: torch.Tensor, logits: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    q_log = torch.log_softmax(logits.double() / temperature, dim=1)
    return (p_log.exp() * (p_log - q_log)).sum(dim=1)


def dense_cell_kl(p_log, logits, ids, n_valid, temperature=1.0):
    """Push both distributions forward to the cells, slot by slot, with plain sums."""
    q = torch.softmax(logits.double() / temperature, dim=1)
    p = p_log.exp()
    result = []
    for row in range(p.shape[0]):
        kept = ids[row, : n_valid[row]]
        outside = torch.ones(p.shape[1], dtype=torch.bool)
        outside[kept] = False
        cells = [(p[row, i], q[row, i]) for i in kept] + [
            (p[row, outside].sum(), q[row, outside].sum())
        ]
        result.append(sum(a * torch.log(a / b) for a, b in cells if a > 0))
    return torch.stack(result)


def problem(seed: int, slots: int, size: int, k: int, scale: float = 3.0) -> tuple[Any, Any, Any]:
    """Target log-probabilities over the whole support, student logits, and the target's cells."""
    generator = torch.Generator().manual_seed(seed)
    p_log = torch.log_softmax(
        torch.randn(slots, size, generator=generator, dtype=torch.float64) * scale, dim=1
    )
    logits = torch.randn(slots, size, generator=generator, dtype=torch.float64) * scale
    logprobs, ids = p_log.topk(k, dim=1)
    n_valid = torch.full((slots,), k)
    tail = p_log.scatter(1, ids, -INF).logsumexp(dim=1)
    return p_log, logits, (ids, logprobs, n_valid, tail)


shapes = st.tuples(
    st.integers(0, 2**31 - 1), st.integers(1, 5), st.integers(2, 40), st.integers(1, 40)
).map(lambda s: (s[0], s[1], s[2], min(s[3], s[2])))


@given(shapes, st.sampled_from([0.5, 1.0, 2.0, 4.0]))
def test_cell_kl_is_the_dense_kl_pushed_forward_to_the_cells(shape, temperature):
    p_log, logits, (ids, logprobs, n_valid, tail) = problem(*shape)
    loss = cell_forward_kl(logits, ids, logprobs, n_valid, tail, temperature)
    torch.testing.assert_close(loss, dense_cell_kl(p_log, logits, ids, n_valid, temperature))


@given(shapes)
def test_with_the_whole_support_kept_it_is_the_dense_kl(shape):
    seed, slots, size, _ = shape
    p_log, logits, target = problem(seed, slots, size, size)
    assert torch.equal(target[3], torch.full((slots,), -INF, dtype=torch.float64))
    torch.testing.assert_close(cell_forward_kl(logits, *target), dense_kl(p_log, logits))


@given(shapes)
def test_cells_never_exceed_the_dense_kl(shape):
    p_log, logits, target = problem(*shape)
    assert (cell_forward_kl(logits, *target) <= dense_kl(p_log, logits) + 1e-9).all()


@given(shapes)
def test_the_loss_is_zero_with_zero_gradient_at_the_target_itself(shape):
    p_log, _, target = problem(*shape)
    logits = p_log.clone().requires_grad_()
    loss = cell_forward_kl(logits, *target)
    loss.sum().backward()
    torch.testing.assert_close(loss, torch.zeros_like(loss))
    torch.testing.assert_close(logits.grad, torch.zeros_like(p_log))


@given(shapes, st.floats(-50, 50))
def test_adding_a_constant_to_the_logits_changes_nothing(shape, shift):
    _, logits, target = problem(*shape)
    torch.testing.assert_close(
        cell_forward_kl(logits + shift, *target), cell_forward_kl(logits, *target)
    )


@given(shapes, st.sampled_from([1.0, 2.0]))
def test_gradient_is_the_stated_one(shape, temperature):
    """d/ds_u = (q_u - p_c q_u / q_c) / T with c the cell of u."""
    p_log, logits, (ids, logprobs, n_valid, tail) = problem(*shape)
    logits.requires_grad_()
    cell_forward_kl(logits, ids, logprobs, n_valid, tail, temperature).sum().backward()
    q = torch.softmax(logits.detach() / temperature, dim=1)
    kept = torch.zeros_like(q, dtype=torch.bool).scatter(1, ids, True)
    q_tail = torch.where(kept, 0.0, q).sum(dim=1, keepdim=True)
    p_tail = torch.where(kept, 0.0, p_log.exp()).sum(dim=1, keepdim=True)
    share = torch.where(kept, p_log.exp(), q * p_tail / q_tail.clamp_min(1e-300))
    torch.testing.assert_close(logits.grad, (q - share) / temperature)


@given(shapes, st.booleans())
def test_gradcheck(shape, truncate):
    seed, slots, size, _ = shape
    _, logits, (ids, logprobs, n_valid, tail) = problem(seed, min(slots, 2), min(size, 8), 2)
    if truncate:
        n_valid = torch.ones_like(n_valid)
        tail = torch.log1p(-logprobs[:, 0].exp())
    logits.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s: cell_forward_kl(s, ids, logprobs, n_valid, tail, 1.5), (logits,)
    )


@given(shapes, st.integers(0, 5))
def test_what_stands_beyond_n_valid_is_ignored(shape, extra):
    _, logits, (ids, logprobs, n_valid, tail) = problem(*shape)
    slots = ids.shape[0]
    padded_ids = torch.cat([ids, torch.zeros(slots, extra, dtype=ids.dtype)], dim=1)
    padded = torch.cat([logprobs, torch.full((slots, extra), -INF, dtype=torch.float64)], dim=1)
    one, two = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    plain = cell_forward_kl(one, ids, logprobs, n_valid, tail)
    with_padding = cell_forward_kl(two, padded_ids, padded, n_valid, tail)
    torch.testing.assert_close(with_padding, plain)
    plain.sum().backward()
    with_padding.sum().backward()
    torch.testing.assert_close(two.grad, one.grad)


def test_an_absent_tail_is_no_cell_even_where_the_student_has_mass_outside():
    logits = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64, requires_grad=True)
    ids, logprobs = torch.tensor([[2]]), torch.zeros(1, 1, dtype=torch.float64)
    loss = cell_forward_kl(logits, ids, logprobs, torch.tensor([1]), torch.tensor([-INF]))
    expected = -torch.log_softmax(logits.detach(), dim=1)[0, 2]
    torch.testing.assert_close(loss[0], expected)
    loss.sum().backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_certain_student_loses_no_digits_of_its_gradient(dtype):
    """q_tail near e^-40: 1 - sum would give log 0, and adding a huge ratio would cancel."""
    logits = torch.zeros(1, 50, dtype=dtype)
    logits[0, 7] = 44.0
    logits.requires_grad_()
    target = (
        torch.tensor([[7]]),
        torch.log(torch.tensor([[0.9]])),
        torch.tensor([1]),
        torch.log(torch.tensor([0.1])),
    )
    loss = cell_forward_kl(logits, *target)
    loss.sum().backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(
        0.9 * torch.log(torch.tensor(0.9)).item()
        + 0.1 * (torch.log(torch.tensor(0.1)).item() + 44.0 - torch.log(torch.tensor(49.0)).item()),
        rel=1e-5,
    )
    tolerance = 1e-6 if dtype == torch.float32 else 1e-2
    assert logits.grad[0, 7].item() == pytest.approx(0.1, rel=tolerance)
    assert logits.grad[0, :7].sum().item() + logits.grad[0, 8:].sum().item() == pytest.approx(
        -0.1, rel=max(tolerance, 1e-5)
    )


def test_tails_beyond_float32_stay_finite():
    logits = torch.zeros(1, 4)
    logits[0, 0] = 500.0
    logits.requires_grad_()
    target = (torch.tensor([[0]]), torch.log(torch.tensor([[0.5]])), torch.tensor([1]),
              torch.log(torch.tensor([0.5])))  # fmt: skip
    loss = cell_forward_kl(logits, *target)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert logits.grad.isfinite().all()


def test_autocast_does_not_narrow_the_sums():
    _, logits, target = problem(0, 4, 30, 5)
    narrow = logits.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = cell_forward_kl(narrow, *target)
        hard = hard_cross_entropy(narrow, target[0][:, 0])
    assert loss.dtype == hard.dtype == torch.float32
    torch.testing.assert_close(loss, cell_forward_kl(narrow.float(), *target))


@given(
    shapes,
    st.floats(0, 1),
    st.floats(0.01, 1),
    st.sampled_from([0.5, 1.0, 2.0]),
)
def test_temperature_squared_multiplies_the_kl_and_never_the_cross_entropy(
    shape, distill, hard, temperature
):
    _, logits, target = problem(*shape)
    gold = target[0][:, -1]
    total = slot_loss_sum(logits, gold, target, distill, hard, temperature)
    ids, logprobs, n_valid, tail = target
    kl = cell_forward_kl(logits, ids, logprobs, n_valid, tail, temperature).sum()
    ce = torch.nn.functional.cross_entropy(logits, gold, reduction="sum")
    torch.testing.assert_close(total, distill * temperature**2 * kl + hard * ce)


@given(shapes)
def test_weighted_teachers_differ_from_their_mixture_by_a_constant(shape):
    """Σ w KL(p_t || q) = KL(Σ w p_t || q) + const on the same cells: equal gradients."""
    seed, slots, size, k = shape
    first, logits, (ids, _, n_valid, _) = problem(seed, slots, size, k)
    second, _, _ = problem(seed ^ 1, slots, size, k)
    mixed = torch.logaddexp(first + torch.tensor(0.3).log(), second + torch.tensor(0.7).log())

    def gradient(parts):
        student = logits.clone().requires_grad_()
        losses = [
            weight
            * cell_forward_kl(
                student, ids, p.gather(1, ids), n_valid, p.scatter(1, ids, -INF).logsumexp(dim=1)
            ).sum()
            for weight, p in parts
        ]
        torch.stack(losses).sum().backward()
        return student.grad

    apart, together = gradient([(0.3, first), (0.7, second)]), gradient([(1.0, mixed)])
    torch.testing.assert_close(apart, together, rtol=1e-6, atol=1e-7)


def test_no_slots_give_a_zero_that_can_be_differentiated():
    logits = torch.zeros(0, 7, requires_grad=True)
    target = (
        torch.zeros(0, 3, dtype=torch.long),
        torch.zeros(0, 3),
        torch.zeros(0),
        torch.zeros(0),
    )
    loss = slot_loss_sum(logits, torch.zeros(0, dtype=torch.long), target, 0.5, 0.5)
    loss.backward()
    assert loss.item() == 0.0
