"""From two teachers to a student: `ckd-cache build`, teachers deleted, `ckd-student train`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
import yaml
from click.testing import CliRunner

from ckd_cache.cli.main import cli as cache_cli
from ckd_student.cli import cli as student_cli
from ckd_student.losses import cell_forward_kl
from ckd_student.stream import open_stream

STUDENT = {
    "model": {
        "config": {
            "model_type": "bert",
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "max_position_embeddings": 48,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        }
    },
    "loss": {"distill": 0.9, "hard": 0.1},
    "training": {"max_steps": 30, "learning_rate": 5.0e-3, "use_cpu": True, "logging_steps": 10},
}


def call(cli, *arguments):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_teacher_folder, tiny_texts):
    """A folder with two teachers, a cache that was built from them, and a student's recipe."""
    folder = tmp_path_factory.mktemp("end-to-end")
    for name, seed in (("a", 11), ("b", 12)):
        shutil.copytree(tiny_teacher_folder(seed), folder / "teachers" / name)
    (folder / "corpus.txt").write_text("\n\n".join(tiny_texts))
    recipe = {
        "corpus": {
            "sources": [{"kind": "text", "name": "doc", "paths": ["corpus.txt"]}],
            "segment_tokens": 48,
        },
        "objective": {"kind": "masked_lm", "mask_fraction": 0.15, "views": 1},
        "teachers": [
            {"name": name, "model": f"teachers/{name}", "dtype": "float32"} for name in "ab"
        ],
        "splits": {"fit": 0.05, "test": 0.1},
        "capture": {"top_k": 12, "temperatures": [1.0], "max_nats": 0.0},
        "targets": [
            {"name": "gold", "weighting": "gold"},
            {"name": "alone", "weighting": "uniform", "teachers": ["a"]},
        ],
        "shards": {"slots": 2048, "chunk_slots": 256},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "student.yaml").write_text(yaml.safe_dump(STUDENT))
    call(cache_cli, "build", folder / "recipe.yaml", "--cache", folder / "c.ckd")
    return folder


def live_logits(folder, row):
    """What plain transformers code gives for one example, at its slots."""
    from transformers import AutoModelForMaskedLM

    model = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32).eval()
    length = int(row["attention_mask"].sum())
    ids = torch.from_numpy(row["input_ids"][:length])[None]
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0]
    return logits[torch.from_numpy(row["slot_positions"][row["slot_mask"]])]


def test_the_loss_on_a_cached_teacher_is_that_on_the_live_one_at_the_same_cells(place):
    stream = open_stream(place / "c.ckd", target="alone")
    for row, _ in zip(stream, range(4), strict=False):
        used = int(row["slot_mask"].sum())
        dense = live_logits(place / "teachers" / "a", row).double().log_softmax(dim=1)
        logprobs, ids = dense.topk(12, dim=1)
        tail = dense.scatter(1, ids, -torch.inf).logsumexp(dim=1)
        generator = torch.Generator().manual_seed(1)
        student = torch.randn(used, dense.shape[1], generator=generator)
        live = cell_forward_kl(student, ids, logprobs, torch.full((used,), 12), tail)
        names = ("target_ids", "target_logprobs", "target_n_valid", "target_tail")
        stored = [torch.from_numpy(row[name][:used]) for name in names]
        cached = cell_forward_kl(student, stored[0], stored[1], stored[2], stored[3])
        torch.testing.assert_close(cached, live, atol=1e-3, rtol=0.0)


def test_students_train_and_are_measured_without_any_teacher(place, tmp_path):
    """The teachers' folders are gone; cached and hard-label students differ in their loss only."""
    folder = shutil.copytree(place, tmp_path / "without")
    shutil.rmtree(folder / "teachers")
    common = ["train", folder / "student.yaml", "--cache", folder / "c.ckd"]
    call(student_cli, *common, "--target", "gold", "-o", tmp_path / "cached")
    call(student_cli, *common, "-o", tmp_path / "hard", "--set", "loss.distill=0", "--set",
         "loss.hard=1")  # fmt: skip
    measured = {}
    for name in ("cached", "hard"):
        result = call(student_cli, "evaluate", tmp_path / name, "--cache", folder / "c.ckd",
                      "--target", "gold", "--json")  # fmt: skip
        measured[name] = json.loads(result.stdout)
        record = json.loads((tmp_path / name / "ckd_student.json").read_text())
        assert measured[name]["loss"] == pytest.approx(record["held_out"]["loss"], rel=1e-5)
        assert set(measured[name]["by_genre"]) == {"doc"}
    # Teachers of random weights teach nothing true: each student is nearer to what it was shown.
    assert measured["cached"]["kl"] < measured["hard"]["kl"]
    assert measured["hard"]["loss"] < measured["cached"]["loss"]


def test_a_student_is_plain_transformers(place, tmp_path):
    from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline

    call(student_cli, "train", place / "student.yaml", "--cache", place / "c.ckd", "--target",
         "gold", "-o", tmp_path / "s", "--set", "training.max_steps=2")  # fmt: skip
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "s")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "s")
    assert model.config.vocab_size == len(tokenizer)
    guesses = pipeline("fill-mask", model=str(tmp_path / "s"))("return the [MASK] of the list")
    assert len(guesses) == 5


@pytest.mark.full
def test_two_processes_train_the_student_of_one(place, tmp_path):
    """Batches of 2 x 4 are those of 1 x 8, and so are the weights."""
    from transformers import AutoModelForMaskedLM

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    script = tmp_path / "run.py"
    script.write_text("from ckd_student.cli import main\nmain()\n")
    for processes, batch in ((1, 8), (2, 4)):
        launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", processes]
        arguments = [script, "train", place / "student.yaml", "--cache", place / "c.ckd",
                     "--target", "gold", "-o", tmp_path / f"{processes}", "--set",
                     f"training.per_device_train_batch_size={batch}", "--set",
                     "training.max_steps=6", "--set", "training.optim=sgd"]  # fmt: skip
        done = subprocess.run([str(part) for part in [*launch, *arguments]], capture_output=True,
                              text=True, env=environment)  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("held-out loss") == 1
    one, two = (AutoModelForMaskedLM.from_pretrained(tmp_path / name) for name in ("1", "2"))
    for first, second in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)
