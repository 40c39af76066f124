"""The table of ``ckd-student evaluate`` on wide and narrow terminals, and piped."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import numpy as np
import pytest

from ckd_student.evaluation import Tally
from ckd_student.scores_text import scores_text

CODE = """
import numpy as np
from ckd_student.evaluation import Tally
from ckd_student.scores_text import scores_text
tally = Tally(True, {'fiction': np.array([1000, 4321.0, 100, 300, 1234.0]),
                     'law': np.array([10, 50.0, 1, 3, 20.0])})
import sys; sys.stdout.write(scores_text(tally, 'runs/student at the slots of split test'))
"""
NUMBERS = ("1,000", "4.3210", "10.0%", "30.0%", "1.2340", "KL to target", "nats a slot")


@pytest.fixture
def tally():
    return Tally(True, {"fiction": np.array([1000, 4321.0, 100, 300, 1234.0])})


def on_terminal(columns):
    """What the code writes to a terminal of so many columns."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm"}
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", CODE], stdout=terminal, env={**environment, "COLUMNS": str(columns)}
    ) as process:
        os.close(terminal)
        said = b""
        while process.poll() is None or b"all" not in said:
            try:
                said += os.read(controller, 65_536)
            except OSError:
                break
    os.close(controller)
    return re.sub("\x1b\\[[0-9;]*m", "", said.decode()).replace("\r\n", "\n")


def test_a_narrow_terminal_gets_one_block_a_genre():
    said = on_terminal(40)
    lines = said.splitlines()
    assert lines[1:7] == [
        "fiction",
        "  slots          1,000",
        "  nats a slot   4.3210",
        "  top-1          10.0%",
        "  top-5          30.0%",
        "  KL to target  1.2340",
    ]
    assert [line for line in lines if not line.startswith(" ")][1:] == ["fiction", "law", "all"]
    assert all(len(line) <= 40 for line in lines)


def test_a_wide_terminal_gets_a_table():
    said = on_terminal(100)
    assert "│ fiction │ 1,000 │      4.3210 │ 10.0% │ 30.0% │       1.2340 │" in said


def test_what_is_piped_does_not_depend_on_the_terminal(tally, monkeypatch):
    shown = []
    for columns in ("20", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        shown.append(scores_text(tally, "a/long/path/" + "x" * 100))
    assert shown[0] == shown[1]
    assert shown[0].splitlines()[0] == "a/long/path/" + "x" * 100
    assert all(number in shown[0] for number in NUMBERS)
    assert "\x1b" not in shown[0]


def test_the_narrowest_terminal_still_shows_everything():
    said = on_terminal(10)
    assert all(number in said for number in NUMBERS)
    assert "…" not in said


def test_long_genres_are_whole():
    genre = "a-genre-of-" + "x" * 90
    said = scores_text(Tally(False, {genre: np.array([10, 50.0, 1, 3, 0.0])}), "t")
    assert genre in said
    assert "KL" not in said
