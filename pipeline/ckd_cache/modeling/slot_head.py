"""Logits of a masked LM at slots only, from the model's own head.

A forward hook on ``model.base_model`` replaces the last hidden state (B, L, H) by its rows at the
slots, shaped (1, N, H); the head that follows then computes (1, N, V) instead of (B, L, V). The
numbers are those of the plain forward, no code is specific to an architecture, gradients flow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor, nn

from ckd_cache.errors import CkdCacheError

__all__ = ["accepted_inputs", "agrees", "plain_slot_logits", "slot_logits"]

_WRAPPED = ("module", "_orig_mod")
"""Where DistributedDataParallel and torch.compile keep the model that they wrap."""


@dataclass(slots=True, eq=False)
class _Request:
    """The slots of one forward, and whether the hook has met them."""

    rows: Tensor
    positions: Tensor
    met: bool = False


# Per thread and per nesting level: of several hooks that sit on one model at the same time, only
# the one of the innermost forward of this thread may act.
_innermost: ContextVar[_Request | None] = ContextVar("_innermost", default=None)


def slot_logits(
    model: nn.Module, inputs: Mapping[str, Tensor], rows: Tensor, positions: Tensor
) -> Tensor:
    """Logits at N (row, position) pairs, computed by the model's own head there only.

    Args:
        model: a masked LM of transformers, bare or wrapped (DistributedDataParallel, accelerate,
            torch.compile).
        inputs: tensors (B, L) by name, on the model's device; names that the model's forward
            does not declare are left out, and so is ``labels``.
        rows: (N,) int64, row of each slot in the batch.
        positions: (N,) int64, token index of each slot.

    Returns:
        (N, V) logits in the dtype that the model gives, in the order of ``rows``.

    Raises:
        CkdCacheError: the model is wrapped in DataParallel, or its head cannot work on slots only
            (``agrees`` says so beforehand).
    """
    core = _unwrapped(model)
    request = _Request(rows, positions)
    with _narrowed(core, request):
        output = model(**accepted_inputs(core, inputs))
    logits = _logits_of(output)
    if not request.met or logits.ndim != 3 or logits.shape[:2] != (1, rows.shape[0]):
        message = (
            f"the head of {type(core).__name__} gave logits of shape {tuple(logits.shape)} where "
            f"(1, {rows.shape[0]}, vocabulary) was expected: it does not work on the last hidden "
            f"state of its base model alone. Use plain_slot_logits for this model."
        )
        raise CkdCacheError(message)
    return logits[0]


def plain_slot_logits(
    model: nn.Module, inputs: Mapping[str, Tensor], rows: Tensor, positions: Tensor
) -> Tensor:
    """The same (N, V) logits as ``slot_logits``, taken from the full (B, L, V) ones."""
    output = model(**accepted_inputs(_unwrapped(model), inputs))
    return _logits_of(output)[rows, positions]


def agrees(model: nn.Module, inputs: Mapping[str, Tensor], rows: Tensor, positions: Tensor) -> bool:
    """Whether ``slot_logits`` gives what ``plain_slot_logits`` gives, up to rounding.

    The model runs twice without gradients, in evaluation mode; its modes are put back.

    Args:
        model: as for ``slot_logits``.
        inputs: as for ``slot_logits``; use rows of different lengths.
        rows: (N,) int64, row of each slot; N >= 1.
        positions: (N,) int64, token index of each slot.
    """
    with torch.no_grad(), _evaluating(model):
        plain = plain_slot_logits(model, inputs, rows, positions)
        try:
            narrow = slot_logits(model, inputs, rows, positions)
        except torch.OutOfMemoryError:
            raise
        except (CkdCacheError, RuntimeError, ValueError, IndexError, TypeError):
            # A head that does not take (1, N, H) fails in its own way; the answer is the same.
            return False
    return narrow.shape == plain.shape and _close(narrow, plain)


def accepted_inputs(model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inputs that the model's forward declares by name, without ``labels``."""
    names = _declared(type(_unwrapped(model)).forward)
    return {name: tensor for name, tensor in inputs.items() if name in names}


@cache
def _declared(forward: Callable[..., Any]) -> frozenset[str]:
    by_name = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    parameters = signature(forward).parameters.values()
    return frozenset(p.name for p in parameters if p.kind in by_name) - {"self", "labels"}


def _unwrapped(model: nn.Module) -> nn.Module:
    if isinstance(model, nn.DataParallel):
        message = (
            "the model is wrapped in torch.nn.DataParallel, which splits a batch so that slots no "
            "longer point at their rows. Start one process a GPU (torchrun or accelerate launch), "
            "or show a single GPU with CUDA_VISIBLE_DEVICES=0."
        )
        raise CkdCacheError(message)
    for name in _WRAPPED:
        inner = getattr(model, name, None)
        if isinstance(inner, nn.Module) and not hasattr(model, "base_model_prefix"):
            return _unwrapped(inner)
    return model


@contextmanager
def _narrowed(core: nn.Module, request: _Request) -> Iterator[None]:
    """Within, the innermost forward of ``core`` sees only the request's slots in its head."""

    def narrow(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        if _innermost.get() is not request:
            return output
        request.met = True
        return _at_slots(output, request)

    base: Any = getattr(core, "base_model", core)
    handle = base.register_forward_hook(narrow)
    token = _innermost.set(request)
    try:
        yield
    finally:
        _innermost.reset(token)
        handle.remove()


def _at_slots(output: Any, request: _Request) -> Any:
    """The base model's output with its last hidden state narrowed to (1, N, H)."""
    if isinstance(output, tuple):
        return (output[0][request.rows, request.positions].unsqueeze(0), *output[1:])
    if getattr(output, "last_hidden_state", None) is None:
        return output
    hidden = output.last_hidden_state[request.rows, request.positions].unsqueeze(0)
    return type(output)(**{**output, "last_hidden_state": hidden})


def _logits_of(output: Any) -> Tensor:
    logits: Tensor = output[0] if isinstance(output, tuple) else output.logits
    return logits


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _close(narrow: Tensor, plain: Tensor) -> bool:
    """Equal up to the rounding of the dtype, relative to the largest finite logit.

    Both forwards add the same products in another order: a few units in the last place of the
    half-precision types, and far below 1e-4 of the largest logit in float32.
    """
    narrow_wide, plain_wide = narrow.float(), plain.float()
    finite = plain_wide[plain_wide.isfinite()].abs()
    scale = float(finite.max()) if finite.numel() else 1.0
    relative = max(1e-4, 4 * torch.finfo(plain.dtype).eps)
    tolerance = relative * max(scale, 1e-3)
    return torch.allclose(narrow_wide, plain_wide, rtol=0.0, atol=tolerance, equal_nan=True)
