"""Fresh and existing models for the support of a cache."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from ckd_cache.errors import RecipeError, StudentError
from ckd_cache.format.manifest import SupportRecord
from ckd_student.models import load_model, make_model
from ckd_student.recipe import ModelRecipe

SUPPORT = SupportRecord(
    kind="tokens",
    size=400,
    special={"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4, "bos": None, "eos": None},
)
USUAL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
SMALL = {
    "bert": USUAL,
    "roberta": USUAL,
    "distilbert": {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16},
    "modernbert": USUAL,
}


def fresh(family="bert", segment_tokens=32, seed=0, **fields):
    config = {"model_type": family, **SMALL.get(family, {}), **fields}
    recipe = ModelRecipe(config=config, seed=seed)
    return make_model(recipe, Path(), SUPPORT, Path(), segment_tokens)


@pytest.mark.parametrize("family", SMALL)
def test_vocabulary_and_special_ids_come_from_the_cache(family):
    model = fresh(family)
    assert model.config.vocab_size == 400
    assert model.config.pad_token_id == 0
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    ids = torch.randint(5, 400, (2, 32))
    assert model(input_ids=ids).logits.shape == (2, 32, 400)


def test_seeds_decide_the_weights_and_leave_the_global_generator_alone():
    state = torch.random.get_rng_state()
    one, same, other = fresh(seed=1), fresh(seed=1), fresh(seed=2)
    assert torch.equal(state, torch.random.get_rng_state())
    weights = [m.get_input_embeddings().weight for m in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_the_position_table_is_at_least_as_long_as_the_examples(family):
    model = fresh(family, segment_tokens=700)
    ids = torch.randint(5, 400, (1, 700))
    assert model(input_ids=ids).logits.shape == (1, 700, 400)


@pytest.mark.parametrize(("family", "table"), [("bert", 31), ("roberta", 32)])
def test_a_short_position_table_is_refused(family, table):
    with pytest.raises(StudentError, match=r"holds 31 tokens, examples .* up to 32"):
        fresh(family, max_position_embeddings=table)
    fresh(family, max_position_embeddings=table + 1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hiden_size": 3}, "no field 'hiden_size' .*did you mean 'hidden_size'"),
        ({"num_attention_heads": 3}, r"model\.config\.num_attention_heads \(3\).*not a multiple"),
        ({"num_attention_heads": 0}, r"model\.config\.num_attention_heads: expected at least 1"),
        ({"hidden_size": "abc"}, r"model\.config\.hidden_size \('abc'\).*expected int"),
        ({"hidden_size": -4}, r"model\.config\.hidden_size: expected at least 1, found -4"),
        ({"hidden_size": True}, r"model\.config\.hidden_size \(True\)"),
        ({"hidden_size": None}, r"model\.config\.hidden_size \(None\)"),
        ({"num_hidden_layers": -1}, r"model\.config\.num_hidden_layers: expected at least 1"),
        ({"hidden_act": "gluu"}, r"model\.config\.hidden_act \('gluu'\).*KeyError"),
        ({"hidden_dropout_prob": 2.0}, r"model\.config\.hidden_dropout_prob \(2\.0\).*between 0"),
        ({"initializer_range": -1.0}, r"model\.config\.initializer_range \(-1\.0\)"),
        ({"pad_token_id": 9999}, r"model\.config\.pad_token_id \(9999\)"),
        ({"dtype": "foo"}, r"model\.config\.dtype \('foo'\)"),
        ({"id2label": 3}, r"model\.config\.id2label \(3\)"),
        ({"hidden_size": 10**12}, r"model\.config\.hidden_size \(1000000000000\)"),
    ],
)
def test_configs_that_cannot_work_are_refused_with_path_and_value(fields, message):
    with pytest.raises(RecipeError, match=message) as caught:
        fresh(**fields)
    assert "\n" not in str(caught.value)


def test_another_vocabulary_than_the_caches_is_refused():
    with pytest.raises(StudentError, match=r"vocab_size is 500.*400 entries"):
        fresh(vocab_size=500)


def test_unknown_families_and_those_without_a_head_are_refused():
    with pytest.raises(RecipeError, match=r"'brt' is not known.*did you mean 'bert'"):
        fresh("brt")
    with pytest.raises(RecipeError, match="'gpt2' has no masked-LM head"):
        fresh("gpt2")


def test_an_existing_model_with_the_same_tokens_loads(tiny_teacher_folder, tiny_tokenizer_folder):
    folder = tiny_teacher_folder(1)
    support = SUPPORT.model_copy(update={"size": 400})
    recipe = ModelRecipe(path=folder.name)
    model = make_model(recipe, folder.parent, support, tiny_tokenizer_folder, 32)
    assert model.config.hidden_size == 32


def test_a_model_without_all_its_weights_is_refused(
    tiny_teacher_folder, tiny_tokenizer_folder, tmp_path
):
    folder = tmp_path / "model"
    shutil.copytree(tiny_teacher_folder(0), folder)
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if ".layer.1." not in name}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StudentError, match=r"lacks \d+ weights, the first .*layer\.1\."):
        load_model(str(folder), tiny_tokenizer_folder)
    whole = (tiny_teacher_folder(0) / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StudentError, match="cannot be loaded"):
        load_model(str(folder), tiny_tokenizer_folder)


def test_another_support_is_refused_naming_the_first_difference(
    tiny_teacher_folder, tiny_tokenizer_folder
):
    folder = tiny_teacher_folder(2, name="other-tokens")
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    first, second = (next(t for t, i in vocabulary.items() if i == n) for n in (50, 60))
    vocabulary[first], vocabulary[second] = 60, 50
    path.write_text(json.dumps(tokenizer))
    with pytest.raises(StudentError, match=f"id 50 is '{second}' there and '{first}' here"):
        load_model(str(folder), tiny_tokenizer_folder)


def test_folders_without_model_or_tokenizer_are_refused(
    tmp_path, tiny_teacher_folder, tiny_tokenizer_folder
):
    with pytest.raises(StudentError, match="there is no model here"):
        load_model(str(tmp_path), tiny_tokenizer_folder)
    folder = shutil.copytree(tiny_teacher_folder(1), tmp_path / "bare")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(StudentError, match=r"bare has no tokenizer"):
        load_model(str(folder), tiny_tokenizer_folder)


def test_a_model_with_too_few_tokens_is_refused(tiny_teacher_folder, tiny_tokenizer_folder):
    folder = tiny_teacher_folder(3, vocab_size=300)
    recipe = ModelRecipe(path=str(folder))
    with pytest.raises(StudentError, match=r"300 token embeddings.*400 entries"):
        make_model(recipe, folder, SUPPORT, tiny_tokenizer_folder, 32)


@pytest.mark.parametrize("name", ["./gone", "models/a/gone", "/gone", "~/gone"])
def test_a_path_to_nothing_is_no_hub_name(tmp_path, tiny_tokenizer_folder, name):
    with pytest.raises(StudentError, match=r"model\.path: there is no folder .*gone"):
        make_model(ModelRecipe(path=name), tmp_path, SUPPORT, tiny_tokenizer_folder, 32)


def test_a_name_that_the_hub_does_not_give_is_refused_in_one_line(tmp_path, tiny_tokenizer_folder):
    with pytest.raises(
        StudentError, match=r"no-one/nothing cannot be loaded.*no such folder"
    ) as it:
        make_model(ModelRecipe(path="no-one/nothing"), tmp_path, SUPPORT, tiny_tokenizer_folder, 32)
    assert "\n" not in str(it.value)


def test_a_home_folder_is_expanded(tiny_teacher_folder, tiny_tokenizer_folder, monkeypatch):
    folder = tiny_teacher_folder(1)
    monkeypatch.setenv("HOME", str(folder.parent))
    recipe = ModelRecipe(path=f"~/{folder.name}")
    make_model(recipe, Path("elsewhere"), SUPPORT, tiny_tokenizer_folder, 32)


def test_a_model_of_another_kind_is_refused_in_few_words(tmp_path, tiny_tokenizer_folder):
    config = GPT2Config(vocab_size=400, n_embd=8, n_layer=1, n_head=1, n_positions=32)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    with pytest.raises(StudentError, match="is a gpt2, which has no masked-LM head") as caught:
        load_model(str(tmp_path), tiny_tokenizer_folder)
    assert len(str(caught.value)) < len(str(tmp_path)) + 120


def test_pickled_weights_are_refused_with_how_to_convert_them(
    tmp_path, tiny_teacher_folder, tiny_tokenizer_folder
):
    folder = shutil.copytree(tiny_teacher_folder(1), tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(StudentError, match=r"pickled \(pytorch_model\.bin\)") as caught:
        load_model(str(folder), tiny_tokenizer_folder)
    command = re.search(r'python -c "(.*)"$', str(caught.value))
    subprocess.run([sys.executable, "-c", command.group(1)], check=True, capture_output=True)
    load_model(str(folder), tiny_tokenizer_folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(StudentError, match=r"has no weights, expected model\.safetensors"):
        load_model(str(folder), tiny_tokenizer_folder)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"model_type": "brt"}', '{"model_type": 3}'])
def test_a_damaged_config_is_refused(tmp_path, tiny_teacher_folder, tiny_tokenizer_folder, text):
    folder = shutil.copytree(tiny_teacher_folder(1), tmp_path / "model")
    (folder / "config.json").write_text(text)
    with pytest.raises(StudentError, match="cannot be loaded as a masked LM: ") as caught:
        load_model(str(folder), tiny_tokenizer_folder)
    assert len(str(caught.value)) < len(str(tmp_path)) + 500


def test_a_damaged_tokenizer_is_refused(tmp_path, tiny_teacher_folder, tiny_tokenizer_folder):
    folder = shutil.copytree(tiny_teacher_folder(1), tmp_path / "model")
    (folder / "tokenizer.json").write_text('{"model": 3}')
    with pytest.raises(StudentError, match="no tokenizer that can be loaded"):
        load_model(str(folder), tiny_tokenizer_folder)
