"""Cached against live: seven families of masked LMs against plain transformers code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AlbertConfig,
    AutoModelForMaskedLM,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

from ckd_cache.format.spec import Capture
from ckd_cache.teachers.capture import capture
from ckd_cache.teachers.load import LoadedTeacher, TeacherSpec, load_teacher
from ckd_cache.teachers.tokens import ExpectedSupport
from ckd_cache.types import Examples, TeacherArrays

TEMPERATURES = (0.5, 1.0, 2.0)
SEGMENT_TOKENS = 40
SPECIAL = {"cls": 0, "pad": 1, "sep": 2, "unk": 3, "mask": 4}
TOLERANCE = 1e-4
KEPT = Capture(k=24, temperatures=TEMPERATURES, max_nats=0.0, step=0.0)

WIDE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "initializer_range": 0.4,
    "pad_token_id": 1,
}
FAMILIES: dict[str, tuple[int, Any]] = {
    # Output rows beyond the tokenizer's: 97 here, 24 and 3 below.
    "bert": (703, BertConfig(vocab_size=800, max_position_embeddings=40, **WIDE)),
    "roberta": (1024, RobertaConfig(vocab_size=1024, max_position_embeddings=42, **WIDE)),
    "distilbert": (
        1999,
        DistilBertConfig(
            vocab_size=1999,
            dim=32,
            n_layers=2,
            n_heads=2,
            hidden_dim=48,
            max_position_embeddings=64,
            initializer_range=0.4,
            pad_token_id=1,
        ),
    ),
    "albert": (600, AlbertConfig(vocab_size=624, embedding_size=16, **WIDE)),
    "electra": (513, ElectraConfig(vocab_size=513, embedding_size=24, **WIDE)),
    "deberta-v2": (
        900,
        DebertaV2Config(
            vocab_size=900,
            relative_attention=True,
            pos_att_type=["p2c", "c2p"],
            position_biased_input=False,
            **WIDE,
        ),
    ),
    "modernbert": (
        2045,
        ModernBertConfig(
            vocab_size=2048,
            max_position_embeddings=64,
            local_attention=8,
            layer_types=["full_attention", "sliding_attention"],
            cls_token_id=0,
            sep_token_id=2,
            bos_token_id=0,
            eos_token_id=2,
            **WIDE,
        ),
    ),
}


def tokens_of(size: int) -> list[str]:
    return ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]", *(f"w{i}" for i in range(5, size))]


def write_tokenizer(folder: Path, size: int) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {token: index for index, token in enumerate(tokens_of(size))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {f"{role}_token": f"[{role.upper()}]" for role in SPECIAL}
    PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(folder)


def support_of(size: int) -> ExpectedSupport:
    return ExpectedSupport(tokens=tokens_of(size), special=SPECIAL)


def examples_of(size: int, slots: int = 6) -> Examples:
    """Examples of unequal lengths and numbers of slots; the third has none."""
    generator = np.random.default_rng(size)
    lengths = [SEGMENT_TOKENS, 7, 5, 23, 31, 4, 12]
    ids = np.full((len(lengths), max(lengths)), SPECIAL["pad"], np.int64)
    mask = np.zeros_like(ids)
    positions = np.zeros((len(lengths), slots), np.int64)
    gold, used = np.zeros_like(positions), np.zeros(positions.shape, np.bool_)
    for row, length in enumerate(lengths):
        ids[row, 1 : length - 1] = generator.integers(5, size, length - 2)
        ids[row, 0], ids[row, length - 1] = SPECIAL["cls"], SPECIAL["sep"]
        mask[row, :length] = 1
        count = 0 if row == 2 else min(slots, length - 2)
        places = np.sort(generator.choice(np.arange(1, length - 1), count, replace=False))
        positions[row, :count], used[row, :count] = places, True
        gold[row, :count] = ids[row, places]
        ids[row, places[: count // 2 + 1]] = SPECIAL["mask"]
    return Examples(ids, mask, np.zeros_like(ids), positions, used, gold)


def live(folder: Path, examples: Examples, size: int) -> TeacherArrays:
    """What a person writes: one example at a time, unpadded, full logits."""
    model = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32).eval()
    arrays = blank(examples)
    for row, length in enumerate(examples.attention_mask.sum(1)):
        with torch.no_grad():
            logits = model(input_ids=torch.from_numpy(examples.input_ids[row : row + 1, :length]))
        for slot in np.flatnonzero(examples.slot_mask[row]):
            at = logits.logits[0, examples.slot_positions[row, slot], :size].float()
            put_live(arrays, (row, int(slot)), at, int(examples.gold_ids[row, slot]))
    return arrays


def put_live(arrays: TeacherArrays, at: tuple[int, int], logits: torch.Tensor, gold: int) -> None:
    logprobs = logits.log_softmax(-1)
    top = logprobs.topk(KEPT.k)
    arrays.ids[at], arrays.logprobs[at] = top.indices.numpy(), top.values.numpy()
    arrays.n_valid[at] = KEPT.k
    outside = torch.ones_like(logits, dtype=torch.bool).index_fill(0, top.indices, False)
    for number, temperature in enumerate(TEMPERATURES):
        tempered = (logits / temperature).log_softmax(-1)
        arrays.tail[(*at, number)] = float(tempered[outside].logsumexp(-1))
        arrays.logsumexp[(*at, number)] = float((logits / temperature).logsumexp(-1))
        arrays.entropy[(*at, number)] = float(-(tempered.exp() * tempered).sum())
    arrays.gold_logprob[at] = float(logprobs[gold])
    arrays.gold_rank[at] = int((logprobs > logprobs[gold]).sum())


def blank(examples: Examples) -> TeacherArrays:
    shape = examples.slot_mask.shape
    return TeacherArrays(
        ids=np.zeros((*shape, KEPT.k), np.int32),
        logprobs=np.full((*shape, KEPT.k), np.nan, np.float32),
        n_valid=np.zeros(shape, np.int32),
        tail=np.full((*shape, len(TEMPERATURES)), np.nan, np.float32),
        logsumexp=np.full((*shape, len(TEMPERATURES)), np.nan, np.float32),
        entropy=np.full((*shape, len(TEMPERATURES)), np.nan, np.float32),
        gold_logprob=np.full(shape, np.nan, np.float32),
        gold_rank=np.zeros(shape, np.uint32),
    )


def assert_same(cached: TeacherArrays, plain: TeacherArrays, tolerance: float = TOLERANCE) -> None:
    """Every number equal, ids and ranks up to ties within the tolerance."""
    np.testing.assert_array_equal(cached.n_valid, plain.n_valid)
    for name in ("logprobs", "tail", "logsumexp", "entropy", "gold_logprob"):
        np.testing.assert_allclose(cached[name], plain[name], rtol=0, atol=tolerance, err_msg=name)
    # Where an id differs, its neighbours in rank are as probable as it is.
    row, slot, rank = np.nonzero(cached.ids != plain.ids)
    near = np.pad(plain.logprobs, ((0, 0), (0, 0), (1, 1)), constant_values=np.inf)
    before = np.abs(near[row, slot, rank] - plain.logprobs[row, slot, rank])
    after = np.abs(near[row, slot, rank + 2] - plain.logprobs[row, slot, rank])
    last = rank == KEPT.k - 1
    assert np.all((before <= tolerance) | (after <= tolerance) | last)
    assert len(row) <= 2, "float32 logits hardly ever tie"
    difference = np.abs(cached.gold_rank.astype(np.int64) - plain.gold_rank)
    assert np.all(difference <= 1)


def make(folder: Path, family: str) -> tuple[Path, int]:
    size, config = FAMILIES[family]
    torch.manual_seed(len(family))
    model = AutoModelForMaskedLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.5)
    model.save_pretrained(folder)
    write_tokenizer(folder, size)
    return folder, size


def load(folder: Path, size: int, dtype: str = "float32") -> LoadedTeacher:
    spec = TeacherSpec("a", dtype=dtype, attention=None)
    return load_teacher(spec, folder, "cpu", support_of(size), SEGMENT_TOKENS)


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return request.param, *make(tmp_path_factory.mktemp(request.param), request.param)


def test_cached_equals_live(family: tuple[str, Path, int]) -> None:
    name, folder, size = family
    teacher = load(folder, size)
    assert teacher.head == "slots", "the probe must pass for this family"
    assert teacher.attention == ("eager" if name == "deberta-v2" else "sdpa")
    examples = examples_of(size)
    done: list[int] = []
    cached = capture(teacher, examples, KEPT, 2 * SEGMENT_TOKENS, "text/a", on_batch=done.append)
    assert done == [2, 2, 2, 1]
    plain = live(folder, examples, size)
    assert np.nanstd(plain.gold_logprob) > 1.0, "a degenerate teacher would agree with anything"
    assert_same(cached, plain)


def test_a_shift_by_one_position_is_seen(family: tuple[str, Path, int]) -> None:
    _, folder, size = family
    examples = examples_of(size)
    shifted = replace(examples, slot_positions=np.maximum(examples.slot_positions - 1, 0))
    cached = capture(load(folder, size), shifted, KEPT, 4096, "text/a")
    with pytest.raises(AssertionError):
        assert_same(cached, live(folder, examples, size), tolerance=0.1)


def test_padded_rows_would_be_seen(tmp_path: Path) -> None:
    """Output rows beyond the support carry mass: leaving them in changes every number."""
    folder, size = make(tmp_path, "bert")
    examples = examples_of(size)
    cached = capture(load(folder, size), examples, KEPT, 4096, "text/a")
    uncut = live(folder, examples, FAMILIES["bert"][1].vocab_size)
    assert np.nanmin(uncut.logsumexp - cached.logsumexp) >= 0
    with pytest.raises(AssertionError):
        assert_same(cached, uncut, tolerance=0.01)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_bfloat16(family: str, tmp_path: Path) -> None:
    folder, size = make(tmp_path, family)
    teacher = load(folder, size, "bfloat16")
    assert {p.dtype for p in teacher.model.parameters()} == {torch.bfloat16}
    examples = examples_of(size)
    cached = capture(teacher, examples, KEPT, 4096, "text/a")
    plain = live(folder, examples, size)
    used = examples.slot_mask
    off = np.abs(cached.gold_logprob - plain.gold_logprob)[used]
    assert 1e-3 < np.median(off) < 0.2, "close to float32, and not float32"
    head = np.exp(cached.logprobs[used].astype(np.float64)).sum(-1)
    tail = np.exp(cached.tail[used][:, TEMPERATURES.index(1.0)].astype(np.float64))
    np.testing.assert_allclose(head + tail, 1.0, atol=1e-5)


def test_batches_only_change_rounding(tmp_path: Path) -> None:
    folder, size = make(tmp_path, "roberta")
    teacher, examples = load(folder, size), examples_of(size)
    one = capture(teacher, examples, KEPT, 1, "text/a")
    all_at_once = capture(teacher, examples, KEPT, 10**6, "text/a")
    assert_same(one, all_at_once, tolerance=2e-5)
