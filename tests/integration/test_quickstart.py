"""The quickstart as a newcomer runs it: without a network, in little memory, and twice."""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST_MEMORY = 2 * 2**30
SECONDS_BETWEEN_LOOKS = 0.2
# What tests set for themselves; a newcomer's shell has none of it.
NOT_OF_A_NEWCOMER = ("COLUMNS", "HF_HUB_OFFLINE", "OMP_NUM_THREADS", "PYTHONPATH",
                     "TOKENIZERS_PARALLELISM")  # fmt: skip
NAMESPACES = (["unshare", "--map-root-user", "--net"], ["unshare", "--net"])
GUARD = """
import sys

EVENTS = {"socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1, "socket.getaddrinfo": 0}

def refuse(event, arguments):
    if event not in EVENTS:
        return
    address = arguments[EVENTS[event]]
    host = address[0] if isinstance(address, tuple) else address
    if event != "socket.getaddrinfo" and not isinstance(address, tuple):
        return
    here = host in (None, "", "localhost", "::1") or str(host).startswith("127.")
    if not here:
        raise OSError(f"there is no network in this test: {event} {address!r}")

sys.addaudithook(refuse)
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One finished run of the quickstart; memory is resident, of all its processes at once."""

    code: int
    output: str
    most_memory: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What the last line of a training says."""

    steps: str
    loss: float


def prefix_without_network() -> list[str] | None:
    """A command in front of which another runs without a network; None if the system has none."""
    for prefix in NAMESPACES:
        if (
            shutil.which(prefix[0])
            and subprocess.run([*prefix, "true"], capture_output=True).returncode == 0
        ):
            return prefix
    return None


def guarded(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which every Python refuses to talk to other machines."""
    (folder / "sitecustomize.py").write_text(GUARD, encoding="utf-8")
    return {**environment, "PYTHONPATH": str(folder)}


def resident(process: psutil.Process) -> int:
    """Bytes of a process and all below it; shared pages count for each that maps them."""
    total = 0
    try:
        for each in (process, *process.children(recursive=True)):
            try:
                total += each.memory_info().rss
            except psutil.Error:
                continue
    except psutil.Error:
        return total
    return total


def watched(command: list[str], environment: Mapping[str, str], log: Path) -> Run:
    """Run a command to its end and look at its memory all the while."""
    began, most = time.monotonic(), 0
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment,
            start_new_session=True, stdin=subprocess.DEVNULL,
        ) as process,
    ):  # fmt: skip
        try:
            tree = psutil.Process(process.pid)
            while process.poll() is None:
                most = max(most, resident(tree))
                time.sleep(SECONDS_BETWEEN_LOOKS)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    text = log.read_text(encoding="utf-8", errors="replace")
    return Run(process.returncode, text, most, time.monotonic() - began)


def is_ready() -> bool:
    """Whether workflows/environment.sh would install nothing."""
    wanted = f"{ROOT}\n".encode()
    wanted += b"".join((ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))
    stamps = (ROOT / ".venv" / f"ckd-stamp-{level}" for level in ("runtime", "dev"))
    return any(stamp.is_file() and stamp.read_bytes() == wanted for stamp in stamps)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """The quickstart in a new folder, and once more in the same."""
    if not is_ready():
        pytest.skip(f"{ROOT / '.venv'} is not up to date; `bash workflows/test.sh` makes it")
    folder = tmp_path_factory.mktemp("quickstart")
    environment = {k: v for k, v in os.environ.items() if k not in NOT_OF_A_NEWCOMER}
    prefix = prefix_without_network()
    if prefix is None:
        environment = guarded(folder, environment)
    script = str(ROOT / "workflows" / "quickstart.sh")
    command = [*(prefix or []), "bash", script, str(folder / "runs")]
    first = watched(command, environment, folder / "first.log")
    return first, watched(command, environment, folder / "second.log")


