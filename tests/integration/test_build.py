"""A build from recipe to targets: what it stores, that it resumes, and what it refuses."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file
from tests.integration import builds

import ckd_cache
from ckd_cache.build import teacher_stage
from ckd_cache.build.merging import merge_cache
from ckd_cache.build.recipe import read_recipe
from ckd_cache.build.run import build_cache
from ckd_cache.build.target_stage import TargetRequest
from ckd_cache.errors import (
    CacheLockedError,
    MergeError,
    MismatchError,
    RecipeError,
    TeacherError,
)
from ckd_cache.format.journal import journal_keys
from ckd_cache.format.reader import open_cache
from ckd_cache.format.workspace import CacheWriter
from ckd_cache.progress import SILENT
from ckd_cache.teachers.capture import capture


@pytest.fixture(scope="module")
def workshop(tmp_path_factory, tiny_texts, tiny_teacher_folder):
    """A folder with a corpus, two teachers and a recipe."""
    folder = tmp_path_factory.mktemp("workshop")
    builds.write_corpus(folder / "corpus.txt", tiny_texts)
    teachers = {"a": tiny_teacher_folder(1), "b": tiny_teacher_folder(2)}
    builds.recipe(folder, teachers)
    return folder


@pytest.fixture(scope="module")
def built(workshop):
    """The finished cache of the workshop, built without interruption in its own process."""
    cache = workshop / "whole.ckd"
    finished = builds.run("build", workshop / "recipe.yaml", "--cache", cache)
    assert finished.returncode == 0, finished.stderr
    return cache


def rebuild(workshop: Path, cache: Path, *overrides: str):
    path = workshop / "recipe.yaml"
    return build_cache(read_recipe(path, overrides), path.parent, cache)


def test_everything_asked_for_is_there(built):
    reader = open_cache(built)
    assert reader.manifest.complete
    text = reader.sets["text"]
    assert sorted(text.teachers) == ["a", "b"]
    assert sorted(text.targets) == ["gold", "warm"]
    assert len(text.record.parts) == 2
    assert len(text.shards()) > 8, "the tests below need several shards"
    assert not (built / "journal").exists()
    assert not (built / "staging").exists()


def test_two_views_show_the_same_segments_masked_differently(built):
    text = open_cache(built).sets["text"]
    half = text.n_examples // 2
    first, second = text.examples.read(0, half), text.examples.read(half, 2 * half)
    unmasked = []
    for view in (first, second):
        ids = view.input_ids.copy()
        rows, slots = np.nonzero(view.slot_mask)
        ids[rows, view.slot_positions[rows, slots]] = view.gold_ids[rows, slots]
        unmasked.append(ids)
    np.testing.assert_array_equal(unmasked[0], unmasked[1])
    assert (first.input_ids != second.input_ids).mean() > 0.1
    np.testing.assert_array_equal(
        text.examples.splits(0, half), text.examples.splits(half, 2 * half)
    )


def test_building_again_computes_nothing_and_changes_nothing(workshop, built):
    before = builds.stored_bytes(built)
    outcome = rebuild(workshop, built)
    assert outcome.shards == 0
    assert "nothing was due" in outcome.sentence(built)
    assert builds.stored_bytes(built) == before


def test_in_another_process_and_place_the_bytes_are_the_same(workshop, built, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(workshop, copy, ignore=shutil.ignore_patterns("*.ckd"))
    rebuild(copy, tmp_path / "again.ckd")
    assert builds.stored_bytes(tmp_path / "again.ckd") == builds.stored_bytes(built)


def test_batch_size_moves_numbers_by_rounding_only(workshop, built, tmp_path):
    rebuild(workshop, tmp_path / "other.ckd", "runtime.batch_tokens=96")
    one, two = ckd_cache.open(built), ckd_cache.open(tmp_path / "other.ckd")
    a, b = (cache.teachers["a"].read(0, 40) for cache in (one, two))
    np.testing.assert_allclose(a.gold_logprob, b.gold_logprob, atol=2e-3)
    np.testing.assert_allclose(a.entropy, b.entropy, atol=2e-2)


def interrupt(cache: Path, recipe: Path, wait: float) -> bool:
    """Start a build and kill it ``wait`` seconds after it began to write; whether it was alive."""
    process = subprocess.Popen(
        builds.command("build", recipe, "--cache", cache),
        env=builds.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not (cache / "staging").exists():
        time.sleep(0.005)
    time.sleep(wait)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return alive


def survives_kills(workshop: Path, built: Path, cache: Path, kills: int, seed: int) -> None:
    generator = random.Random(seed)
    for _ in range(kills):
        assert interrupt(cache, workshop / "recipe.yaml", generator.uniform(0.0, 0.3)), (
            "the build was over before it could be killed: the corpus is too small for this test"
        )
    finished = builds.run("build", workshop / "recipe.yaml", "--cache", cache)
    assert finished.returncode == 0, finished.stderr
    assert builds.stored_bytes(cache) == builds.stored_bytes(built)
    assert not (cache / "journal").exists()
    assert not (cache / "staging").exists()


def test_killed_and_resumed_gives_the_same_bytes(workshop, built, tmp_path):
    survives_kills(workshop, built, tmp_path / "killed.ckd", kills=2, seed=0)


@pytest.mark.full
@pytest.mark.timeout(900)
def test_killed_twenty_times_gives_the_same_bytes(tmp_path, tiny_texts, tiny_teacher_folder):
    """With two sets and many shards, so that every kill finds the build at work."""
    builds.write_corpus(tmp_path / "corpus.txt", tiny_texts, repeats=3)
    teachers = {"a": tiny_teacher_folder(1), "b": tiny_teacher_folder(2)}
    source = {"name": "docs", "kind": "text", "paths": ["corpus.txt"]}
    sets = {
        "text": {
            "corpus": {"sources": [source], "segment_tokens": 32},
            "objective": {"views": 2, "seed": 3},
        },
        "short": {
            "corpus": {"sources": [source], "segment_tokens": 16, "pack": False},
            "objective": {"mask_fraction": [0.0, 0.5], "whole_word": True},
        },
    }
    builds.recipe(tmp_path, teachers, sets=sets, corpus=None, objective=None)
    built = tmp_path / "whole.ckd"
    finished = builds.run("build", tmp_path / "recipe.yaml", "--cache", built)
    assert finished.returncode == 0, finished.stderr
    survives_kills(tmp_path, built, tmp_path / "killed.ckd", kills=20, seed=1)


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


def test_finished_shards_are_not_computed_again(workshop, built, tmp_path, monkeypatch):
    cache = tmp_path / "stopped.ckd"
    total = sum(
        1 for path in builds.stored_bytes(built) if path.endswith((".arrow", "ids/c/0/0/0"))
    )
    assert total > 10
    with monkeypatch.context() as patch:
        patch.setattr(CacheWriter, "publish", stop_after(20))
        with pytest.raises(StopError):
            rebuild(workshop, cache)
    whole = rebuild(workshop, tmp_path / "fresh.ckd")
    resumed = rebuild(workshop, cache)
    assert resumed.shards == whole.shards - 20
    assert builds.stored_bytes(cache) == builds.stored_bytes(built)


def test_a_second_builder_is_refused(workshop, built):
    with CacheWriter.begin(built), pytest.raises(CacheLockedError, match=str(built)):
        rebuild(workshop, built)


def altered(workshop: Path, tmp_path: Path) -> Path:
    """A copy of the workshop with its own teachers, free to be changed."""
    copy = tmp_path / "altered"
    shutil.copytree(workshop, copy)
    content = yaml.safe_load((copy / "recipe.yaml").read_text())
    for teacher in content["teachers"]:
        shutil.copytree(teacher["model"], copy / teacher["name"])
        teacher["model"] = teacher["name"]
    (copy / "recipe.yaml").write_text(yaml.safe_dump(content))
    return copy


def test_changed_weights_are_refused_by_name(workshop, built, tmp_path):
    copy = altered(workshop, tmp_path)
    weights = load_file(copy / "b" / "model.safetensors")
    name = next(iter(weights))
    weights[name] = weights[name] + 1e-3
    save_file(weights, copy / "b" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MismatchError, match=r"teacher b(.|\n)*weights\.model\.safetensors"):
        rebuild(copy, copy / "whole.ckd")


def test_the_same_weights_elsewhere_are_accepted(workshop, built, tmp_path):
    copy = altered(workshop, tmp_path)
    assert rebuild(copy, copy / "whole.ckd").shards == 0


def test_a_changed_corpus_is_refused_by_source(workshop, built, tmp_path):
    copy = altered(workshop, tmp_path)
    with (copy / "corpus.txt").open("a") as file:
        file.write("\n\nOne more document.")
    with pytest.raises(MismatchError, match=r"sources\.docs\.contents"):
        rebuild(copy, copy / "whole.ckd")


def test_a_changed_tokenizer_is_refused(workshop, built, tmp_path):
    copy = altered(workshop, tmp_path)
    for name in ("a", "b"):
        path = copy / name / "tokenizer.json"
        content = json.loads(path.read_text())
        content["normalizer"]["lowercase"] = False
        path.write_text(json.dumps(content))
    with pytest.raises(MismatchError, match="tokenizer"):
        rebuild(copy, copy / "whole.ckd")


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("corpus.segment_tokens=48", "segment_tokens: in the cache 32, now 48"),
        ("splits.test=0.2", "splits.test: in the cache 0.1, now 0.2"),
        ("objective.seed=4", "seed: in the cache 3, now 4"),
        ("objective.corruption.keep=0.2", "corruption.keep"),
        ("capture.top_k=9", "top_k: in the cache 8, now 9"),
        ("capture.max_nats=0", "max_nats"),
        ("teachers.0.dtype=bfloat16", "dtype: in the cache 'float32', now 'bfloat16'"),
        ("targets.0.tau=2.0", "tau: in the cache 1.0, now 2.0"),
        ("shards.slots=100", "shards"),
    ],
)
def test_changed_identity_fields_are_refused_by_name(workshop, built, override, named):
    more = ["objective.corruption.mask=0.7"] if "keep" in override else []
    before = builds.stored_bytes(built)
    with pytest.raises(MismatchError) as caught:
        rebuild(workshop, built, override, *more)
    assert named in str(caught.value)
    assert "--cache" in str(caught.value)
    assert builds.stored_bytes(built) == before


def stopped(workshop: Path, cache: Path, monkeypatch, shards: int, *overrides: str) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(CacheWriter, "publish", stop_after(shards))
        with pytest.raises(StopError):
            rebuild(workshop, cache, *overrides)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("corpus.segment_tokens=48", "segment_tokens"),
        ("shards.slots=300", "shards.examples"),
        ("shards.chunk_slots=60", "shards.chunk_examples"),
        ("objective.mask_fraction=0.4", "shards.slots_per_example"),
    ],
)
def test_an_unfinished_build_refuses_another_recipe(
    workshop, built, tmp_path, monkeypatch, override, named
):
    cache = tmp_path / "unfinished.ckd"
    stopped(workshop, cache, monkeypatch, 2)
    with pytest.raises(MismatchError, match=named):
        rebuild(workshop, cache, override)
    rebuild(workshop, cache)
    assert builds.stored_bytes(cache) == builds.stored_bytes(built)


def test_a_stated_batch_size_holds_on_resuming_and_is_said(workshop, built, tmp_path, monkeypatch):
    cache = tmp_path / "smaller.ckd"
    shards = len(open_cache(built).sets["text"].shards()) // 2
    # Segments, support, two views of slots, and the first shards of teacher a.
    stopped(workshop, cache, monkeypatch, 3 * shards + 4)
    key = journal_keys(cache)[0]
    assert "/teachers/a/" in key, "the build must stop inside a teacher's part"
    seen: list[int] = []
    notes = Notes()
    with monkeypatch.context() as patch:
        patch.setattr(teacher_stage, "capture", recording(seen))
        path = workshop / "recipe.yaml"
        recipe = read_recipe(path, ["runtime.batch_tokens=96"])
        build_cache(recipe, path.parent, cache, notes)
    assert set(seen) == {96}
    assert any("batch_tokens 1024, goes on with 96" in line for line in notes.lines)


def test_a_refused_recipe_costs_nothing_and_changes_nothing(
    workshop, built, tmp_path, tiny_teacher_folder
):
    cache = tmp_path / "refused.ckd"
    shutil.copytree(built, cache)
    before = builds.stored_bytes(cache)
    content = yaml.safe_load((workshop / "recipe.yaml").read_text())
    content["objective"]["views"] = 3
    content["teachers"].append({"name": "c", "model": str(tiny_teacher_folder(3))})
    content["targets"][1]["tau"] = 0.5
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "corpus.txt").write_bytes((workshop / "corpus.txt").read_bytes())
    with pytest.raises(MismatchError, match="target warm"):
        rebuild(tmp_path, cache)
    assert builds.stored_bytes(cache) == before


class Notes:
    """Keeps the lines that a build says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def task(self, name: str, *, total: int | None, unit: str, already: int = 0):
        return SILENT.task(name, total=total, unit=unit, already=already)

    def note(self, text: str) -> None:
        self.lines.append(text)


