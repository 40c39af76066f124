"""Damaged shards are computed again, and nothing else."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest
import yaml
from tests.integration import builds

from ckd_cache.build.recipe import read_recipe
from ckd_cache.build.repair import repair_cache
from ckd_cache.fingerprint import hash_file
from ckd_cache.format.files import FileRow
from ckd_cache.format.reader import open_cache
from ckd_cache.format.verify import verify_cache
from ckd_cache.format.workspace import CacheWriter
from ckd_cache.teachers.capture import capture

RECOMPUTED = {
    "segments": "text/segments/0000/00001.arrow",
    "documents": "text/segments/0000/documents-00000.arrow",
    "slots": "text/slots/v1-0000/00002.arrow",
    "teacher": "text/teachers/a/v0-0000/logprobs/c/1/0/0",
    "order of a teacher": "text/teachers/b/v1-0000/order/c/0",
    "document of a teacher": "text/teachers/a/v0-0000/tail/zarr.json",
    "target": "text/targets/gold/v1-0000/weights/c/0/0/0",
    "order of a target": "text/targets/warm/v0-0000/order/c/0",
    "group of a target": "text/targets/gold/v0-0000/zarr.json",
}
ALONE = {"slots", "document of a teacher", "target", "order of a target", "group of a target"}
"""What can be made from the cache itself."""


@pytest.fixture
def damaged(built: Path, tmp_path: Path):
    copy = tmp_path / "damaged.ckd"
    shutil.copytree(built, copy)
    return copy


def recipe_of(workshop: Path, *overrides: str):
    return read_recipe(workshop / "recipe.yaml", overrides), workshop


def spoil(cache: Path, paths) -> None:
    """Take a file away, cut the next one, flip a bit in the third, and so on."""
    for number, path in enumerate(paths):
        data = (cache / path).read_bytes()
        (cache / path).unlink()
        if number % 3 == 1:
            (cache / path).write_bytes(data[: len(data) // 2])
        elif number % 3 == 2:
            flipped = bytearray(data)
            flipped[len(data) // 2] ^= 4
            (cache / path).write_bytes(flipped)


def test_everything_at_once_comes_back_with_its_bytes(workshop, built, damaged):
    support = next(iter(open_cache(built).manifest.supports))
    paths = [*RECOMPUTED.values(), f"supports/{support}/tokenizer.json"]
    spoil(damaged, paths)
    findings = verify_cache(damaged).findings
    assert {one.path for one in findings} == set(paths)
    done = repair_cache(damaged, findings, recipe_of(workshop))
    assert (done.restored, done.replaced, done.left) == (len(paths), 0, ())
    assert verify_cache(damaged).findings == ()
    assert builds.stored_bytes(damaged) == builds.stored_bytes(built)


@pytest.mark.parametrize("what", RECOMPUTED)
def test_without_a_recipe_only_what_the_cache_can_make(built, damaged, what):
    spoil(damaged, [RECOMPUTED[what]])
    done = repair_cache(damaged, verify_cache(damaged).findings, None)
    if what in ALONE:
        assert (done.restored, done.left) == (1, ())
        assert builds.stored_bytes(damaged) == builds.stored_bytes(built)
    else:
        assert done.restored == 0
        assert "with --recipe" in done.left[0]
        assert RECOMPUTED[what] in done.left[0]


def test_only_the_damaged_shard_is_computed(workshop, damaged, monkeypatch):
    from ckd_cache.build import teacher_stage

    seen = []
    original = capture

    def watching(teacher, examples, *rest):
        seen.append((teacher.name, len(examples)))
        return original(teacher, examples, *rest)

    monkeypatch.setattr(teacher_stage, "capture", watching)
    spoil(damaged, [RECOMPUTED["teacher"]])
    repair_cache(damaged, verify_cache(damaged).findings, recipe_of(workshop))
    layout = open_cache(damaged).set("text").layout
    assert seen == [("a", layout.shard_examples)]


def test_numbers_that_come_out_differently_take_the_figures_along(workshop, built, damaged):
    """A shard whose recorded bytes are wrong: the right ones are other bytes than the table's."""
    wrong = "text/teachers/a/v0-0000/gold_rank/c/1/0"
    shutil.copy(damaged / "text/teachers/b/v0-0000/gold_rank/c/1/0", damaged / wrong)
    record(damaged, wrong)
    findings = verify_cache(damaged).findings
    assert wrong.rpartition("/gold_rank")[0] in {one.part for one in findings}
    before = open_cache(damaged).manifest.generation
    done = repair_cache(damaged, findings, recipe_of(workshop))
    assert done.replaced == 1
    assert verify_cache(damaged).findings == ()
    assert open_cache(damaged).manifest.generation > before
    assert (damaged / wrong).read_bytes() == (built / wrong).read_bytes()