def trained(output: str) -> dict[str, Measured]:
    """Held-out losses that training ended with, by name of the student."""
    line = r"^.*/([\w-]+): (.+?); held-out loss (\S+) nats a slot"
    found = re.findall(line, output, re.MULTILINE)
    return {name: Measured(steps, float(loss)) for name, steps, loss in found}


def evaluated(output: str) -> list[float]:
    """Held-out losses of the tables that evaluating printed, in their order."""
    return [float(loss) for loss in re.findall(r"│ all +│ +[\d,]+ │ +(\S+) │", output)]


@pytest.mark.full
@pytest.mark.timeout(1800)
class TestQuickstart:
    """Both runs take minutes, so they are shared."""

    def test_it_ends_well_and_shows_the_cache(self, runs):
        first, _ = runs
        assert first.code == 0, first.output[-3000:]
        assert re.search(r"is complete: \d+ shards computed", first.output)
        for piece in ("Set text", "Mean prediction weights", "examples by split"):
            assert piece in first.output, "of ckd-cache inspect"
        for piece in ("Example 0 of set text", "Slot 0, token", "most probable tokens"):
            assert piece in first.output, "of ckd-cache show"
        assert "This shows the machinery, not evidence" in first.output
        assert "Traceback" not in first.output
        assert "Warning" not in first.output

    def test_student_and_twin_are_measured_after_equally_many_steps(self, runs):
        first, _ = runs
        measured = trained(first.output)
        assert set(measured) == {"student", "hard-twin"}
        student, twin = measured["student"], measured["hard-twin"]
        assert student.steps == twin.steps
        assert re.fullmatch(r"[\d,]+ steps", student.steps)
        assert all(math.isfinite(one.loss) and one.loss > 0 for one in measured.values())
        assert evaluated(first.output) == pytest.approx([student.loss, twin.loss], abs=2e-3)

    def test_two_gigabytes_are_enough(self, runs):
        for run in runs:
            assert 100 * 2**20 < run.most_memory <= MOST_MEMORY

    def test_a_second_run_computes_nothing_again(self, runs):
        first, second = runs
        assert second.code == 0, second.output[-3000:]
        assert "nothing was due" in second.output
        assert "computed" not in second.output
        assert not re.search(r"^(training:|step \d+:)", second.output, re.MULTILINE)
        again = trained(second.output)
        assert {name: one.steps for name, one in again.items()} == dict.fromkeys(
            ("student", "hard-twin"), "it was finished before"
        )
        assert [one.loss for one in again.values()] == [
            one.loss for one in trained(first.output).values()
        ]
        assert evaluated(second.output) == evaluated(first.output)
        assert second.seconds < first.seconds / 2


CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5).close()
except OSError as error:
    sys.exit(f"refused: {error}")
"""


def connecting(host: str, port: int, prefix: list[str], environment: Mapping[str, str]) -> str:
    command = [*prefix, sys.executable, "-c", CONNECT, host, str(port)]
    return subprocess.run(command, env=environment, capture_output=True, text=True).stderr


def test_the_guard_refuses_other_machines_and_allows_this_one(tmp_path):
    import socket

    environment = guarded(tmp_path, os.environ)
    # Of a network that exists in documentation only: nothing is reached even if the guard fails.
    for host in ("192.0.2.1", "2001:db8::1", "example.invalid"):
        assert "there is no network in this test" in connecting(host, 9, [], environment)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert connecting("127.0.0.1", server.getsockname()[1], [], environment) == ""


def test_a_namespace_reaches_nothing():
    prefix = prefix_without_network()
    if prefix is None:
        pytest.skip("this system does not allow network namespaces")
    assert "unreachable" in connecting("192.0.2.1", 9, prefix, os.environ)


def test_the_watch_sees_the_memory_of_children_and_the_exit_code(tmp_path):
    inner = "import time; held = bytearray(300 << 20); time.sleep(1); raise SystemExit(3)"
    outer = f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {inner!r}]))"
    run = watched([sys.executable, "-c", outer], os.environ, tmp_path / "log")
    assert run.code == 3
    assert 300 << 20 < run.most_memory < 600 << 20
