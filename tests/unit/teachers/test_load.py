"""Loading a teacher: what it becomes, and every wrong folder refused by name."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertForSequenceClassification,
    BertLMHeadModel,
    BertModel,
    DebertaV2Config,
    GPT2Config,
    GPT2LMHeadModel,
    RobertaConfig,
    RobertaForMaskedLM,
)
from transformers.utils import logging as transformers_logging

from ckd_cache.errors import RecipeError, TeacherError
from ckd_cache.teachers.device import device_of
from ckd_cache.teachers.load import (
    LoadedTeacher,
    TeacherSpec,
    check_teacher,
    load_teacher,
    release_teacher,
)
from ckd_cache.teachers.structure import position_limit
from ckd_cache.teachers.tokens import ExpectedSupport

Folders = Callable[..., Path]
TINY: dict[str, Any] = {
    "vocab_size": 400,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 128,
}


@pytest.fixture
def support(tiny_tokenizer_folder: Path) -> ExpectedSupport:
    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer_folder)
    roles = ("mask", "pad", "cls", "sep", "unk", "bos", "eos")
    return ExpectedSupport(
        tokens=tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))),
        special={role: getattr(tokenizer, f"{role}_token_id") for role in roles},
    )


def load(folder: Path, support: ExpectedSupport, **fields: Any) -> LoadedTeacher:
    return load_teacher(TeacherSpec("prose", **fields), folder, "cpu", support, 128)


def saved(model: nn.Module, tokenizer: Path, folder: Path) -> Path:
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    return folder


def altered(folder: Path, copy: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    """A copy of a model's folder with other weights."""
    shutil.copytree(folder, copy)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_teacher_is_what_the_recipe_says(
    dtype: str, tiny_teacher_folder: Folders, support: ExpectedSupport
) -> None:
    teacher = load(tiny_teacher_folder(0), support, dtype=dtype)
    assert {p.dtype for p in teacher.model.parameters()} == {getattr(torch, dtype)}
    assert not any(p.requires_grad for p in teacher.model.parameters())
    assert not teacher.model.training
    assert teacher.uses_slot_head
    assert (teacher.attention, teacher.dtype) == ("sdpa", dtype)
    assert teacher.model.config._attn_implementation == "sdpa"
    assert teacher.support_size == support.size


def test_half_precision_files_do_not_make_a_half_precision_teacher(
    tiny_tokenizer_folder: Path, support: ExpectedSupport, tmp_path: Path
) -> None:
    model = BertForMaskedLM(BertConfig(**TINY)).bfloat16()
    folder = saved(model, tiny_tokenizer_folder, tmp_path)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    assert {p.dtype for p in load(folder, support).model.parameters()} == {torch.float32}


def test_loading_is_silent_and_leaves_the_settings_alone(
    tiny_teacher_folder: Folders, support: ExpectedSupport, capfd: pytest.CaptureFixture[str]
) -> None:
    before = transformers_logging.get_verbosity()
    load(tiny_teacher_folder(0), support)
    assert capfd.readouterr() == ("", "")
    assert transformers_logging.get_verbosity() == before
    assert transformers_logging.is_progress_bar_enabled()


def test_release_gives_the_memory_back(
    tiny_teacher_folder: Folders, support: ExpectedSupport
) -> None:
    teacher = load(tiny_teacher_folder(0), support)
    release_teacher(teacher)
    assert {p.device.type for p in teacher.model.parameters()} == {"meta"}


