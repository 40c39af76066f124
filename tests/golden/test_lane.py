"""The golden caches are read with Python 3.13 and the newest Zarr, where there is one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "workflows" / "golden.sh"


@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_newer_python_and_zarr_read_them():
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(["bash", SCRIPT], capture_output=True, text=True, env=kept, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    if "skipped" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert "python 3.13" in done.stdout
    assert " passed" in done.stdout


def test_without_that_python_it_says_so(tmp_path):
    """In a copy of the script, which has no environment yet; what is called so does not run."""
    script = tmp_path / "workflows" / "golden.sh"
    script.parent.mkdir()
    script.write_bytes(SCRIPT.read_bytes())
    other = tmp_path / "python3.13"
    other.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    other.chmod(0o755)
    done = subprocess.run(
        ["bash", script],
        capture_output=True,
        text=True,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 0
    assert len(done.stderr.splitlines()) == 1
    assert "skipped, no Python 3.13" in done.stderr
