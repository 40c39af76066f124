"""Signals become an exception in the command's block, and nothing of that stays behind."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from tests.unit.cli.sleepy import ended_by

import ckd_cache
from ckd_cache.cli import main as main_module
from ckd_cache.cli.main import COMMANDS, CommandPlace, cli
from ckd_cache.cli.signals import Stopped, stoppable

SOURCES = Path(ckd_cache.__file__).parents[1]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_is_an_exception_in_the_block_alone(number, code):
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as caught, stoppable():
        os.kill(os.getpid(), number)
    assert (caught.value.exit_code, caught.value.name) == (code, number.name)
    assert not isinstance(caught.value, Exception)
    assert signal.getsignal(number) is before


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_leaves_the_handlers_alone():
    seen = []

    def work():
        with stoppable():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


@pytest.mark.parametrize(
    ("resumable", "said"),
    [(True, "SIGTERM. What is committed is kept; run the same"), (False, "Stopped by SIGTERM.\n")],
)
def test_a_command_ends_with_a_message(monkeypatch, resumable, said):
    @click.command()
    def fail() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(sys.modules[__name__], "fail_command", fail, raising=False)
    place = CommandPlace(__name__, "fail_command", "Fail.", resumable)
    monkeypatch.setitem(main_module.COMMANDS, "fail", place)
    done = CliRunner().invoke(cli, ["fail"])
    assert (done.exit_code, said in done.stderr) == (143, True), done.output
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("name", ["build", "merge", "drop", "verify"])
def test_a_real_signal_ends_each_long_command(tmp_path, name):
    """In a process of its own, where the command sleeps."""
    resumable = COMMANDS[name].resumable
    code, errors = ended_by(signal.SIGTERM, tmp_path, name, resumable=resumable)
    assert code == 143
    assert errors.startswith("\nStopped by SIGTERM.")
    assert ("What is committed is kept" in errors) == COMMANDS[name].resumable
    assert "Traceback" not in errors
