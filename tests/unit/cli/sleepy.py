"""A command that sleeps, in a process of its own, to be ended by a signal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[3] / "pipeline"
SLEEPY = """
import click, sys, time
@click.command()
def sleepy():
    click.echo('ready'); sys.stdout.flush(); time.sleep(60)
"""


def ended_by(number: int, folder: Path, name: str, *, resumable: bool) -> tuple[int, str]:
    """Exit code and standard error of ``ckd-cache NAME``, which sleeps, after a signal.

    ``folder`` is for the module of the command.
    """
    (folder / "sleepy.py").write_text(SLEEPY)
    code = (
        "from ckd_cache.cli.main import COMMANDS, CommandPlace, main\n"
        f"COMMANDS[{name!r}] = CommandPlace('sleepy', 'sleepy', 'Sleep.', {resumable})\n"
        "main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, name],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(SOURCES)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    return process.returncode, errors