def record(cache: Path, relative: str) -> None:
    """Make the files table say that a file is as it should be."""
    with CacheWriter.begin(cache) as writer:
        assert writer.manifest is not None
        row = open_cache(cache).files.get(relative)
        assert row is not None
        size, sha256 = (cache / relative).stat().st_size, hash_file(cache / relative)
        writer.commit(writer.manifest, extra=[FileRow(relative, row.part, row.shard, size, sha256)])


def test_another_recipe_is_refused(workshop, damaged):
    spoil(damaged, [RECOMPUTED["teacher"]])
    findings = verify_cache(damaged).findings
    for override, said in (
        ("capture.max_nats=0.001", "max_nats: in the cache 0.0001, now 0.001"),
        ("teachers.0.name=z", "names no teacher a"),
        ("teachers.0.model=gone", "gone"),
    ):
        done = repair_cache(damaged, findings, recipe_of(workshop, override))
        assert done.restored == 0
        assert said in done.left[0]


def test_only_what_the_damage_needs_has_to_be_there(workshop, built, damaged, tmp_path):
    """Sources, the other teacher and the tokenizer's folder may be gone."""
    recipe, _ = recipe_of(workshop, "teachers.1.model=gone", "corpus.tokenizer=gone")
    spoil(damaged, [RECOMPUTED["teacher"]])
    done = repair_cache(damaged, verify_cache(damaged).findings, (recipe, tmp_path))
    assert (done.restored, done.left) == (1, ())
    assert builds.stored_bytes(damaged) == builds.stored_bytes(built)


def test_a_recipe_of_other_sets_is_said(workshop, damaged, tmp_path):
    spoil(damaged, [RECOMPUTED["segments"]])
    content = yaml.safe_load((workshop / "recipe.yaml").read_text())
    sets = {
        "sets": {"other": {"corpus": content.pop("corpus"), "objective": content.pop("objective")}}
    }
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({**content, **sets}))
    recipe = read_recipe(tmp_path / "other.yaml"), workshop
    done = repair_cache(damaged, verify_cache(damaged).findings, recipe)
    assert "the recipe has no set text" in done.left[0]


def test_what_stands_in_the_way_of_one_file_does_not_stop_the_others(workshop, built, damaged):
    paths = [RECOMPUTED["teacher"], RECOMPUTED["slots"]]
    spoil(damaged, paths)
    (damaged / RECOMPUTED["target"]).unlink()
    (damaged / RECOMPUTED["target"]).mkdir()
    done = repair_cache(damaged, verify_cache(damaged).findings, recipe_of(workshop))
    assert done.restored == 2
    assert len(done.left) == 1
    assert "stands in its place" in done.left[0]
    (damaged / RECOMPUTED["target"]).rmdir()
    assert repair_cache(damaged, verify_cache(damaged).findings, None).restored == 1
    assert builds.stored_bytes(damaged) == builds.stored_bytes(built)


class KilledError(Exception):
    """Stands for a crash at a chosen step."""


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(step, marks=[] if step in {9, 18} else pytest.mark.full)
        for step in range(0, 40, 3)
    ],
)
def test_an_interrupted_repair_can_be_done_again(workshop, damaged, monkeypatch, step):
    """Also where the numbers come out differently, and the figures have to follow."""
    for shard in (0, 1):
        wrong = f"text/teachers/a/v0-0000/gold_rank/c/{shard}/0"
        shutil.copy(damaged / wrong.replace("/a/", "/b/"), damaged / wrong)
        record(damaged, wrong)
    findings = verify_cache(damaged).findings
    left = iter(range(step))
    init = CacheWriter.__init__

    def dying(self, path, checkpoint):
        def count(_):
            if next(left, None) is None:
                raise KilledError

        init(self, path, count)

    with monkeypatch.context() as patch:
        patch.setattr(CacheWriter, "__init__", dying)
        with contextlib.suppress(KilledError):
            repair_cache(damaged, findings, recipe_of(workshop))
    rest = verify_cache(damaged).findings
    if rest:
        assert repair_cache(damaged, rest, recipe_of(workshop)).left == ()
    assert verify_cache(damaged).findings == ()


def test_the_command(workshop, built, damaged):
    spoil(damaged, [RECOMPUTED["slots"], RECOMPUTED["teacher"]])
    alone = builds.run("verify", damaged, "--repair")
    assert alone.returncode == 3
    assert "repaired 1 file" in alone.stderr
    assert "not repaired: text/teachers/a/v0-0000/logprobs" in alone.stderr
    whole = builds.run("verify", damaged, "--repair", "--recipe", workshop / "recipe.yaml")
    assert whole.returncode == 0, whole.stderr
    assert "all is as it was written" in whole.stdout
    assert builds.stored_bytes(damaged) == builds.stored_bytes(built)
    wrong = builds.run("verify", damaged, "--recipe", workshop / "recipe.yaml")
    assert wrong.returncode == 2
