"""The command line in a process of its own, with what it used."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Usage:
    """What a process used."""

    seconds: float
    cpu_seconds: float
    peak_mib: float


def run_measured(*arguments: str) -> Usage:
    """Run ``ckd-cache`` with some arguments."""
    start = "from ckd_cache.cli.main import main; main()"
    command = [sys.executable, "-c", start, *arguments]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    seconds = time.perf_counter() - began
    if status:
        message = f"the process ended with status {status}: {' '.join(command)}"
        raise SystemExit(message)
    return Usage(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
