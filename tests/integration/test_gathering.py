"""What is gathered is what the teacher says; it is stored, resumed, grown, dropped and repaired."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from tests.integration import builds
from tests.integration.test_build import interrupt
from transformers import AutoModelForMaskedLM

from ckd_cache.build.dropping import DropRequest, drop_from_cache
from ckd_cache.build.recipe import read_recipe
from ckd_cache.build.repair import repair_cache
from ckd_cache.cli.main import cli
from ckd_cache.errors import RecipeError
from ckd_cache.format.gathers import gather_for
from ckd_cache.format.identities import gather_name
from ckd_cache.format.inventory import inventory_of
from ckd_cache.format.reader import open_cache
from ckd_cache.format.verify import verify_cache
from ckd_cache.inspection.summary import summarise
from ckd_cache.teachers.capture import capture
from ckd_cache.types import GatherArrays, array_names

PAIR, ALL = ("a", "b"), ("a", "b", "c")


def changed(folder: Path, **sections: Any) -> Path:
    """The recipe of a folder with other sections."""
    path = folder / "recipe.yaml"
    content = {**yaml.safe_load(path.read_text()), **sections}
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def shop(tmp_path_factory, tiny_texts, tiny_teacher_folder):
    """Three teachers; the recipe names the group of all, and a target needs that of two."""
    folder = tmp_path_factory.mktemp("gathering")
    builds.write_corpus(folder / "corpus.txt", tiny_texts[::40])
    builds.recipe(
        folder,
        {name: tiny_teacher_folder(seed) for seed, name in enumerate(ALL, 1)},
        objective={"views": 2, "mask_fraction": 0.2, "seed": 3},
        capture={"top_k": 6, "top_p": 0.02, "temperatures": [1.0, 2.0]},
        shards={"slots": 120, "chunk_slots": 60},
        gather=[list(ALL)],
        targets=[
            {"name": "union", "weighting": "uniform", "teachers": list(PAIR), "missing": "exact"}
        ],
    )
    return folder


@pytest.fixture(scope="module")
def gathered(shop):
    builds.build(shop / "recipe.yaml", shop / "whole.ckd")
    return shop / "whole.ckd"


@pytest.fixture
def copy(gathered, tmp_path):
    cache = tmp_path / "copy.ckd"
    shutil.copytree(gathered, cache)
    return cache


def live_logprobs(reader, model: Path, start: int, stop: int) -> np.ndarray:
    """(B, M, V) of the model alone, in float64."""
    examples = reader.examples.read(start, stop)
    net = AutoModelForMaskedLM.from_pretrained(model).eval()
    names = ("input_ids", "attention_mask", "token_type_ids")
    with torch.inference_mode():
        logits = net(**{name: torch.from_numpy(examples[name]) for name in names}).logits
    logprobs = torch.log_softmax(logits[..., : reader.layout.support_size].double(), -1).numpy()
    return np.take_along_axis(logprobs, examples.slot_positions[..., None], axis=1)


def test_every_member_of_a_group_is_gathered(gathered):
    reader = open_cache(gathered).sets["text"]
    names = {gather_name(one, group) for group in (PAIR, ALL) for one in group}
    assert set(reader.gathers) == names
    assert all(len(one.record.parts) == 2 for one in reader.gathers.values())
    assert reader.record.gathers[gather_name("a", PAIR)].width == 6
    assert reader.record.gathers[gather_name("a", ALL)].width == 12
    assert open_cache(gathered).manifest.complete


@pytest.mark.parametrize("group", [PAIR, ALL])
def test_it_is_what_the_teacher_says_of_the_ids_that_others_keep(gathered, shop, group):
    reader = open_cache(gathered).sets["text"]
    models = {
        t["name"]: Path(t["model"])
        for t in yaml.safe_load((shop / "recipe.yaml").read_text())["teachers"]
    }
    start, stop = 3, reader.n_examples - 2
    live = live_logprobs(reader, models["a"], start, stop)
    found = reader.gathers[gather_name("a", group)].read(start, stop)
    kept = {name: reader.teachers[name].read(start, stop) for name in group}
    seen = 0
    for at in np.argwhere(reader.examples.read(start, stop).slot_mask):
        example, slot = at
        ids = {
            name: set(one.ids[example, slot, : one.n_valid[example, slot]].tolist())
            for name, one in kept.items()
        }
        union = sorted(set.union(*ids.values()) - ids["a"])
        beyond = [-1] * (found.ids.shape[2] - len(union))
        assert found.ids[example, slot].tolist() == [*union, *beyond]
        assert found.n_valid[example, slot] == len(union)
        stored = found.logprobs[example, slot, : len(union)]
        np.testing.assert_allclose(
            stored, live[example, slot, union], atol=reader.teachers["a"].record.step / 2 + 1e-4
        )
        seen += len(union)
    assert seen > 200
    assert not found.n_valid[~reader.examples.read(start, stop).slot_mask].any()


def test_arrays_that_were_read_before_are_taken(gathered):
    gather = open_cache(gathered).sets["text"].gathers[gather_name("b", PAIR)]
    kept = {name: teacher.read(0, 9) for name, teacher in gather.members.items()}
    plain, given = gather.read(0, 9), gather.read(0, 9, kept)
    for name in array_names(GatherArrays):
        np.testing.assert_array_equal(plain[name], given[name])
    assert gather.read(4, 4).ids.shape == (0, *plain.ids.shape[1:])


def test_the_smallest_group_that_holds_all_is_found(gathered):
    reader = open_cache(gathered).sets["text"]
    assert gather_for(reader, "a", ["b", "a"]).record.group == list(PAIR)
    assert gather_for(reader, "a", ["c"]).record.group == list(ALL)
    assert gather_for(reader, "a", ["a", "d"]) is None


def test_a_sound_cache_has_no_findings(gathered):
    assert verify_cache(gathered).findings == ()


def test_building_again_computes_nothing(shop, copy):
    before = builds.stored_bytes(copy)
    assert builds.build(shop / "recipe.yaml", copy).shards == 0
    assert builds.stored_bytes(copy) == before


@pytest.mark.full
def test_exact_and_quantised_captures_agree(shop, gathered, tmp_path):
    exact = tmp_path / "exact.ckd"
    builds.build(shop / "recipe.yaml", exact, "capture.max_nats=0")
    one, two = (open_cache(path).sets["text"] for path in (gathered, exact))
    name = gather_name("c", ALL)
    assert two.gathers[name].step == 0
    a, b = (text.gathers[name].read(0, 20) for text in (one, two))
    np.testing.assert_array_equal(a.ids, b.ids)
    there = a.ids >= 0
    assert np.abs(a.logprobs[there] - b.logprobs[there]).max() <= one.gathers[name].step / 2 + 1e-5
    assert verify_cache(exact).findings == ()


def test_interrupted_and_resumed_gives_the_same_bytes(shop, gathered, tmp_path, monkeypatch):
    cache = tmp_path / "stopped.ckd"
    parts = inventory_of(open_cache(gathered).manifest)
    before = [part for part in parts if part.artefact not in {"gather", "target"}]
    builds.stopped(shop, cache, monkeypatch, sum(len(part.required) for part in before) + 3)
    (journal,) = (cache / "journal").iterdir()
    assert "gathers" in journal.name
    builds.build(shop / "recipe.yaml", cache)
    assert builds.stored_bytes(cache) == builds.stored_bytes(gathered)


@pytest.mark.full
@pytest.mark.timeout(600)
def test_killed_while_it_gathers_gives_the_same_bytes(shop, gathered, tmp_path):
    """A cache of everything but what is gathered, so that every kill hits the stage."""
    cache = tmp_path / "killed.ckd"
    shutil.copytree(gathered, cache)
    names = tuple(open_cache(cache).sets["text"].gathers)
    drop_from_cache(cache, DropRequest(gathers=names))
    alive = [interrupt(cache, shop / "recipe.yaml", wait) for wait in (0.0, 0.02, 0.05, 0.1)]
    assert any(alive)
    builds.build(shop / "recipe.yaml", cache)
    fresh, found = builds.stored_bytes(gathered), builds.stored_bytes(cache)
    kept = [
        path
        for path in fresh
        if path.startswith("text/") and gather_name("a", PAIR)[2:] not in path
    ]
    assert all(found[path] == fresh[path] for path in kept)
    assert not (cache / "journal").exists()


def test_new_parts_are_gathered_too(shop, gathered, tmp_path):
    folder = tmp_path / "grown"
    shutil.copytree(shop, folder, ignore=shutil.ignore_patterns("*.ckd"))
    cache = tmp_path / "grown.ckd"
    shutil.copytree(gathered, cache)
    changed(
        folder, objective={"views": 3, "mask_fraction": 0.2, "seed": 3}, gather=None, targets=[]
    )
    before = builds.stored_bytes(cache)
    builds.build(folder / "recipe.yaml", cache)
    after = builds.stored_bytes(cache)
    assert all(after[path] == data for path, data in before.items() if path.startswith("text/"))
    reader = open_cache(cache).sets["text"]
    assert all(len(one.record.parts) == 3 for one in reader.gathers.values())
    assert verify_cache(cache).findings == ()


def test_a_teacher_that_is_not_in_the_recipe_leaves_its_gathers_behind(shop, gathered, tmp_path):
    folder = tmp_path / "less"
    shutil.copytree(shop, folder, ignore=shutil.ignore_patterns("*.ckd"))
    cache = tmp_path / "less.ckd"
    shutil.copytree(gathered, cache)
    content = yaml.safe_load((folder / "recipe.yaml").read_text())
    changed(
        folder,
        objective={"views": 3, "mask_fraction": 0.2, "seed": 3},
        teachers=content["teachers"][:2],
        gather=None,
        targets=[],
    )
    notes = builds.Notes()
    builds.build(folder / "recipe.yaml", cache, progress=notes)
    reader = open_cache(cache).sets["text"]
    assert len(reader.gathers[gather_name("a", PAIR)].record.parts) == 3
    assert len(reader.gathers[gather_name("a", ALL)].record.parts) == 2
    assert gather_for(reader, "a", ["c"]) is None, "it lacks a part"
    assert any(
        gather_name("a", ALL) in line and "lacks the new parts" in line for line in notes.lines
    )


def test_a_teacher_takes_what_was_gathered_for_its_groups_along(copy):
    dropped = drop_from_cache(copy, DropRequest(teachers=("c",)))
    gone = sorted(one.name for one in dropped if one.kind == "gather")
    assert gone == sorted(gather_name(one, ALL) for one in ALL)
    reader = open_cache(copy)
    assert set(reader.sets["text"].gathers) == {gather_name(one, PAIR) for one in PAIR}
    assert reader.manifest.recipe["gather"] == []
    assert sorted(path.name for path in (copy / "text" / "gathers").iterdir()) == sorted(
        reader.sets["text"].gathers
    )
    assert verify_cache(copy).findings == ()


def test_what_was_gathered_can_be_dropped_alone(shop, copy, gathered):
    name = gather_name("b", ALL)
    (dropped,) = drop_from_cache(copy, DropRequest(gathers=(name,)))
    assert (dropped.kind, dropped.parts) == ("gather", 2)
    assert dropped.bytes > 0
    assert name not in open_cache(copy).sets["text"].gathers
    builds.build(shop / "recipe.yaml", copy)
    assert builds.stored_bytes(copy).keys() >= {
        path for path in builds.stored_bytes(gathered) if name in path
    }


def test_an_unfinished_gather_goes_with_its_teacher(shop, copy, monkeypatch):
    names = tuple(open_cache(copy).sets["text"].gathers)
    drop_from_cache(copy, DropRequest(gathers=names))
    builds.stopped(shop, copy, monkeypatch, 2)
    assert any("gathers" in path.name for path in (copy / "journal").iterdir())
    (gone,) = (
        one for one in drop_from_cache(copy, DropRequest(teachers=("c",))) if one.kind == "gather"
    )
    assert (gone.parts, gone.unfinished) == (0, 1)
    assert not (copy / "text" / "gathers").exists()


def one_shard(cache: Path, name: str) -> Path:
    return cache / "text" / "gathers" / name / "v0-0000" / "logprobs" / "c" / "1" / "0" / "0"


@pytest.mark.parametrize("document", [False, True])
def test_damage_is_found_and_repaired_to_the_same_bytes(shop, copy, gathered, document):
    name = gather_name("a", ALL)
    path = one_shard(copy, name)
    if document:
        path = path.parents[3] / "zarr.json"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    findings = verify_cache(copy).findings
    assert [(one.artefact, one.path) for one in findings] == [
        ("gather", path.relative_to(copy).as_posix())
    ]
    recipe = read_recipe(shop / "recipe.yaml"), shop
    repair = repair_cache(copy, findings, None if document else recipe)
    assert (repair.restored, repair.left) == (1, ())
    assert builds.stored_bytes(copy) == builds.stored_bytes(gathered)


def test_a_damaged_teacher_is_one_finding(copy):
    path = copy / "text" / "teachers" / "b" / "v0-0000" / "ids" / "c" / "0" / "0" / "0"
    path.unlink()
    assert [one.artefact for one in verify_cache(copy).findings] == ["teacher"]


@pytest.mark.parametrize(
    ("groups", "said"),
    [([["a"]], "two or more"), ([["a", "a"]], "each once"), ([["a", "z"]], "no teacher called z")],
)
def test_groups_that_cannot_be_gathered_are_refused(shop, tmp_path, groups, said):
    path = tmp_path / "recipe.yaml"
    content = {**yaml.safe_load((shop / "recipe.yaml").read_text()), "gather": groups}
    path.write_text(json.dumps(content))
    with pytest.raises(RecipeError, match=said):
        read_recipe(path)


def test_inspect_says_what_was_gathered(gathered):
    name = gather_name("a", PAIR)
    one = summarise(gathered)["gathers"][name]
    assert (one["teacher"], one["group"], one["width"]) == ("a", list(PAIR), 6)
    text = open_cache(gathered).sets["text"]
    found = text.gathers[name].read(0, text.n_examples)
    assert one["mean_gathered"] == pytest.approx(found.n_valid.sum() / text.n_slots)
    assert one["mean_mass"] == pytest.approx(np.exp(found.logprobs).sum() / text.n_slots, rel=1e-5)
    folder = gathered / "text" / "gathers" / name
    assert one["bytes"] == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    shown = CliRunner().invoke(cli, ["inspect", str(gathered)])
    assert shown.exit_code == 0
    assert f"{name}: of a in the group a, b" in shown.output


def test_other_kept_ids_are_refused_while_a_gather_depends_on_them(shop, copy, monkeypatch):
    """As another machine may break a tie otherwise."""
    path = copy / "text" / "teachers" / "a" / "v0-0000" / "logprobs" / "c" / "0" / "0" / "0"
    path.unlink()
    findings = verify_cache(copy).findings

    def otherwise(*arguments, **keywords):
        arrays = capture(*arguments, **keywords)
        return replace(arrays, ids=(arrays.ids + 1) % 300)

    monkeypatch.setattr("ckd_cache.build.teacher_stage.capture", otherwise)
    repair = repair_cache(copy, findings, (read_recipe(shop / "recipe.yaml"), shop))
    assert (repair.restored, repair.replaced) == (0, 0)
    assert "keeps other ids" in repair.left[0]
    assert f"--gather {gather_name('a', PAIR)}" in repair.left[0]
