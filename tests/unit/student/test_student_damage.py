"""What is damaged in a cache is noticed before the first step of a student."""

from __future__ import annotations

import shutil

import pytest
from tests.unit.student.test_student_cli import call
from tests.unit.student.test_trainer import run

from ckd_cache.errors import DamagedCacheError
from ckd_student.trainer import StudentTrainer


@pytest.fixture
def harmed(cache, tmp_path):
    return shutil.copytree(cache, tmp_path / "harmed.ckd")


@pytest.fixture
def no_steps(monkeypatch):
    """Training fails the test."""

    def never(*_, **__):
        pytest.fail("a step was taken")

    monkeypatch.setattr(StudentTrainer, "train", never)


@pytest.mark.parametrize("harm", ["change", "cut", "delete"])
def test_tokenizer_files_are_checked_before_they_are_copied(
    recipe_file, harmed, tmp_path, no_steps, harm
):
    (path,) = harmed.glob("supports/*/tokenizer.json")
    if harm == "delete":
        path.unlink()
    else:
        text = path.read_text()
        path.write_text(text.replace("[UNK]", "[UNX]") if harm == "change" else text[:-1])
    with pytest.raises(DamagedCacheError, match=r"tokenizer\.json is damaged"):
        run(recipe_file(), harmed, tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_missing_documents_are_noticed_before_the_first_step(
    recipe_file, harmed, tmp_path, no_steps
):
    max(harmed.glob("text/segments/*/documents-*.arrow")).unlink()
    with pytest.raises(DamagedCacheError, match=r"documents-\d+\.arrow.*missing"):
        run(recipe_file(), harmed, tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_damage_has_an_exit_code_of_its_own(recipe_file, cache, harmed, tmp_path):
    run(recipe_file(training={"max_steps": 1}), cache, tmp_path / "s")
    for path in harmed.glob("supports/*/tokenizer.json"):
        path.unlink()
    trained = call("train", recipe_file(), "--cache", harmed, "--target", "mix", "-o",
                   tmp_path / "t")  # fmt: skip
    measured = call("evaluate", tmp_path / "s", "--cache", harmed)
    assert (trained.exit_code, measured.exit_code) == (3, 3)
