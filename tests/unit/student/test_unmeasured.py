"""Caches without a held-out split, and students without a held-out loss."""

from __future__ import annotations

import json

import pytest
import torch
from tests.unit.student.test_student_cli import call
from tests.unit.student.test_trainer import run, weights

from ckd_cache.errors import StudentError
from ckd_student.stream import open_stream
from ckd_student.trainer import StudentTrainer


@pytest.fixture(scope="module")
def all_train(student_cache, tiny_tokenizer_folder, tmp_path_factory):
    """A cache whose examples are all of split train."""
    path = tmp_path_factory.mktemp("all-train") / "s.ckd"
    return student_cache.build(path, tiny_tokenizer_folder, held_out=False)


def test_an_empty_split_is_named_with_the_size_of_each_and_the_way_round(all_train):
    with pytest.raises(StudentError, match=r"split 'test' in the set 'text' has a slot") as caught:
        open_stream(all_train, target=None, split="test")
    said = str(caught.value)
    assert "train 120, fit 0, test 0" in said
    for way in ("data.evaluate", "none", "--split"):
        assert way in said


def test_without_held_out_examples_a_student_can_be_trained(recipe_file, all_train, tmp_path):
    output = tmp_path / "s"
    with pytest.raises(StudentError, match=r"data\.evaluate"):
        run(recipe_file(), all_train, output)
    assert not output.exists()
    arguments = ("train", recipe_file(), "--cache", all_train, "--target", "mix", "-o", output,
                 "--set", "data.evaluate=none")  # fmt: skip
    trained = call(*arguments)
    assert trained.exit_code == 0, trained.output
    assert trained.stdout == f"{output}: 6 steps; nothing was measured (data.evaluate is none)\n"
    record = json.loads((output / "ckd_student.json").read_text())
    assert record["finished"] is True
    assert record["held_out"] is None
    assert weights(output)
    again = call(*arguments, "--resume")
    assert "it was finished before; nothing was measured" in again.stdout
    empty = call("evaluate", output, "--cache", all_train)
    assert empty.exit_code == 1
    assert "train 120, fit 0, test 0" in empty.stderr
    assert call("evaluate", output, "--cache", all_train, "--split", "train").exit_code == 0


def test_an_unmeasured_student_that_diverged_is_no_success(
    recipe_file, all_train, tmp_path, monkeypatch
):
    train = StudentTrainer.train

    def diverge(self, **kwargs):
        train(self, **kwargs)
        with torch.no_grad():
            next(self.student.parameters()).fill_(torch.nan)

    monkeypatch.setattr(StudentTrainer, "train", diverge)
    with pytest.raises(StudentError, match="diverged: some of its weights"):
        run(recipe_file(), all_train, tmp_path / "s", "data.evaluate=none")
    assert not json.loads((tmp_path / "s" / "ckd_student.json").read_text())["finished"]
