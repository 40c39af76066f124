"""The life of a cache: grown, killed, merged, dropped from, damaged, verified, repaired, reopened.

The model knows which views, sources, teachers and targets there should be, and the bytes of every
file that was ever committed. Whatever happens, committed files keep their bytes, the cache has
what the model has, and verify names exactly what was damaged.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ckd_cache.build.dropping import DropRequest, drop_from_cache
from ckd_cache.build.merging import merge_cache
from ckd_cache.build.recipe import read_recipe
from ckd_cache.build.repair import repair_cache
from ckd_cache.build.run import build_cache
from ckd_cache.build.target_request import TargetRequest
from ckd_cache.errors import DamagedCacheError
from ckd_cache.format.reader import open_cache
from ckd_cache.format.verify import verify_cache
from ckd_cache.format.workspace import CacheWriter

TEACHERS = ("a", "b", "c")
MOST_VIEWS, MOST_SOURCES = 3, 3
DOCUMENTS = 7


class Killed(BaseException):
    """The machine went away: nothing is tidied up."""


class Kill:
    """Makes the writer of a cache die at one of its durable steps, as SIGKILL would."""

    def __init__(self, step: int | None) -> None:
        self.left = step
        self.dead = False

    def __enter__(self) -> Self:
        self.begin, self.clear = CacheWriter.__init__, CacheWriter._clear_staging
        kill = self

        def begin(writer: CacheWriter, path: Path, checkpoint: Any) -> None:
            kill.begin(writer, path, kill.checkpoint)

        def clear(writer: CacheWriter) -> None:
            if not kill.dead:
                kill.clear(writer)

        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(CacheWriter, "__init__", begin)
        self.patch.setattr(CacheWriter, "_clear_staging", clear)
        return self

    def __exit__(self, *_: object) -> None:
        self.patch.undo()

    def checkpoint(self, _: str) -> None:
        if self.left is None:
            return
        self.left -= 1
        if self.left < 0:
            self.dead = True
            raise Killed


class Life(RuleBasedStateMachine):
    """One cache and what is known of it."""

    folder: Path
    teachers_at: dict[str, Path]
    number = 0

    @initialize()
    def begin(self) -> None:
        Life.number += 1
        self.cache = self.folder / f"life-{Life.number}.ckd"
        self.views, self.sources = 1, 1
        self.teachers = {"a"}
        self.targets: set[str] = set()
        self.due = True
        self.damaged: dict[str, bytes] = {}
        self.committed: dict[str, str] = {}

    def recipe(self) -> Path:
        content = {
            "corpus": {
                "sources": [
                    {"name": f"s{n}", "kind": "text", "paths": [f"s{n}.txt"]}
                    for n in range(self.sources)
                ],
                "segment_tokens": 24,
            },
            "objective": {
                "kind": "masked_lm",
                "mask_fraction": 0.2,
                "views": self.views,
                "seed": 1,
            },
            "teachers": [
                {"name": name, "model": str(self.teachers_at[name])}
                for name in sorted(self.teachers)
            ],
            "splits": {"fit": 0.0, "test": 0.2},
            "capture": {"top_k": 4, "temperatures": [1.0]},
            "shards": {"slots": 60, "chunk_slots": 20},
            "targets": [
                {"name": f"of-{name}", "teachers": [name], "weighting": "uniform"}
                for name in sorted(self.targets)
            ],
            "runtime": {"device": "cpu", "batch_tokens": 512, "threads": 1},
        }
        path = self.folder / f"recipe-{Life.number}.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path

    def build(self, killed_at: int | None) -> None:
        path = self.recipe()
        with Kill(killed_at):
            try:
                build_cache(read_recipe(path), path.parent, self.cache)
            except Killed:
                self.due = True
            else:
                self.due = False

    whole = precondition(lambda self: not self.damaged)
    there = precondition(lambda self: (self.cache / "ckd.json").exists())
    finished = precondition(lambda self: not self.due)
    kills = st.none() | st.integers(0, 120)

    @whole
    @precondition(lambda self: self.views < MOST_VIEWS)
    @rule(killed_at=kills)
    def add_a_view(self, killed_at: int | None) -> None:
        self.views += 1
        self.build(killed_at)

    # An increment that is under way is finished with the sources that it was begun with.
    @whole
    @finished
    @precondition(lambda self: self.sources < MOST_SOURCES)
    @rule(killed_at=kills)
    def add_documents(self, killed_at: int | None) -> None:
        self.sources += 1
        self.build(killed_at)

    @whole
    @rule(name=st.sampled_from(TEACHERS), killed_at=kills)
    def add_a_teacher(self, name: str, killed_at: int | None) -> None:
        self.teachers.add(name)
        self.build(killed_at)

    @whole
    @rule(killed_at=kills)
    def add_a_target(self, killed_at: int | None) -> None:
        self.targets.add(min(self.teachers))
        self.build(killed_at)

    @whole
    @rule()
    def build_again(self) -> None:
        self.build(None)

    @whole
    @finished
    @rule(killed_at=kills)
    def merge(self, killed_at: int | None) -> None:
        request = TargetRequest(name="merged", weighting="gold", tau=0.5)
        if "merged" in open_cache(self.cache).set("text").targets:
            return
        with Kill(killed_at):
            try:
                merge_cache(self.cache, "text", request)
            except Killed:
                self.due = True

    @whole
    @finished
    @precondition(lambda self: len(self.teachers) > 1)
    @rule(killed_at=kills)
    def drop_a_teacher(self, killed_at: int | None) -> None:
        name = max(self.teachers)
        with Kill(killed_at):
            try:
                drop_from_cache(self.cache, DropRequest(teachers=(name,)))
            except Killed:
                self.due = True
        self.teachers.discard(name)
        self.committed = {
            path: sha for path, sha in self.committed.items() if f"/teachers/{name}/" not in path
        }

    @whole
    @there
    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        reader = open_cache(self.cache)
        rows = [row for row in reader.files.rows if row.bytes > 0]
        row = data.draw(st.sampled_from(rows))
        original = (self.cache / row.path).read_bytes()
        how = data.draw(st.sampled_from(["gone", "cut", "flipped"]))
        (self.cache / row.path).unlink()
        if how == "cut":
            (self.cache / row.path).write_bytes(original[: len(original) // 2])
        if how == "flipped":
            flipped = bytearray(original)
            flipped[data.draw(st.integers(0, len(original) - 1))] ^= 1 << data.draw(
                st.integers(0, 7)
            )
            (self.cache / row.path).write_bytes(bytes(flipped))
        self.damaged[row.path] = original

    @precondition(lambda self: self.damaged)
    @rule(killed_at=st.none() | st.integers(0, 12))
    def verify_and_repair(self, killed_at: int | None) -> None:
        findings = verify_cache(self.cache, workers=1).findings
        assert {one.path for one in findings} == set(self.damaged)
        path = self.recipe()
        with Kill(killed_at), contextlib.suppress(Killed):
            repair_cache(self.cache, findings, (read_recipe(path), path.parent))
        rest = verify_cache(self.cache, workers=1).findings
        assert {one.path for one in rest} <= set(self.damaged)
        self.damaged = {one.path: self.damaged[one.path] for one in rest}
        if not rest:
            return
        findings = rest
        done = repair_cache(self.cache, findings, (read_recipe(path), path.parent))
        assert (done.restored, done.replaced, done.left) == (len(self.damaged), 0, ())
        for relative, original in self.damaged.items():
            assert (self.cache / relative).read_bytes() == original
        self.damaged = {}

    @precondition(lambda self: self.damaged)
    @rule()
    def a_build_on_missing_files_is_refused(self) -> None:
        sizes = [(self.cache / path, len(data)) for path, data in self.damaged.items()]
        if all(path.exists() and path.stat().st_size == size for path, size in sizes):
            return
        path = self.recipe()
        with pytest.raises(DamagedCacheError):
            build_cache(read_recipe(path), path.parent, self.cache)

    @invariant()
    def committed_files_keep_their_bytes(self) -> None:
        if not getattr(self, "cache", None) or not (self.cache / "ckd.json").exists():
            return
        rows = {row.path: row.sha256 for row in open_cache(self.cache).files.rows}
        for path, sha in self.committed.items():
            assert rows[path] == sha
            if path not in self.damaged:
                data = (self.cache / path).read_bytes()
                assert hashlib.sha256(data).hexdigest() == sha, path
        self.committed = rows

    @invariant()
    def what_is_finished_is_what_was_asked_for(self) -> None:
        if not getattr(self, "cache", None) or self.due or self.damaged:
            return
        reader = open_cache(self.cache)
        assert reader.manifest.complete
        text = reader.set("text")
        parts = [
            f"v{view}-{n:04d}" for n in range(len(text.record.increments)) for view in range(9)
        ]
        expected = {name for name in parts if int(name[1]) < self.views}
        assert {part.name for part in text.record.parts} == expected
        held = [name for one in text.record.increments for name in one.identity["source_order"]]
        assert held == [f"s{n}" for n in range(self.sources)]
        assert set(text.teachers) == self.teachers
        assert {f"of-{name}" for name in self.targets} <= set(text.targets)
        examples = text.examples.read(0, text.n_examples)
        found = [one.read(0, text.n_examples).n_valid for one in text.teachers.values()]
        found += [one.read(0, text.n_examples).n_valid for one in text.targets.values()]
        for n_valid in found:
            np.testing.assert_array_equal(n_valid > 0, examples.slot_mask)

    def teardown(self) -> None:
        if not getattr(self, "cache", None):
            return
        if not self.damaged:
            self.build(None)
            self.committed_files_keep_their_bytes()
            self.what_is_finished_is_what_was_asked_for()
            assert verify_cache(self.cache, workers=1).findings == ()


@pytest.fixture(scope="module")
def world(tmp_path_factory, tiny_texts, tiny_teacher_folder):
    """A folder with sources, and three teachers."""
    folder = tmp_path_factory.mktemp("lives")
    for n in range(MOST_SOURCES):
        texts = [" ".join(t.split()) for t in tiny_texts[n * DOCUMENTS : (n + 1) * DOCUMENTS + 1]]
        (folder / f"s{n}.txt").write_text("\n\n".join(texts), encoding="utf-8")
    teachers = {
        name: tiny_teacher_folder(seed, num_hidden_layers=1) for seed, name in enumerate(TEACHERS)
    }
    return folder, teachers


def run(world, examples: int, steps: int) -> None:
    Life.folder, Life.teachers_at = world
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_few_lives(world):
    run(world, examples=4, steps=6)


@pytest.mark.full
@pytest.mark.timeout(900)
def test_many_lives(world):
    run(world, examples=16, steps=12)
