"""Logits at slots only: equal to the plain ones, differentiable, and gone without a trace."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM
from transformers.modeling_outputs import BaseModelOutput, MaskedLMOutput

from ckd_cache.errors import CkdCacheError
from ckd_cache.modeling.slot_head import accepted_inputs, agrees, plain_slot_logits, slot_logits

ROWS = torch.tensor([0, 0, 1, 2, 2, 2])
POSITIONS = torch.tensor([0, 9, 4, 3, 1, 5])
VOCABULARY = 50


def bert(seed: int = 0, **fields: Any) -> BertForMaskedLM:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        initializer_range=0.4,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **fields,
    )
    return BertForMaskedLM(config).eval()


def batch(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, VOCABULARY, (3, 10), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 6:], mask[2, 7:] = 0, 0
    return {
        "input_ids": ids * mask,
        "attention_mask": mask,
        "token_type_ids": torch.zeros_like(ids),
    }


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def assert_equal_to_plain(model: nn.Module, inputs: dict[str, Tensor]) -> None:
    with torch.no_grad():
        narrow = slot_logits(model, inputs, ROWS, POSITIONS)
        plain = plain_slot_logits(model, inputs, ROWS, POSITIONS)
    assert narrow.shape == (6, VOCABULARY)
    assert plain.std() > 0.5, "a degenerate model would agree with anything"
    torch.testing.assert_close(narrow, plain, rtol=0, atol=1e-5)


def test_equal_to_the_plain_forward() -> None:
    model = bert()
    assert_equal_to_plain(model, batch())
    assert agrees(model, batch(), ROWS, POSITIONS)


def test_head_runs_at_slots_only() -> None:
    model, seen = bert(), []
    model.cls.register_forward_hook(lambda _m, args, _o: seen.append(tuple(args[0].shape)))
    slot_logits(model, batch(), ROWS, POSITIONS)
    assert seen == [(1, 6, 16)]


def test_tuple_outputs() -> None:
    model = bert(return_dict=False)
    assert isinstance(model(**batch()), tuple)
    assert_equal_to_plain(model, batch())


def test_only_declared_arguments_are_passed() -> None:
    everything = {**batch(), "slot_mask": torch.ones(3, 4), "labels": torch.zeros(3, 10).long()}
    assert set(accepted_inputs(bert(), everything)) == set(batch())
    config = DistilBertConfig(vocab_size=VOCABULARY, dim=16, n_layers=1, n_heads=2, hidden_dim=32)
    distil = DistilBertForMaskedLM(config).eval()
    assert set(accepted_inputs(distil, everything)) == {"input_ids", "attention_mask"}
    assert agrees(distil, everything, ROWS, POSITIONS)


def gradients(model: nn.Module, logits: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    logits.float().log_softmax(-1)[:, 3].sum().backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_are_those_of_the_plain_forward(checkpointing: bool) -> None:
    model = bert().train()
    if checkpointing:
        enable = getattr(model, "activation_checkpointing_enable", None)
        (enable or model.gradient_checkpointing_enable)()
        assert any(getattr(m, "gradient_checkpointing", False) for m in model.modules())
    plain = gradients(model, plain_slot_logits(model, batch(), ROWS, POSITIONS))
    narrow = gradients(model, slot_logits(model, batch(), ROWS, POSITIONS))
    assert set(narrow) == set(plain)
    for name, gradient in plain.items():
        torch.testing.assert_close(narrow[name], gradient, rtol=1e-4, atol=1e-5)


def test_hook_is_removed_also_after_a_failure() -> None:
    model = bert()
    slot_logits(model, batch(), ROWS, POSITIONS)
    assert hooks(model) == 0
    with pytest.raises(IndexError):
        slot_logits(model, batch(), ROWS, POSITIONS + 10)
    assert hooks(model) == 0
    assert model(**batch()).logits.shape == (3, 10, VOCABULARY)


def test_nested_calls_on_one_model() -> None:
    model = bert()
    inner: list[Tensor] = []
    expected = plain_slot_logits(model, batch(), ROWS, POSITIONS)

    def call_again(*_: Any) -> None:
        handle.remove()
        inner.append(slot_logits(model, batch(1), ROWS[:2], POSITIONS[:2]))

    handle = model.bert.encoder.register_forward_hook(call_again)
    outer = slot_logits(model, batch(), ROWS, POSITIONS)
    torch.testing.assert_close(outer, expected)
    torch.testing.assert_close(
        inner[0], plain_slot_logits(model, batch(1), ROWS[:2], POSITIONS[:2])
    )


def test_threads_share_one_model() -> None:
    model = bert()

    def largest_error(seed: int) -> float:
        rows, positions = ROWS.roll(seed), POSITIONS.roll(seed)
        with torch.no_grad():
            narrow = slot_logits(model, batch(seed), rows, positions)
        return float((narrow - expected[seed]).abs().max())

    with torch.no_grad():
        expected = [
            plain_slot_logits(model, batch(seed), ROWS.roll(seed), POSITIONS.roll(seed))
            for seed in range(40)
        ]
    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(largest_error, range(40))) < 1e-5
    assert hooks(model) == 0


def test_under_autocast() -> None:
    model = bert()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        narrow = slot_logits(model, batch(), ROWS, POSITIONS)
        plain = plain_slot_logits(model, batch(), ROWS, POSITIONS)
    assert narrow.dtype == plain.dtype == torch.bfloat16
    torch.testing.assert_close(narrow, plain, rtol=0.02, atol=0.1)


@pytest.fixture
def fresh_accelerate() -> Iterator[None]:
    """Accelerate's settings are one per process; other tests of this process have made theirs."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("fresh_accelerate")
