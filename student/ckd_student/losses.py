"""Losses at slots, on the cells of a cached target: {each kept id} and {everything else}.

N slots, support of V ids, k kept entries of a slot. All sums are float32 whatever the model's
dtype (float64 stays float64). Only the student's logits get gradients.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["cell_forward_kl", "hard_cross_entropy", "slot_loss_sum"]

_LARGEST = 80.0
"""Largest log of a ratio of tails: its exponential still fits float32."""


def cell_forward_kl(
    student_logits: Tensor,
    ids: Tensor,
    logprobs: Tensor,
    n_valid: Tensor,
    tail: Tensor,
    temperature: float = 1.0,
) -> Tensor:
    """KL(target || student) of each slot, on the cells {kept ids, tail}.

    The student's mass in the tail is a log-sum-exp over the complement of the kept ids, never
    one minus a sum. An empty tail (``tail`` = -inf) is no cell. Gradients are analytic, so that
    no (N, V) tensor but the logits is kept for the backward pass:
    d/ds_u = (P q_u - p_c q_u / q_c) / temperature, c the cell of u and P the target's total mass.

    Args:
        student_logits: (N, V).
        ids: (N, k) integers, by rank; anything from ``n_valid`` on.
        logprobs: (N, k) logs of the target's probabilities at ``temperature``.
        n_valid: (N,) number of entries that count, at least 1.
        tail: (N,) log of the target's mass outside these entries; -inf if there is none.
        temperature: divides the student's logits; the one the target was made at.

    Returns:
        (N,) nats.

    Source:
        Gradient on cells: Hinton et al. (2015) generalised by pushing both distributions forward
        to the cells; docs/concepts.md defines target and tail.
    """
    kl, _ = _at_cells(student_logits, (ids, logprobs, n_valid, tail), temperature, None)
    return kl


def hard_cross_entropy(student_logits: Tensor, gold: Tensor) -> Tensor:
    """-log of the student's probability of gold, of each slot, at temperature 1.

    Args:
        student_logits: (N, V).
        gold: (N,) int64.

    Returns:
        (N,) nats.
    """
    wide = _wide(student_logits)
    return torch.nn.functional.cross_entropy(wide, gold, reduction="none")


def slot_loss_sum(
    student_logits: Tensor,
    gold: Tensor,
    target: tuple[Tensor, Tensor, Tensor, Tensor] | None,
    distill: float,
    hard: float,
    temperature: float = 1.0,
) -> Tensor:
    """Sum over slots of distill · T² · KL(target || student at T) + hard · cross-entropy.

    T² keeps the size of the distillation gradient over temperatures; it never multiplies the
    cross-entropy. The caller divides by the slots of the global step.

    Args:
        student_logits: (N, V).
        gold: (N,) int64.
        target: (ids, logprobs, n_valid, tail) as `cell_forward_kl` takes them; None needs
            ``distill`` = 0.
        distill: weight of the KL.
        hard: weight of the cross-entropy.
        temperature: T, that of the target.

    Returns:
        A scalar, 0 if there is no slot.
    """
    if target is None or distill == 0.0:
        return hard * hard_cross_entropy(student_logits, gold).sum()
    # At temperature 1 both losses share one log-sum-exp, forward and backward.
    shared = gold if temperature == 1.0 and hard > 0.0 else None
    kl, cross_entropy = _at_cells(student_logits, target, temperature, shared)
    loss = distill * temperature**2 * kl.sum()
    if hard == 0.0:
        return loss
    if shared is None:
        cross_entropy = hard_cross_entropy(student_logits, gold)
    return loss + hard * cross_entropy.sum()


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _at_cells(
    student_logits: Tensor,
    target: tuple[Tensor, Tensor, Tensor, Tensor],
    temperature: float,
    gold: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """KL on cells, and cross-entropy with gold at the same temperature (0 without gold)."""
    ids, logprobs, n_valid, tail = target
    result: tuple[Tensor, Tensor] = _AtCells.apply(  # type: ignore[no-untyped-call]
        student_logits, ids.long(), logprobs, n_valid, tail, temperature, gold
    )
    return result


class _AtCells(torch.autograd.Function):
    """`_at_cells` with the gradient that `cell_forward_kl` states."""

    @staticmethod
    def forward(
        ctx: Any,
        student_logits: Tensor,
        ids: Tensor,
        logprobs: Tensor,
        n_valid: Tensor,
        tail: Tensor,
        temperature: float,
        gold: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        scaled = _scaled(student_logits, temperature)
        valid = torch.arange(ids.shape[1], device=ids.device) < n_valid[:, None]
        # The entry of rank 0 is always there: naming it again changes no set of kept ids.
        kept_ids = torch.where(valid, ids, ids[:, :1])
        kept = scaled.gather(1, kept_ids)
        log_p = torch.where(valid, logprobs.to(scaled.dtype), -torch.inf)
        log_p_tail = tail.to(scaled.dtype)
        outside = _logsumexp_of_own(scaled.scatter(1, kept_ids, -torch.inf))
        inside = torch.where(valid, kept, -torch.inf).logsumexp(dim=1)
        norm = torch.logaddexp(inside, outside)
        log_q_tail = outside - norm
        kl = _relative(log_p, kept - norm[:, None]).sum(dim=1)
        kl += _relative(log_p_tail, log_q_tail)
        at_gold = norm if gold is None else scaled.gather(1, gold[:, None])[:, 0]
        ctx.save_for_backward(
            student_logits, kept_ids, valid, log_p, log_p_tail, norm, log_q_tail, gold
        )
        ctx.temperature = temperature
        return kl, norm - at_gold

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        logits, kept_ids, valid, log_p, log_p_tail, norm, log_q_tail, gold = ctx.saved_tensors
        of_kl, of_ce = (grad[:, None] / ctx.temperature for grad in grads)
        p = log_p.exp()
        mass = (p.sum(dim=1) + log_p_tail.exp())[:, None]
        # Where the target has no tail this is 0, whatever the student has there.
        tail_ratio = (log_p_tail - log_q_tail).nan_to_num(nan=-torch.inf).clamp(max=_LARGEST).exp()
        of_all = of_kl * mass if gold is None else of_kl * mass + of_ce
        gradient = (_scaled(logits, ctx.temperature) - norm[:, None]).exp_()
        at_kept = of_all * gradient.gather(1, kept_ids) - of_kl * p
        gradient *= of_all - of_kl * tail_ratio[:, None]
        # Written over, not added: next to a large ratio the difference would lose its digits.
        # Entries that stand in for absent ones name rank 0 again and must write what it writes.
        gradient.scatter_(1, kept_ids, torch.where(valid, at_kept, at_kept[:, :1]))
        if gold is not None:
            gradient.scatter_add_(1, gold[:, None], -of_ce)
        return gradient.to(logits.dtype), None, None, None, None, None, None


def _scaled(logits: Tensor, temperature: float) -> Tensor:
    wide = _wide(logits)
    return wide if temperature == 1.0 else wide / temperature


def _logsumexp_of_own(values: Tensor) -> Tensor:
    """Log-sum-exp over dim 1, overwriting ``values``; -inf where nothing is above -inf."""
    largest = values.amax(dim=1, keepdim=True)
    largest = torch.where(largest == -torch.inf, 0.0, largest)
    return values.sub_(largest).exp_().sum(dim=1).log_().add_(largest[:, 0])


def _relative(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL terms p (log p - log q), with 0 log 0 = 0."""
    return torch.where(log_p == -torch.inf, 0.0, log_p.exp() * (log_p - log_q))
