"""What a person types and sees: ckd-student."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from ckd_student.cli import cli


def environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}


def call(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def command(*arguments):
    code = "from ckd_student.cli import main; main()"
    return [sys.executable, "-c", code, *map(str, arguments)]


@pytest.fixture(scope="module")
def student(cache, tmp_path_factory):
    """A trained student and what training it printed."""
    import yaml

    folder = tmp_path_factory.mktemp("cli")
    recipe = {
        "model": {"config": {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1,
                             "num_attention_heads": 2, "intermediate_size": 16}},
        "training": {"max_steps": 4, "logging_steps": 2, "use_cpu": True},
    }  # fmt: skip
    (folder / "student.yaml").write_text(yaml.safe_dump(recipe))
    result = call("train", folder / "student.yaml", "--cache", cache, "--target", "mix", "-o",
                  folder / "run")  # fmt: skip
    return folder, result


def test_training_says_how_far_it_is_and_ends_with_place_and_held_out_loss(student):
    folder, result = student
    assert result.exit_code == 0, result.output
    assert "step 2: loss" in result.stderr
    assert "training: 4 of 4 steps" in result.stderr
    assert result.stdout.startswith(f"{folder / 'run'}: 4 steps; held-out loss ")
    assert "nats a slot, top-1" in result.stdout
    assert "slots of split test" in result.stdout


def test_evaluate_measures_what_training_did(student, cache):
    folder, _ = student
    result = call("evaluate", folder / "run", "--task", "mlm", "--cache", cache, "--target", "mix",
                  "--json")  # fmt: skip
    assert result.exit_code == 0, result.output
    measured = json.loads(result.stdout)
    record = json.loads((folder / "run" / "ckd_student.json").read_text())["held_out"]
    for name in ("slots", "loss", "top1", "top5", "kl"):
        assert measured[name] == pytest.approx(record[name], rel=1e-5)
    assert set(measured["by_genre"]) == {"fiction", "law"}


def test_evaluate_prints_a_table_by_genre(student, cache):
    folder, _ = student
    result = call("evaluate", folder / "run", "--cache", cache, "--split", "fit")
    assert result.exit_code == 0, result.output
    rows = [line.split("│")[1].strip() for line in result.stdout.splitlines() if "│" in line]
    assert rows == ["fiction", "law", "all"]
    assert "KL to target" not in result.stdout
    result = call("evaluate", folder / "run", "--cache", cache, "--split", "fit", "--target", "mix")
    assert "KL to target" in result.stdout
    kl = [line.split("│")[6].strip() for line in result.stdout.splitlines() if "│" in line]
    assert all(float(value) > 0 for value in kl)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--target", "gold"], 1, "there is no target 'gold'"),
        ([], 2, "Name one with --target"),
        (
            ["--target", "mix", "--set", "loss.hrd=1"],
            2,
            "loss.hrd: unknown key; did you mean 'hard'",
        ),
        (["--target", "mix", "--resume", "--overwrite"], 2, "exclude each other"),
    ],
)
def test_what_cannot_work_ends_with_one_message_and_no_traceback(
    student, cache, tmp_path, arguments, code, message
):
    folder, _ = student
    result = call(
        "train", folder / "student.yaml", "--cache", cache, "-o", tmp_path / "x", *arguments
    )
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "x").exists()


def test_missing_things_are_named(student, cache, tmp_path):
    folder, _ = student
    no_cache = call("evaluate", folder / "run", "--cache", tmp_path / "none.ckd")
    assert no_cache.exit_code == 1
    assert "none.ckd" in no_cache.stderr
    no_student = call("evaluate", tmp_path / "none", "--cache", cache)
    assert no_student.exit_code == 1
    assert "there is no such folder" in no_student.stderr


def test_help_is_light_and_quick():
    code = (
        "import sys, time; began = time.perf_counter(); from ckd_student.cli import cli\n"
        "try: cli(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'zarr', 'pyarrow', 'numpy', 'rich', 'pydantic'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    assert "--overwrite" in done.stdout


def test_it_starts_as_a_module_too():
    """torchrun starts modules and scripts, no commands."""
    done = subprocess.run(
        [sys.executable, "-m", "ckd_student", "train", "--help"],
        capture_output=True, text=True, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: ckd-student train")


def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(student, cache, tmp_path):
    folder, _ = student
    arguments = ("train", folder / "student.yaml", "--cache", cache, "--target", "mix", "-o",
                 tmp_path / "run", "--set", "training.max_steps=1000000",
                 "--set", "training.logging_steps=1")  # fmt: skip
    with subprocess.Popen(
        command(*arguments), stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        for line in process.stderr:
            if line.startswith("step 2:"):
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
        assert process.wait(timeout=60) == 130
    assert "with a checkpoint" in rest
    assert "--resume" in rest
    assert "Traceback" not in rest
    assert len(list((tmp_path / "run").glob("checkpoint-*"))) == 1


def test_killed_training_resumes(student, cache, tmp_path):
    """kill -9, then the same command with --resume: the steps go on where a checkpoint stands."""
    folder, _ = student
    arguments = ["train", folder / "student.yaml", "--cache", cache, "--target", "mix", "-o",
                 tmp_path / "run", "--set", "training.max_steps=12", "--set",
                 "training.save_steps=2", "--set", "training.logging_steps=1"]  # fmt: skip
    with subprocess.Popen(
        command(*arguments), stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        for line in process.stderr:
            if line.startswith("step 7:"):
                break
        process.kill()
    time.sleep(0.1)
    result = call(*arguments, "--resume")
    assert result.exit_code == 0, result.output
    assert "going on from" in result.stderr
    assert "checkpoint-" in result.stderr.split("going on from")[1].splitlines()[0]
    assert "12 steps" in result.stdout