def recording(seen: list[int]):
    """``capture``, noting the batch sizes it is called with."""

    def record(teacher, examples, kept, batch_tokens, *rest):
        seen.append(batch_tokens)
        return capture(teacher, examples, kept, batch_tokens, *rest)

    return record


def test_teachers_in_another_order_merge_the_same(workshop, built, tmp_path):
    content = yaml.safe_load((workshop / "recipe.yaml").read_text())
    content["teachers"].reverse()
    content["corpus"]["tokenizer"] = content["teachers"][1]["model"]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "corpus.txt").write_bytes((workshop / "corpus.txt").read_bytes())
    cache = tmp_path / "reversed.ckd"
    rebuild(tmp_path, cache)
    assert merge_cache(cache, "text", TargetRequest("gold", "gold", top_k=8)).shards == 0
    one, two = (ckd_cache.open(path).targets["gold"].read(0, 60) for path in (built, cache))
    np.testing.assert_array_equal(one.ids, two.ids)
    np.testing.assert_array_equal(one.weights, two.weights[..., ::-1])


def test_runtime_fields_may_change(workshop, built):
    assert rebuild(workshop, built, "runtime.batch_tokens=64", "runtime.threads=2").shards == 0


def test_adding_a_view_a_target_and_a_teacher_leaves_the_rest_alone(
    workshop, built, tmp_path, tiny_teacher_folder
):
    cache = tmp_path / "grown.ckd"
    shutil.copytree(built, cache)
    merge_cache(cache, "text", TargetRequest("merged", "gold", tau=0.25))
    before = builds.stored_bytes(cache)
    content = yaml.safe_load((workshop / "recipe.yaml").read_text())
    content["objective"]["views"] = 3
    content["teachers"].append({"name": "c", "model": str(tiny_teacher_folder(3))})
    content["targets"].append({"name": "three"})
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "corpus.txt").write_bytes((workshop / "corpus.txt").read_bytes())
    rebuild(tmp_path, cache)
    after = builds.stored_bytes(cache)
    kept = [path for path in before if path.startswith(("text/", "supports/"))]
    assert all(after[path] == before[path] for path in kept)
    text = open_cache(cache).sets["text"]
    assert len(text.record.parts) == 3
    assert text.targets["three"].teachers == ("a", "b", "c")
    assert text.targets["gold"].teachers == ("a", "b"), "a target keeps the teachers it has"
    for name in ("gold", "warm", "three", "merged"):
        assert len(text.targets[name].read(0, text.n_examples)) == text.n_examples
    assert open_cache(cache).manifest.complete


