"""What recipes may not ask for where tokenizers differ."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.integration import builds, twin_workshop
from tests.integration.twin_workshop import workshop_at

from ckd_cache.build.recipe import read_recipe
from ckd_cache.errors import RecipeError, TeacherError


@pytest.fixture(scope="module")
def teachers(tmp_path_factory, tiny_texts) -> dict[str, Path]:
    return twin_workshop.two_teachers(tmp_path_factory.mktemp("two-tokenizers"), tiny_texts)


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "refused"


@pytest.mark.parametrize(
    "change", ["whole_word=false", "corruption={mask: 0.8, random: 0.1, keep: 0.1}"]
)
def test_words_must_be_masked_whole_and_nothing_else_done(folder, teachers, tiny_texts, change):
    made = workshop_at(folder, "bert", teachers, tiny_texts)
    with pytest.raises(RecipeError, match=r"roberta.*whole_word: true.*mask: 1.0"):
        read_recipe(made.recipe, [f"objective.{change}"])


def test_a_tokenizer_that_is_the_sets_needs_no_twin(folder, teachers, tiny_texts):
    alike = {"bert": teachers["bert"], "same": teachers["bert"]}
    made = workshop_at(folder, "bert", alike, tiny_texts)
    with pytest.raises(TeacherError, match="its tokens are those of set text"):
        builds.build(made.recipe, folder / "c.ckd")


def test_a_teacher_with_another_tokenizer_is_told_of_twins(folder, teachers, tiny_texts):
    made = workshop_at(folder, "bert", teachers, tiny_texts)
    text = made.recipe.read_text(encoding="utf-8").replace("tokenizer: twin", "tokenizer: own")
    made.recipe.write_text(text, encoding="utf-8")
    with pytest.raises(TeacherError, match="tokenizer: twin"):
        builds.build(made.recipe, folder / "c.ckd")


def test_the_corpus_needs_a_tokenizer_of_its_own(folder, teachers, tiny_texts):
    made = workshop_at(folder, "roberta", teachers, tiny_texts)
    with pytest.raises(RecipeError, match="so the corpus has no tokenizer"):
        read_recipe(made.recipe, ["corpus.tokenizer=null"])