def test_a_failed_probe_is_said_and_the_teacher_runs_plainly(
    tiny_teacher_folder: Folders,
    support: ExpectedSupport,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    forward = BertForMaskedLM.forward

    @wraps(forward)
    def centred(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = forward(self, *args, **kwargs)
        output.logits = output.logits - output.logits.mean(dim=1, keepdim=True)
        return output

    monkeypatch.setattr(BertForMaskedLM, "forward", centred)
    with caplog.at_level(logging.WARNING):
        teacher = load(tiny_teacher_folder(0), support)
    assert teacher.head == "plain"
    (record,) = caplog.records
    assert record.getMessage() == (
        "teacher prose: the head of BertForMaskedLM does not give the same logits at slots alone; "
        "it runs at every token (slower)"
    )


# --- weights --------------------------------------------------------------------------------


def test_missing_head(tiny_tokenizer_folder: Path, support: Any, tmp_path: Path) -> None:
    folder = saved(BertModel(BertConfig(**TINY)), tiny_tokenizer_folder, tmp_path)
    with pytest.raises(TeacherError, match=r"lack cls\.predictions\..*random") as caught:
        load(folder, support)
    assert "prose" in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_classifier_is_refused(tiny_tokenizer_folder: Path, support: Any, tmp_path: Path) -> None:
    model = BertForSequenceClassification(BertConfig(**TINY))
    with pytest.raises(TeacherError, match=r"lack cls\.predictions\..*another task"):
        load(saved(model, tiny_tokenizer_folder, tmp_path), support)


def test_one_missing_weight(tiny_teacher_folder: Folders, support: Any, tmp_path: Path) -> None:
    key = "bert.encoder.layer.1.output.dense.bias"
    folder = altered(tiny_teacher_folder(0), tmp_path / "a", lambda weights: weights.pop(key))
    with pytest.raises(TeacherError, match=key.replace(".", r"\.")):
        load(folder, support)


def test_encoder_weights_without_a_place(
    tiny_teacher_folder: Folders, support: Any, tmp_path: Path
) -> None:
    """Two layers of weights and a config.json that says one: not the model that was trained."""
    folder = tmp_path / "a"
    shutil.copytree(tiny_teacher_folder(0), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    with pytest.raises(TeacherError, match=r"bert\.encoder\.layer\.1.*no place"):
        load(folder, support)


def test_weights_of_other_heads_are_left_alone(
    tiny_tokenizer_folder: Path, support: Any, tmp_path: Path
) -> None:
    """The published BERTs carry a pooler and a next-sentence head."""
    model = BertForPreTraining(BertConfig(**TINY))
    teacher = load(saved(model, tiny_tokenizer_folder, tmp_path), support)
    assert isinstance(teacher.model, BertForMaskedLM)


def test_untied_embeddings_load_untied(
    tiny_tokenizer_folder: Path, support: Any, tmp_path: Path
) -> None:
    model = BertForMaskedLM(BertConfig(**TINY, tie_word_embeddings=False))
    teacher = load(saved(model, tiny_tokenizer_folder, tmp_path), support)
    torch.testing.assert_close(
        teacher.model.cls.predictions.decoder.weight, model.cls.predictions.decoder.weight
    )


def test_weights_of_another_shape(
    tiny_teacher_folder: Folders, support: Any, tmp_path: Path
) -> None:
    def widen(weights: dict[str, torch.Tensor]) -> None:
        weights["cls.predictions.transform.dense.weight"] = torch.zeros(64, 64)

    folder = altered(tiny_teacher_folder(0), tmp_path / "a", widen)
    with pytest.raises(TeacherError, match="do not load"):
        load(folder, support)


def test_truncated_weights(tiny_teacher_folder: Folders, support: Any, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    shutil.copytree(tiny_teacher_folder(0), folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(TeacherError, match="do not load"):
        load(folder, support)


# --- structure ------------------------------------------------------------------------------


def test_causal_models_are_refused(
    tiny_tokenizer_folder: Path, support: Any, tmp_path: Path
) -> None:
    gpt = GPT2LMHeadModel(GPT2Config(vocab_size=400, n_embd=32, n_layer=1, n_head=2))
    with pytest.raises(TeacherError, match="holds a GPT2LMHeadModel, expected a masked LM"):
        load(saved(gpt, tiny_tokenizer_folder, tmp_path / "gpt"), support)
    bert = BertLMHeadModel(BertConfig(**TINY, is_decoder=True))
    with pytest.raises(TeacherError, match="is_decoder"):
        load(saved(bert, tiny_tokenizer_folder, tmp_path / "bert"), support)


def test_unknown_architecture(tiny_tokenizer_folder: Path, support: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "brt"}')
    with pytest.raises(TeacherError, match="brt"):
        load(tmp_path, support)


def test_segments_longer_than_the_position_table(
    tiny_teacher_folder: Folders, support: ExpectedSupport
) -> None:
    folder, spec = tiny_teacher_folder(0), TeacherSpec("prose")
    assert check_teacher(spec, folder, support, 128).positions == 128
    message = r"prose reads at most 128 tokens.*up to 129.*segment_tokens to 128"
    with pytest.raises(TeacherError, match=message):
        check_teacher(spec, folder, support, 129)


def test_roberta_counts_positions_from_behind_the_padding_index(
    tiny_tokenizer_folder: Path, support: ExpectedSupport, tmp_path: Path
) -> None:
    fields = {**TINY, "max_position_embeddings": 66, "pad_token_id": 1}
    model = RobertaForMaskedLM(RobertaConfig(**fields)).eval()
    folder = saved(model, tiny_tokenizer_folder, tmp_path)
    spec = TeacherSpec("prose")
    check_teacher(spec, folder, support, 64)
    with pytest.raises(TeacherError, match="at most 64 tokens"):
        check_teacher(spec, folder, support, 65)
    model(torch.full((1, 64), 7))
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, 65), 7))


def test_relative_positions_are_unlimited() -> None:
    from transformers import AutoModelForMaskedLM

    fields = {**TINY, "relative_attention": True, "position_biased_input": False}
    with torch.device("meta"):
        model = AutoModelForMaskedLM.from_config(DebertaV2Config(**fields))
    assert position_limit(model) is None


def test_attention_that_the_model_does_not_have(
    tiny_tokenizer_folder: Path, support: ExpectedSupport, tmp_path: Path
) -> None:
    from transformers import AutoModelForMaskedLM

    model = AutoModelForMaskedLM.from_config(DebertaV2Config(**TINY))
    folder = saved(model, tiny_tokenizer_folder, tmp_path)
    with pytest.raises(TeacherError, match="attention: eager"):
        load(folder, support, attention="sdpa")
    assert load(folder, support, attention="eager").attention == "eager"
    assert load(folder, support, attention=None).attention == "eager"


def test_eager_attention_is_not_silently_another(
    tiny_teacher_folder: Folders, support: ExpectedSupport
) -> None:
    teacher = load(tiny_teacher_folder(0), support, attention="eager")
    assert teacher.model.config._attn_implementation == "eager"


# --- tokens ---------------------------------------------------------------------------------


def test_tokenizer_of_another_corpus(
    tiny_teacher_folder: Folders, support: ExpectedSupport
) -> None:
    tokens = list(support.tokens)
    tokens[137], tokens[138] = tokens[138], tokens[137]
    other = ExpectedSupport(tokens, support.special)
    with pytest.raises(TeacherError, match="id 137 is ") as caught:
        load(tiny_teacher_folder(0), other)
    assert repr(tokens[137]) in str(caught.value)
    assert repr(tokens[138]) in str(caught.value)


def test_shorter_and_longer_tokenizers(
    tiny_teacher_folder: Folders, support: ExpectedSupport
) -> None:
    longer = ExpectedSupport([*support.tokens, "more"], support.special)
    with pytest.raises(TeacherError, match="id 400 is nothing there and 'more' in the corpus"):
        load(tiny_teacher_folder(0), longer)
    shorter = ExpectedSupport(support.tokens[:-1], support.special)
    with pytest.raises(TeacherError, match=r"id 399 is .* and nothing in the corpus"):
        load(tiny_teacher_folder(0), shorter)


def test_special_ids(tiny_teacher_folder: Folders, support: ExpectedSupport) -> None:
    other = ExpectedSupport(support.tokens, {**support.special, "mask": 7})
    with pytest.raises(TeacherError, match=r"its mask token is id 4, .* is id 7"):
        load(tiny_teacher_folder(0), other)


def test_a_folder_without_a_tokenizer(
    tiny_teacher_folder: Folders, support: ExpectedSupport, tmp_path: Path
) -> None:
    folder = tmp_path / "a"
    shutil.copytree(tiny_teacher_folder(0), folder, ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(TeacherError, match="tokenizer: corpus"):
        load(folder, support)
    assert load(folder, support, corpus_ids=True).support_size == support.size


def test_an_unreadable_tokenizer(
    tiny_teacher_folder: Folders, support: ExpectedSupport, tmp_path: Path
) -> None:
    folder = tmp_path / "a"
    shutil.copytree(tiny_teacher_folder(0), folder)
    (folder / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(TeacherError, match=r"tokenizer in .* cannot be read"):
        load(folder, support)


def test_vouching_for_ids_does_not_switch_the_check_off(
    tiny_teacher_folder: Folders, support: ExpectedSupport
) -> None:
    longer = ExpectedSupport([*support.tokens, "more"], support.special)
    with pytest.raises(TeacherError, match="id 400"):
        load(tiny_teacher_folder(0), longer, corpus_ids=True)


def test_fewer_rows_than_the_support(
    tiny_tokenizer_folder: Path, support: ExpectedSupport, tmp_path: Path
) -> None:
    model = BertForMaskedLM(BertConfig(**{**TINY, "vocab_size": 399}))
    folder = saved(model, tiny_tokenizer_folder, tmp_path)
    with pytest.raises(TeacherError, match="reads 399 ids, but the support has 400"):
        load(folder, support)


# --- devices --------------------------------------------------------------------------------


def test_devices() -> None:
    assert device_of("cpu") == torch.device("cpu")
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert device_of("auto").type in {expected, "mps"}


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "CPU", "cpu:0", ""])
def test_what_names_no_device(device: str) -> None:
    with pytest.raises(RecipeError, match="auto, cpu, mps, cuda or cuda:N"):
        device_of(device)


def test_absent_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(TeacherError, match="no CUDA device here"):
        device_of("cuda")
    with pytest.raises(TeacherError, match="no Apple GPU"):
        device_of("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_of("cuda:1") == torch.device("cuda:1")
    with pytest.raises(TeacherError, match="2 CUDA devices, cuda:0 to cuda:1"):
        device_of("cuda:2")


def test_config_is_read_from_the_folder(tiny_teacher_folder: Folders) -> None:
    assert AutoConfig.from_pretrained(tiny_teacher_folder(0)).model_type == "bert"
