"""Fresh and existing models for the support of a cache."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ckd_cache.errors import StudentError
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
        ({"vocab_size": 500}, "vocab_size is 500.*400 entries"),
        ({"num_attention_heads": 3}, "cannot make a bert"),
    ],
)
def test_configs_that_cannot_work_are_refused(fields, message):
    with pytest.raises(StudentError, match=message):
        fresh(**fields)


def test_unknown_families_and_those_without_a_head_are_refused():
    with pytest.raises(StudentError, match=r"'brt' is not known.*did you mean 'bert'"):
        fresh("brt")
    with pytest.raises(StudentError, match="'gpt2' has no masked-LM head"):
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
    with pytest.raises(StudentError, match="cannot be loaded as a masked LM"):
        load_model(str(tmp_path), tiny_tokenizer_folder)
    folder = shutil.copytree(tiny_teacher_folder(1), tmp_path / "bare")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(StudentError, match=r"bare.*(no tokenizer|is not that of the cache)"):
        load_model(str(folder), tiny_tokenizer_folder)


def test_a_model_with_too_few_tokens_is_refused(tiny_teacher_folder, tiny_tokenizer_folder):
    folder = tiny_teacher_folder(3, vocab_size=300)
    recipe = ModelRecipe(path=str(folder))
    with pytest.raises(StudentError, match=r"300 token embeddings.*400 entries"):
        make_model(recipe, folder, SUPPORT, tiny_tokenizer_folder, 32)
