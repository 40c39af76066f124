"""One process a student: the lock on its folder, and folders that are not left behind."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.unit.student.test_student_cli import call, command, environment

from ckd_cache.errors import StorageError, StudentError
from ckd_student.claim import claimed


def test_two_do_not_hold_one_folder(tmp_path):
    folder = tmp_path / "s"
    with claimed(folder):
        with pytest.raises(StudentError, match=r"/s: another process is training the student"):
            claimed(folder).__enter__()
        assert folder.is_dir(), "the one that was refused does not take the folder away"
    with claimed(folder):
        pass


def test_a_killed_process_holds_nothing(tmp_path):
    code = (
        "import sys; from pathlib import Path; from ckd_student.claim import claimed\n"
        "with claimed(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=environment(),
    ) as process:  # fmt: skip
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(StudentError, match="another process"):
            claimed(tmp_path).__enter__()
        process.kill()
        process.wait()
        with claimed(tmp_path):
            pass


def test_empty_folders_that_were_made_go_again_and_others_stay(tmp_path):
    with claimed(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert not (tmp_path / "a").exists()
    with pytest.raises(ZeroDivisionError), claimed(tmp_path / "a" / "b"):
        raise ZeroDivisionError
    assert not (tmp_path / "a").exists()
    with claimed(tmp_path / "a" / "b"):
        (tmp_path / "a" / "kept").touch()
    assert (tmp_path / "a" / "kept").exists()
    (tmp_path / "empty").mkdir()
    with claimed(tmp_path / "empty"):
        pass
    assert (tmp_path / "empty").is_dir()


def test_what_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StudentError, match="is a file, expected a folder"):
        claimed(tmp_path / "file").__enter__()
    with pytest.raises(StorageError, match=r"below: cannot be made \(Not a directory\)"):
        claimed(tmp_path / "file" / "below").__enter__()


def test_two_trainings_in_one_folder_are_kept_apart(recipe_file, cache, tmp_path):
    recipe, output = recipe_file(training={"max_steps": 1_000_000, "logging_steps": 1}), tmp_path
    output = tmp_path / "s"
    arguments = ("train", recipe, "--cache", cache, "--target", "mix", "-o", output)
    with subprocess.Popen(
        command(*arguments), stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        while not process.stderr.readline().startswith("step 1:"):
            assert process.poll() is None
        for more in ([], ["--resume"], ["--overwrite"]):
            second = call(*arguments, *more)
            assert second.exit_code == 1
            assert f"{output}: another process is training the student" in second.stderr
        assert process.poll() is None
        process.kill()
    assert (output / "ckd_student.json").is_file()
