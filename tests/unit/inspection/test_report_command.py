"""``ckd-cache report``: where it writes, and when it refuses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ckd_cache.cli.main import cli
from ckd_cache.errors import StorageError
from ckd_cache.inspection.report.building import write_report


def run(*arguments: object) -> Any:
    return CliRunner().invoke(cli, ["report", *map(str, arguments)])


def test_it_writes_one_file_and_says_so(tiny: Any, tmp_path: Path) -> None:
    output = tmp_path / "report.html"
    done = run(tiny.path, "-o", output, "--target", "gold")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith(f"{output}: ")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    source = output.read_text(encoding="utf-8")
    assert "Target gold of set text" in source
    assert "Target other of set text" not in source
    assert output.stat().st_mode & 0o777 == 0o666 & ~_mask()


def _mask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_an_unfinished_cache_without_targets_has_a_report_too(
    unfinished: Any, tmp_path: Path
) -> None:
    output = tmp_path / "report.html"
    assert run(unfinished.path, "-o", output).exit_code == 0
    source = output.read_text(encoding="utf-8")
    assert "There are no targets yet" in source
    assert "incomplete" in source


def test_what_is_there_is_kept_unless_told_otherwise(unfinished: Any, tmp_path: Path) -> None:
    output = tmp_path / "report.html"
    output.write_text("mine", encoding="utf-8")
    done = run(unfinished.path, "-o", output)
    assert done.exit_code == 1
    assert "exists. Give --overwrite" in done.stderr
    assert output.read_text(encoding="utf-8") == "mine"
    assert run(unfinished.path, "-o", output, "--overwrite").exit_code == 0
    assert output.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_place_that_cannot_be_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    missing = tmp_path / "nothing.ckd"
    done = run(missing, "-o", tmp_path / "no" / "report.html")
    assert done.exit_code == 1
    assert f"there is no folder {tmp_path / 'no'}" in done.stderr
    done = run(missing, "-o", tmp_path)
    assert "is a folder" in done.stderr


def test_unknown_names_are_said(tiny: Any, tmp_path: Path) -> None:
    output = tmp_path / "report.html"
    done = run(tiny.path, "-o", output, "--target", "sharp")
    assert done.exit_code == 1
    assert "No target 'sharp'" in done.stderr
    assert "'gold', 'other'" in done.stderr
    assert run(tiny.path, "-o", output, "--set-name", "gloss").exit_code == 1
    assert run(tmp_path / "nothing.ckd", "-o", output).exit_code == 1
    assert run(tiny.path).exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "report.html"
    output.write_text("old", encoding="utf-8")

    def full(number: int, mode: str) -> Any:
        os.close(number)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdopen", full)
        with pytest.raises(StorageError, match="No space left on device"):
            write_report("new", output, overwrite=True)
    assert output.read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
