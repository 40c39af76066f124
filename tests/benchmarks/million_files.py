"""How long does it take to open a cache of a million files, and how much memory?

Gives a golden cache a million further rows in its files table, of files that are not there, and
opens it in a process of its own: manifest and files table, one file and the files of one part
looked up, one chunk read. Prints seconds and peak memory of that process, start and imports
included.

    python -m tests.benchmarks.million_files [--files 1000000]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Nothing heavy here: the peak memory of a process counts what it was forked from.
if TYPE_CHECKING:
    from ckd_cache.format.files import FileRow

GOLDEN = Path(__file__).parents[1] / "golden" / "v1" / "compact"
ARRAYS = ("entropy", "gold_logprob", "gold_rank", "ids", "logprobs", "logsumexp", "n_valid", "tail")
SHARDS = 1_250
"""Shards of an array: 10,000 files a part, 100 parts of a million files."""


def part_of(number: int) -> str:
    """Folder of a part of the files that are not there."""
    return f"text/teachers/teacher-{number // 10}/v{number % 10}-0000"


def rows(files: int) -> Iterator[FileRow]:
    """Rows of files that a cache with a hundred times as many slots would have."""
    from ckd_cache.fingerprint import hash_bytes
    from ckd_cache.format.files import FileRow

    for number in range(files):
        array, rest = ARRAYS[number % len(ARRAYS)], number // len(ARRAYS)
        part, shard = part_of(rest // SHARDS), rest % SHARDS
        path = f"{part}/{array}/c/{shard}/0/0"
        yield FileRow(path, part, shard, 1_000_000 + number, hash_bytes(path.encode()))


def make(path: Path, files: int) -> None:
    """Make the cache."""
    from ckd_cache.format.workspace import CacheWriter

    shutil.copytree(GOLDEN, path)
    with CacheWriter.begin(path) as writer:
        assert writer.manifest is not None
        writer.commit(writer.manifest, extra=rows(files))


def open_it(path: Path) -> dict[str, float]:
    """Open the cache in this process and look into it: seconds by step."""
    from ckd_cache.format.reader import open_cache

    steps = {"start": time.process_time()}
    reader = open_cache(path)
    files = reader.files
    steps["manifest and table"] = time.process_time()
    row = files.get(f"{part_of(42)}/ids/c/77/0/0")
    steps["one file"] = time.process_time()
    part = files.of_part(part_of(42))
    steps["one part"] = time.process_time()
    chunk = reader.set("text").teachers["a"].read(0, 2)
    steps["one chunk"] = time.process_time()
    if row is None or row.shard != 77 or len(part) != SHARDS * len(ARRAYS) or len(chunk) != 2:
        message = f"{path}: found {row}, {len(part)} files of the part, {len(chunk)} examples"
        raise SystemExit(message)
    times = list(steps.values())
    seconds = [after - before for before, after in zip([0.0, *times], times, strict=False)]
    return {"rows": len(files), **dict(zip(steps, seconds, strict=True))}


def measure(path: Path) -> dict[str, float]:
    """Open the cache in a process of its own: CPU seconds by step and in all, peak MiB."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--open", path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    found = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    if status:
        message = f"opening {path} ended with status {status}"
        raise SystemExit(message)
    steps: dict[str, float] = json.loads(found)
    unit = 1 if sys.platform == "darwin" else 1024
    total = usage.ru_utime + usage.ru_stime
    return {**steps, "in all": total, "peak MiB": usage.ru_maxrss * unit / 2**20}


def main() -> None:
    """Print what opening takes; with ``--json`` for the test."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make is not None:
        make(options.make, options.files)
    elif options.open is not None:
        sys.stdout.write(json.dumps(open_it(options.open)))
    else:
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "million"
            files = ["--files", str(options.files)]
            subprocess.run([sys.executable, __file__, "--make", path, *files], check=True)
            # What other processes do to the machine can only add.
            best = min((measure(path) for _ in range(3)), key=lambda found: found["in all"])
        shown = [f"{name:>20} {value:>12,.3f}" for name, value in best.items()]
        sys.stdout.write((json.dumps(best) if options.json else "\n".join(shown)) + "\n")


if __name__ == "__main__":
    main()
