"""Small recipes, builds in processes of their own, and caches compared byte by byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ckd_cache.build.outcome import Outcome
from ckd_cache.build.recipe import read_recipe
from ckd_cache.build.run import build_cache
from ckd_cache.format.workspace import CacheWriter
from ckd_cache.progress import SILENT, Progress

ROOT = Path(__file__).resolve().parents[2]


def write_corpus(path: Path, texts: list[str], repeats: int = 1) -> None:
    """Documents divided by blank lines, made distinct where they repeat."""
    documents = [
        " ".join(text.split()) + (f" part {turn}" if turn else "")
        for turn in range(repeats)
        for text in texts
    ]
    path.write_text("\n\n".join(documents), encoding="utf-8")


def recipe(folder: Path, teachers: dict[str, Path], **changes: Any) -> Path:
    """Write a recipe over ``corpus.txt`` in ``folder``; keywords replace its sections."""
    content: dict[str, Any] = {
        "corpus": {
            "sources": [{"name": "docs", "kind": "text", "paths": ["corpus.txt"]}],
            "segment_tokens": 32,
        },
        "objective": {"kind": "masked_lm", "mask_fraction": 0.2, "views": 2, "seed": 3},
        "teachers": [{"name": n, "model": str(f)} for n, f in teachers.items()],
        "splits": {"fit": 0.05, "test": 0.1},
        "capture": {"top_k": 8, "temperatures": [1.0, 2.0]},
        "shards": {"slots": 600, "chunk_slots": 120},
        "targets": [
            {"name": "gold"},
            {"name": "warm", "weighting": "uniform", "temperature": 2.0},
        ],
        "runtime": {"device": "cpu", "batch_tokens": 1024, "threads": 1},
        **changes,
    }
    content = {name: section for name, section in content.items() if section is not None}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def command(*arguments: object) -> list[str]:
    """A command line of ``ckd-cache`` that does not depend on an installation."""
    start = "from ckd_cache.cli.main import main; main()"
    return [sys.executable, "-c", start, *(str(argument) for argument in arguments)]


def environment() -> dict[str, str]:
    """Environment of such a process."""
    roots = os.pathsep.join(str(ROOT / name) for name in ("pipeline", "student"))
    return {**os.environ, "PYTHONPATH": roots, "HF_HUB_OFFLINE": "1"}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run ``ckd-cache`` to its end."""
    return subprocess.run(
        command(*arguments), env=environment(), capture_output=True, text=True, check=False
    )


def finished(workshop: Path) -> Path:
    """The cache of a workshop's recipe, built without interruption in its own process."""
    cache = workshop / "whole.ckd"
    done = run("build", workshop / "recipe.yaml", "--cache", cache)
    assert done.returncode == 0, done.stderr
    return cache


def stored_bytes(cache: Path) -> dict[str, bytes]:
    """Everything in a cache that the promise of equal bytes covers."""
    files = {
        path.relative_to(cache).as_posix(): path.read_bytes()
        for path in sorted(cache.rglob("*"))
        if path.is_file() and path.relative_to(cache).parts[0] not in {"journal", "staging"}
    }
    manifest = json.loads(files.pop("ckd.json"))
    manifest.pop("digest")
    manifest.pop("provenance")
    return {**files, "manifest": json.dumps(manifest, sort_keys=True).encode()}


def rebuild(workshop: Path, cache: Path, *overrides: str) -> Outcome:
    """Build the workshop's recipe in this process."""
    return build(workshop / "recipe.yaml", cache, *overrides)


def build(path: Path, cache: Path, *overrides: str, progress: Progress = SILENT) -> Outcome:
    """Build a recipe in this process."""
    return build_cache(read_recipe(path, overrides), path.parent, cache, progress)


class Notes:
    """Keeps the lines that a build says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def task(self, name: str, *, total: int | None, unit: str, already: int = 0):
        return SILENT.task(name, total=total, unit=unit, already=already)

    def note(self, text: str) -> None:
        self.lines.append(text)


class StopError(Exception):
    """Stands for a crash at a chosen point."""


def stop_after(shards: int):
    """A stand-in for ``CacheWriter.publish`` that stops after some shards."""
    publish = CacheWriter.publish
    count = iter(range(shards))

    def counting(self, journal, files):
        if next(count, None) is None:
            raise StopError
        publish(self, journal, files)

    return counting


def stopped(workshop: Path, cache: Path, monkeypatch, shards: int, *overrides: str) -> None:
    """Build until some shards are published, then stop as a crash would."""
    with monkeypatch.context() as patch:
        patch.setattr(CacheWriter, "publish", stop_after(shards))
        with pytest.raises(StopError):
            rebuild(workshop, cache, *overrides)
