"""A cache without teachers: text, masks and gold, enough to train on hard labels."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml
from click.testing import CliRunner
from tests.integration import builds
from transformers import AutoModelForMaskedLM

from ckd_cache.cli.main import cli as cache_cli
from ckd_student.cli import cli as student_cli

STUDENT = {
    "model": {
        "config": {
            "model_type": "bert",
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": 32,
        }
    },
    "loss": {"distill": 0, "hard": 1},
    "training": {"max_steps": 4, "use_cpu": True},
}


def call(cli, *arguments):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_texts, tiny_teacher_folder):
    """A folder with a cache without teachers, and what it was made from."""
    folder = tmp_path_factory.mktemp("no-teachers")
    builds.write_corpus(folder / "corpus.txt", tiny_texts)
    shutil.copytree(tiny_teacher_folder(1), folder / "a")
    corpus = {
        "sources": [{"name": "docs", "kind": "text", "paths": ["corpus.txt"]}],
        "tokenizer": "a",
        "segment_tokens": 32,
    }
    builds.recipe(folder, {}, corpus=corpus, targets=None)
    (folder / "student.yaml").write_text(yaml.safe_dump(STUDENT), encoding="utf-8")
    call(cache_cli, "build", folder / "recipe.yaml", "--cache", folder / "c.ckd")
    return folder


def test_inspect_shows_a_complete_cache(place):
    shown = json.loads(call(cache_cli, "inspect", place / "c.ckd", "--json"))
    assert shown["complete"]
    assert shown["slots"] > 0
    assert (shown["teachers"], shown["targets"]) == ({}, {})
    call(cache_cli, "inspect", place / "c.ckd")
    call(cache_cli, "show", place / "c.ckd", "--example", "1")
    call(cache_cli, "verify", place / "c.ckd")


def test_nothing_is_due_in_a_second_build(place):
    assert "nothing was due" in builds.build(place / "recipe.yaml", place / "c.ckd").sentence(
        place / "c.ckd"
    )


def test_a_student_trains_on_hard_labels_and_is_measured(place, tmp_path):
    cache, output = place / "c.ckd", tmp_path / "student"
    call(student_cli, "train", place / "student.yaml", "--cache", cache, "-o", output)
    AutoModelForMaskedLM.from_pretrained(output)
    scores = json.loads(
        call(student_cli, "evaluate", output, "--task", "mlm", "--cache", cache, "--json")
    )
    assert scores["slots"] > 0


def test_a_target_needs_teachers(place):
    result = CliRunner().invoke(cache_cli, ["merge", str(place / "c.ckd"), "--name", "t"])
    assert result.exit_code == 1
    assert "teacher" in result.stderr


def test_teachers_join_later(place, tmp_path):
    folder = shutil.copytree(place, tmp_path / "later")
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    recipe["teachers"] = [{"name": "a", "model": "a"}]
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    outcome = builds.build(folder / "recipe.yaml", folder / "c.ckd")
    assert outcome.complete
    assert (outcome.teachers, outcome.targets) == (("a",), ("gold", "uniform"))
