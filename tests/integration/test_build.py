"""A build from recipe to targets: what it stores, that it resumes, and what it refuses."""

from __future__ import annotations

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
from tests.integration import builds
from tests.integration.builds import StopError, rebuild, stop_after

import ckd_cache
from ckd_cache.build.merging import merge_cache
from ckd_cache.build.target_request import TargetRequest
from ckd_cache.errors import (
    CacheLockedError,
    MergeError,
    MismatchError,
    RecipeError,
)
from ckd_cache.format.reader import open_cache
from ckd_cache.format.workspace import CacheWriter


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
