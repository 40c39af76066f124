"""Signals that end a build: what is committed is kept, and the same command goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.integration import builds

from ckd_cache.format.journal import journal_keys

MESSAGE = "What is committed is kept; run the same command again to go on."

IGNORING = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory, tiny_texts, tiny_teacher_folder):
    """A folder with a recipe of many shards, so that a signal finds the build at work."""
    folder = tmp_path_factory.mktemp("shop")
    builds.write_corpus(folder / "corpus.txt", tiny_texts[:50])
    shards = {"slots": 120, "chunk_slots": 120}
    builds.recipe(folder, {"a": tiny_teacher_folder(1)}, shards=shards)
    builds.rebuild(folder, folder / "whole.ckd")
    return folder


def started(recipe: Path, cache: Path, *before: str) -> subprocess.Popen[str]:
    """A build that has published shards of its teacher."""
    process = subprocess.Popen(
        [*before, *builds.command("build", recipe, "--cache", cache)],
        env=builds.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not any((cache / "text/teachers").rglob("c/1")):
        time.sleep(0.005)
    return process


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGHUP, 129, marks=pytest.mark.full)],
)
def test_a_build_that_is_asked_to_end_leaves_its_work_in_order(shop, tmp_path, number, code):
    cache = tmp_path / "stopped.ckd"
    process = started(shop / "recipe.yaml", cache)
    process.send_signal(number)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert said == ""
    assert f"Stopped by {number.name}. {MESSAGE}" in errors
    assert "Traceback" not in errors
    assert journal_keys(cache)
    assert not (cache / "staging").exists()
    builds.rebuild(shop, cache)
    assert builds.stored_bytes(cache) == builds.stored_bytes(shop / "whole.ckd")


@pytest.mark.full
def test_a_build_that_shall_outlive_its_terminal_does(shop, tmp_path):
    cache = tmp_path / "nohup.ckd"
    process = started(shop / "recipe.yaml", cache, sys.executable, "-c", IGNORING)
    process.send_signal(signal.SIGHUP)
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "is complete" in said


@pytest.mark.full
def test_two_signals_at_once_end_it_as_one_does(shop, tmp_path):
    """As ``timeout`` and service managers send them: to the process and to its group."""
    process = started(shop / "recipe.yaml", tmp_path / "twice.ckd")
    os.kill(process.pid, signal.SIGTERM)
    os.kill(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert f"Stopped by SIGTERM. {MESSAGE}" in errors
    assert "Traceback" not in errors
