"""A config.json that is no good: whoever reads it says so, and blames nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ckd_cache.corpus.tokenizer import load_tokenizer
from ckd_cache.errors import CorpusError, TeacherError
from ckd_cache.modeling.tokenizer_files import TOKENIZER_FILES, holds_tokenizer
from ckd_cache.modeling.unreadable import first_line, is_unreadable
from ckd_cache.teachers.identity import config_fingerprint
from ckd_cache.teachers.structure import structure_of


@pytest.fixture
def folder(tmp_path, tiny_teacher_folder) -> Path:
    """A teacher's folder of its own."""
    return Path(shutil.copytree(tiny_teacher_folder(0), tmp_path / "teacher"))


def alter(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe\x00", b"[" * 100_000, b'{"vocab_size": "x"}']
)
def test_text_that_is_no_config(folder, content):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(TeacherError, match=r"teacher a: config\.json in "):
        structure_of("a", folder, None)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00", b"[" * 100_000])
def test_no_fingerprint_of_what_is_no_config(folder, content):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(TeacherError, match=r"teacher a: .*config\.json"):
        config_fingerprint("a", folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vocab_size", "x"),
        ("vocab_size", -3),
        ("hidden_size", 0),
        ("hidden_size", -1),
        ("hidden_size", 10**30),
        ("num_attention_heads", 0),
        ("num_attention_heads", 5),
        ("num_hidden_layers", "4"),
        ("pad_token_id", 999_999),
        ("max_position_embeddings", None),
        ("type_vocab_size", -1),
        ("hidden_act", "zzz"),
        ("model_type", "nonsense"),
        ("model_type", "gpt2"),
    ],
)
def test_fields_that_no_model_can_be_made_of(folder, field, value):
    alter(folder, **{field: value})
    with pytest.raises(TeacherError, match=r"teacher a: (.|\n)*config"):
        structure_of("a", folder, None)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"[" * 100_000])
def test_the_tokenizer_of_such_a_folder_is_not_blamed(folder, content):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(CorpusError) as caught:
        load_tokenizer("teacher", folder.parent)
    assert f"{folder / 'config.json'} is no configuration of a model" in str(caught.value)
    assert "tokenizer.json" not in str(caught.value)


def test_a_field_of_another_type_is_named(folder):
    alter(folder, vocab_size="x")
    with pytest.raises(CorpusError, match=r"config\.json is no .*'vocab_size'.*expected int"):
        load_tokenizer("teacher", folder.parent)


def test_a_bad_tokenizer_beside_a_good_config_is_blamed(folder):
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(CorpusError, match=r"no fast tokenizer can be loaded"):
        load_tokenizer("teacher", folder.parent)


def test_a_folder_is_known_by_any_of_the_files(tmp_path):
    assert not holds_tokenizer(tmp_path)
    for name in TOKENIZER_FILES:
        (tmp_path / name).touch()
        assert holds_tokenizer(tmp_path)
        (tmp_path / name).unlink()


def test_faults_of_the_program_are_not_the_files():
    assert not is_unreadable(AttributeError())
    assert not is_unreadable(IndexError())
    assert is_unreadable(Exception())
    assert first_line(KeyError()) == "KeyError"
    assert first_line(ValueError("one:\n  two\nthree")) == "one: two"
    assert first_line(ValueError("one\ntwo")) == "one"
