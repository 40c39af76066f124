"""What a build refuses because something changed, and what may change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from safetensors.numpy import load_file, save_file
from tests.integration import builds
from tests.integration.builds import Notes, rebuild, stopped

from ckd_cache.build import teacher_stage
from ckd_cache.build.recipe import read_recipe
from ckd_cache.build.run import build_cache
from ckd_cache.errors import (
    MismatchError,
    TeacherError,
)
from ckd_cache.format.journal import journal_keys
from ckd_cache.format.reader import open_cache
from ckd_cache.teachers.capture import capture


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


def recording(seen: list[int]):
    """``capture``, noting the batch sizes it is called with."""

    def record(teacher, examples, kept, batch_tokens, *rest):
        seen.append(batch_tokens)
        return capture(teacher, examples, kept, batch_tokens, *rest)

    return record


def test_runtime_fields_may_change(workshop, built):
    assert rebuild(workshop, built, "runtime.batch_tokens=64", "runtime.threads=2").shards == 0


def test_a_teacher_with_too_few_positions_is_refused_before_anything_is_written(
    workshop, tmp_path, tiny_teacher_folder
):
    short = tiny_teacher_folder(5, max_position_embeddings=16)
    (tmp_path / "corpus.txt").write_bytes((workshop / "corpus.txt").read_bytes())
    builds.recipe(tmp_path, {"short": short})
    with pytest.raises(TeacherError, match="16"):
        rebuild(tmp_path, tmp_path / "none.ckd")
    assert not (tmp_path / "none.ckd").exists()