def test_wrapped_by_accelerate() -> None:
    from accelerate import Accelerator

    wrapped = Accelerator(cpu=True, mixed_precision="bf16").prepare(bert().train())
    logits = slot_logits(wrapped, batch(), ROWS, POSITIONS)
    assert logits.dtype == torch.float32
    plain = plain_slot_logits(wrapped, batch(), ROWS, POSITIONS)
    torch.testing.assert_close(logits, plain, rtol=0.02, atol=0.1)
    assert gradients(wrapped, logits)


def test_wrapped_for_distributed_training(tmp_path: Any) -> None:
    model = bert().train()
    plain = gradients(model, plain_slot_logits(model, batch(), ROWS, POSITIONS))
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    try:
        wrapped = nn.parallel.DistributedDataParallel(model)
        narrow = gradients(model, slot_logits(wrapped, batch(), ROWS, POSITIONS))
    finally:
        torch.distributed.destroy_process_group()
    for name, gradient in plain.items():
        torch.testing.assert_close(narrow[name], gradient, rtol=1e-4, atol=1e-5)


def test_data_parallel_is_refused() -> None:
    with pytest.raises(CkdCacheError, match="torchrun"):
        slot_logits(nn.DataParallel(bert()), batch(), ROWS, POSITIONS)


class Toy(nn.Module):
    """A masked LM with a head of choice."""

    base_model_prefix = "body"

    def __init__(self, head: Any, *, with_base_model: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(VOCABULARY, 8)
        self.body = Body(self.table)
        self.unembed = nn.Linear(8, VOCABULARY)
        self.head = head
        if with_base_model:
            self.base_model = self.body

    def forward(self, input_ids: Tensor) -> MaskedLMOutput:
        hidden = self.body(input_ids).last_hidden_state
        return MaskedLMOutput(logits=self.unembed(self.head(hidden)))


class Body(nn.Module):
    """An encoder that only embeds."""

    def __init__(self, table: nn.Embedding) -> None:
        super().__init__()
        self.table = table

    def forward(self, input_ids: Tensor) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=self.table(input_ids))


def test_a_head_that_works_token_by_token_agrees() -> None:
    assert agrees(Toy(torch.tanh), batch(), ROWS, POSITIONS)


@pytest.mark.parametrize(
    "head",
    [
        lambda hidden: hidden - hidden.mean(dim=1, keepdim=True),
        lambda hidden: hidden.roll(1, dims=1),
        lambda hidden: hidden.reshape(3, 10, 8),
    ],
    ids=["looks at all tokens", "shifts", "knows the batch"],
)
def test_a_head_that_does_not_work_on_slots_alone_disagrees(head: Any) -> None:
    model = Toy(head)
    assert not agrees(model, batch(), ROWS, POSITIONS)
    assert hooks(model) == 0


def test_a_model_without_base_model_disagrees_and_is_refused() -> None:
    model = Toy(torch.tanh, with_base_model=False)
    assert not agrees(model, batch(), ROWS, POSITIONS)
    with pytest.raises(CkdCacheError, match="plain_slot_logits"):
        slot_logits(model, batch(), ROWS, POSITIONS)


def test_probe_puts_training_modes_back() -> None:
    model = bert().train()
    model.bert.embeddings.eval()
    before = [module.training for module in model.modules()]
    assert agrees(model, batch(), ROWS, POSITIONS)
    assert [module.training for module in model.modules()] == before
