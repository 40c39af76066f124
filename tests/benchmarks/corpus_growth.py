"""Does a corpus ten times as large build in ten times the time with the same memory?

Builds two caches with a teacher of the quickstart, each in a process of its own, from text made out
of the standard library's docstrings, and prints time, peak resident memory and their ratios.

    python -m tests.benchmarks.corpus_growth [--documents 4500] [--factor 10]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import yaml

from ckd_cache.corpus.source import DocstringsSource, ReadReport, read_documents

FOLDER = Path(__file__).parents[2] / "workflows" / "quickstart" / "teachers"
TEACHERS = {"prose": FOLDER / "prose"}


def write_corpus(path: Path, documents: int) -> None:
    """Write distinct documents as JSON Lines: docstrings, with a number where they repeat."""
    source = DocstringsSource(name="docstrings", genre="technical")
    texts = [document.text for document in read_documents(source, ReadReport())]
    with path.open("w", encoding="utf-8") as file:
        for number in range(documents):
            text = f"{texts[number % len(texts)]}\nPart {number // len(texts)}."
            file.write(json.dumps({"text": text}) + "\n")


def write_recipe(
    folder: Path, documents: int, teachers: Mapping[str, Path], mask_fraction: float = 0.15
) -> Path:
    """Write a corpus of ``documents`` documents and a recipe that builds a cache of it."""
    folder.mkdir()
    write_corpus(folder / "corpus.jsonl", documents)
    recipe = {
        "corpus": {
            "sources": [{"kind": "jsonl", "paths": ["corpus.jsonl"]}],
            "segment_tokens": 128,
        },
        "objective": {"kind": "masked_lm", "mask_fraction": mask_fraction},
        "teachers": [{"name": n, "model": str(path)} for n, path in teachers.items()],
        "shards": {"slots": 8192, "chunk_slots": 2048},
        "runtime": {"device": "cpu", "batch_tokens": 16384},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def measure(recipe: Path) -> dict[str, float]:
    """Build a cache in a process of its own: seconds, seconds of CPU, peak MiB, slots."""
    cache = recipe.parent / "growth.ckd"
    start = "from ckd_cache.cli.main import main; main()"
    command = [sys.executable, "-c", start, "build", str(recipe), "--cache", str(cache)]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    seconds = time.perf_counter() - began
    if status:
        message = f"the build ended with status {status}: {' '.join(command)}"
        raise SystemExit(message)
    manifest = json.loads((cache / "ckd.json").read_bytes())
    slots = sum(part["slots"] for part in manifest["sets"]["text"]["parts"])
    return {
        "slots": slots,
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mib": usage.ru_maxrss / 1024,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=4500)
    parser.add_argument("--factor", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        sizes = {"1": options.documents, str(options.factor): options.documents * options.factor}
        rows = {
            label: measure(write_recipe(Path(name) / label, documents, TEACHERS))
            for label, documents in sizes.items()
        }
    small, large = rows.values()
    rows["ratio"] = {name: large[name] / small[name] for name in small}
    lines = [f"{'corpus':>8}" + "".join(f"{name:>13}" for name in small)]
    for label, row in rows.items():
        digits = 2 if label == "ratio" else 0
        lines.append(f"{label:>8}" + "".join(f"{n:>13,.{digits}f}" for n in row.values()))
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
