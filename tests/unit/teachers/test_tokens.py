"""What a teacher's tokenizer must be, and what is said of one that cannot be read."""

from __future__ import annotations

import pytest
from transformers import AutoTokenizer

from ckd_cache.errors import TeacherError
from ckd_cache.teachers.tokens import ExpectedSupport, check_tokens

ROLES = ("mask", "pad", "cls", "sep", "unk", "bos", "eos")


@pytest.fixture(scope="module")
def support(tiny_tokenizer_folder):
    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer_folder)
    return ExpectedSupport(
        tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))),
        {role: getattr(tokenizer, f"{role}_token_id") for role in ROLES},
    )


def check(folder, support, *, corpus_ids=False):
    check_tokens("a", folder, support, corpus_ids=corpus_ids, remote_code=False)


def test_the_same_tokenizer_passes(tiny_tokenizer_folder, support):
    check(tiny_tokenizer_folder, support)


def test_another_token_is_named(tiny_tokenizer_folder, support):
    tokens = [*support.tokens[:7], "other", *support.tokens[8:]]
    with pytest.raises(TeacherError, match=r"id 7 is .* there and 'other' in the corpus"):
        check(tiny_tokenizer_folder, ExpectedSupport(tokens, support.special))


def test_a_folder_without_one_needs_the_recipes_word(tmp_path, support):
    with pytest.raises(TeacherError, match=r"there is no tokenizer in .*`tokenizer: corpus`"):
        check(tmp_path, support)
    check(tmp_path, support, corpus_ids=True)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"model": 3}'])
@pytest.mark.parametrize("corpus_ids", [False, True])
def test_an_unreadable_tokenizer_is_refused_whatever_the_recipe_says(
    content, corpus_ids, tmp_path, support
):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(TeacherError, match=r"teacher a: the tokenizer in .* cannot be read"):
        check(tmp_path, support, corpus_ids=corpus_ids)


def test_faults_that_are_no_files_fault_come_through(tiny_tokenizer_folder, support, monkeypatch):
    def fails(*_, **__):
        raise AttributeError

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", fails)
    with pytest.raises(AttributeError):
        check(tiny_tokenizer_folder, support)
