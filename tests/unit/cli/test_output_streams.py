"""Standard output that is closed, full, read-only or no longer read: a line, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ckd_cache

SOURCES = Path(ckd_cache.__file__).parents[1]
START = "from ckd_cache.cli.main import main; main()"
SAYING = (
    "import click\n"
    "from ckd_cache.cli.console import output\n"
    "@click.command()\n"
    "def plain():\n"
    "    click.echo('x' * 200_000)\n"
    "@click.command()\n"
    "def rich():\n"
    "    for _ in range(2_000): output().print('y' * 100)\n"
)
COMMANDS = {
    "help": "",
    "plain": "COMMANDS['plain'] = CommandPlace('saying', 'plain', 'Say.')\n",
    "rich": "COMMANDS['rich'] = CommandPlace('saying', 'rich', 'Say.')\n",
}


@pytest.fixture(params=COMMANDS)
def program(request, tmp_path) -> str:
    """A shell command that says something through one of the ways in which commands do."""
    (tmp_path / "saying.py").write_text(SAYING)
    (tmp_path / "run.py").write_text(
        "from ckd_cache.cli.main import COMMANDS, CommandPlace, main\n"
        f"{COMMANDS[request.param]}main()"
    )
    argument = "--help" if request.param == "help" else request.param
    return f"{sys.executable} {tmp_path / 'run.py'} {argument}"


def run(script: str, unbuffered: bool = False) -> tuple[int, str, str]:
    done = subprocess.run(
        ["bash", "-c", script],
        env={
            **os.environ,
            "PYTHONPATH": str(SOURCES),
            "PYTHONUNBUFFERED": "1" if unbuffered else "",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_what_is_closed_takes_nothing(program):
    assert run(f"{program} >&-") == (0, "", "")
    assert run(f"{program} <&- >&- 2>&-") == (0, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("unbuffered", [False, True])
def test_what_is_full_or_read_only_is_said_in_a_line(program, unbuffered):
    for place, reason in (
        (">/dev/full", "No space left on device"),
        ("1</dev/null", "Bad file descriptor"),
    ):
        code, _, errors = run(f"{program} {place}", unbuffered)
        assert (code, errors) == (
            1,
            f"Error: standard output cannot be written ({reason}).\n",
        )


def test_a_reader_that_leaves_is_no_news(program):
    code, _, errors = run(f"set -o pipefail; {program} | head -c 5")
    assert (code in {0, 1}, errors) == (True, "")
    assert run(f"{program} | true") == (0, "", "")


def test_an_error_is_said_although_standard_output_is_closed():
    code, _, errors = run(f'{sys.executable} -c "{START}" inspect nowhere.ckd >&-')
    assert code == 1
    assert errors.startswith("Error: ")
    assert "Traceback" not in errors
