"""A cache of a million files opens in less than two seconds and a gibibyte."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.benchmarks import million_files


def test_a_million_files_are_opened_quickly():
    """CPU time of the whole process, its start and imports included, and all memory it held."""
    done = subprocess.run(
        [sys.executable, million_files.__file__, "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["rows"] > 1_000_000
    assert found["in all"] < 2.0
    assert found["peak MiB"] < 1024