def test_merging_needs_no_teacher(workshop, built, tmp_path):
    cache = tmp_path / "merged.ckd"
    shutil.copytree(built, cache)
    arguments = ["merge", str(cache), "--name", "sharp", "--tau", "0.5"]
    script = f"""
import sys
from ckd_cache.cli.main import cli
cli({arguments!r}, standalone_mode=False)
sys.exit(bool({{"torch", "transformers"}} & set(sys.modules)))
"""
    moved = subprocess.run(
        [sys.executable, "-c", script],
        env=builds.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert moved.returncode == 0, moved.stderr
    target = ckd_cache.open(cache).targets["sharp"]
    gold = ckd_cache.open(cache).targets["gold"]
    sharp, plain = (np.nanmax(t.read(0, 50).weights, axis=-1) for t in (target, gold))
    assert np.nanmean(sharp) > np.nanmean(plain)


def test_merging_refuses_what_it_cannot_do(built):
    with pytest.raises(MergeError, match="no teacher zebra"):
        merge_cache(built, "text", TargetRequest("x", "gold", teachers=("zebra",)))
    with pytest.raises(MergeError, match=r"3\.0"):
        merge_cache(built, "text", TargetRequest("x", "gold", temperature=3.0))
    with pytest.raises(MismatchError, match="tau"):
        merge_cache(built, "text", TargetRequest("gold", "gold", tau=3.0))
    before = builds.stored_bytes(built)
    for name in ("sharp 0.5", "x=1", "../../evil", ""):
        with pytest.raises(RecipeError, match="cannot be called"):
            merge_cache(built, "text", TargetRequest(name, "gold"))
    assert builds.stored_bytes(built) == before
    with pytest.raises(MergeError, match="no set gloss"):
        merge_cache(built, "gloss", TargetRequest("x", "gold"))


def test_a_teacher_with_too_few_positions_is_refused_before_anything_is_written(
    workshop, tmp_path, tiny_teacher_folder
):
    short = tiny_teacher_folder(5, max_position_embeddings=16)
    (tmp_path / "corpus.txt").write_bytes((workshop / "corpus.txt").read_bytes())
    builds.recipe(tmp_path, {"short": short})
    with pytest.raises(TeacherError, match="16"):
        rebuild(tmp_path, tmp_path / "none.ckd")
    assert not (tmp_path / "none.ckd").exists()
