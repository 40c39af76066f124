"""Disks that are full or closed: one message, and exit code 1."""

from __future__ import annotations

import errno
import resource
import subprocess
from pathlib import Path

import pytest
from safetensors import SafetensorError
from tests.unit.student.test_student_cli import call, command, environment
from tests.unit.student.test_trainer import run

from ckd_cache.errors import StorageError
from ckd_student.failures import storing


@pytest.fixture(scope="module")
def student(cache, tmp_path_factory):
    """The folder of a trained student."""
    import yaml
    from tests.unit.student.conftest import RECIPE

    folder = tmp_path_factory.mktemp("storage")
    (folder / "student.yaml").write_text(yaml.safe_dump(RECIPE))
    run(folder / "student.yaml", cache, folder / "s", "training.max_steps=1")
    return folder / "s"


def small_files_only():
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))


@pytest.mark.parametrize("overrides", [[], ["--set", "training.save_steps=1"]])
def test_weights_that_do_not_fit_end_with_one_message(recipe_file, cache, tmp_path, overrides):
    done = subprocess.run(
        command("train", recipe_file(), "--cache", cache, "--target", "mix", "-o", tmp_path / "s",
                *overrides),
        capture_output=True, text=True, env=environment(), preexec_fn=small_files_only,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"Error: {tmp_path / 's'}: the disk refused to store the student (")
    assert "--resume" in last


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), r"No space .* at a/b\)\. Make"),
        (OSError(errno.EROFS, "Read-only file system"), r"Read-only file system\)\. Make the file"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "No space left"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos"), "unexpected"),
    ],
)
def test_refusals_of_every_writer_are_storage_errors(tmp_path, error, reason):
    with pytest.raises(StorageError, match=reason), storing(tmp_path):
        raise error


@pytest.mark.parametrize("error", [RuntimeError("sizes differ"), SafetensorError("bad header")])
def test_other_errors_stay_what_they_are(tmp_path, error):
    with pytest.raises(type(error)), storing(tmp_path):
        raise error


def test_an_output_that_cannot_be_written_fails_at_once(recipe_file, cache):
    """Nobody can make files there, not even root."""
    done = call("train", recipe_file(), "--cache", cache, "--target", "mix", "-o", "/proc/student")
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: /proc/student: cannot be made (")
    done = call("train", recipe_file(), "--cache", cache, "--target", "mix", "-o", "/dev/full/x")
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_full_standard_output_ends_with_a_message(student, cache, form):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command("evaluate", student, "--cache", cache, *form),
            stdout=full, stderr=subprocess.PIPE, text=True, env=environment(),
        )  # fmt: skip
    assert done.returncode == 1
    assert "Error: standard output cannot be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_help_for_a_full_standard_output_ends_with_a_message():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command("train", "--help"), stdout=full, stderr=subprocess.PIPE, text=True,
            env=environment(),
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("Error: standard output cannot be written")
    assert done.stderr.count("\n") == 1


def test_a_closed_pipe_ends_silently(student, cache):
    with subprocess.Popen(
        command("evaluate", student, "--cache", cache, "--json"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    ) as process:  # fmt: skip
        process.stdout.close()
        said = process.stderr.read()
        process.wait(timeout=60)
    assert "Error" not in said
    assert "Traceback" not in said
    assert "Exception ignored" not in said
