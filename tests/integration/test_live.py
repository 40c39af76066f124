"""Weights at load time: live targets are the stored ones, for students and on the command line."""

from __future__ import annotations

import json
import shutil
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from tests.integration import builds, twin_workshop
from tests.integration.test_student import STUDENT
from torch.utils.data import DataLoader

import ckd_cache
from ckd_cache.build.merging import merge_cache
from ckd_cache.build.target_request import TargetRequest
from ckd_cache.cli.main import cli as cache_cli
from ckd_cache.errors import IncompleteCacheError, MergeError, MismatchError
from ckd_cache.format.reader import open_cache
from ckd_cache.merge.names import WEIGHTING_NAMES
from ckd_cache.merge.weightings import WEIGHTINGS
from ckd_student.cli import cli as student_cli
from ckd_student.request import TrainRequest
from ckd_student.stream import open_stream
from ckd_student.targets import target_identity
from ckd_student.torch_data import Collator, OrderSampler, StreamDataset
from ckd_student.train import train

ARRAYS = ("ids", "logprobs", "n_valid", "tail")
VARIANTS: dict[str, Any] = {
    "shuffled": {"weighting": "random", "shuffle": "slots", "seed": 5},
    "warm-spread": {"weighting": "gold", "temperature": 2.0, "missing": "spread", "top_k": 5},
    "calibrated": {"weighting": "gate", "calibrate": "target"},
    "prior": {"weighting": "segment_loo", "prior": "fitted", "tau": 0.3},
    "alone": {"weighting": "uniform", "teachers": ("b",)},
    "union": {"weighting": "gold", "missing": "exact"},
    "geometric": {"weighting": "entropy", "missing": "exact", "mixture": "geometric"},
}


def requests() -> list[TargetRequest]:
    """Every rule, and what rules can be told besides."""
    plain = [
        TargetRequest(
            name=f"own-{name}",
            weighting=name,
            weights={"a": 0.75, "b": 0.25} if name == "fixed" else {},
        )
        for name in WEIGHTING_NAMES
    ]
    return plain + [TargetRequest(name=name, **given) for name, given in VARIANTS.items()]


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_texts, tiny_teacher_folder):
    """A folder with a corpus, two teachers, recipes, an exact cache and a compact one."""
    folder = tmp_path_factory.mktemp("live")
    builds.write_corpus(folder / "corpus.txt", tiny_texts[:50])
    teachers = {"a": tiny_teacher_folder(1), "b": tiny_teacher_folder(2)}
    capture = {"top_k": 8, "temperatures": [1.0, 2.0], "max_nats": 0.0}
    builds.recipe(
        folder,
        teachers,
        capture=capture,
        objective={"kind": "masked_lm", "mask_fraction": 0.2, "views": 1, "seed": 3},
        shards={"slots": 600, "chunk_slots": 120},
        splits={"fit": 0.2, "test": 0.1},
        gather=[["a", "b"]],
        targets=[{"name": "gold"}, {"name": "calm", "weighting": "entropy", "stored": False}],
    )
    given: Any = STUDENT
    student = {**given, "training": {**given["training"], "max_steps": 6}}
    (folder / "student.yaml").write_text(yaml.safe_dump(student))
    builds.rebuild(folder, folder / "exact.ckd")
    builds.rebuild(folder, folder / "compact.ckd", "capture.max_nats=1e-4")
    return folder


@pytest.fixture
def cache(place, tmp_path):
    """A copy of the exact cache, to be changed."""
    return shutil.copytree(place / "exact.ckd", tmp_path / "own.ckd")


def rows(cache, target):
    """All examples by their number, with their target."""
    source = open_stream(cache, target=target, window=2).source
    return {n: source.example(n) for n in range(open_cache(cache).sets["text"].n_examples)}


def assert_live_is_stored(cache, target):
    stored, live = rows(cache, target), rows(cache, f"live:{target}")
    assert stored.keys() == live.keys()
    for number, row in stored.items():
        used = row["slot_mask"]
        for name in ARRAYS:
            one, other = row[f"target_{name}"], live[number][f"target_{name}"]
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(other[used], one[used], err_msg=f"{target} {name}")


@pytest.mark.full
def test_live_is_stored_bit_for_bit_in_an_exact_cache(cache):
    """Every rule, those that learn among them; `random` shuffles the slots of whole chunks."""
    for request in requests():
        merge_cache(cache, "text", request)
        assert_live_is_stored(cache, request.name)
    assert {request.weighting for request in requests()} == set(WEIGHTINGS)


def test_what_was_gathered_is_part_of_a_students_identity(cache):
    merge_cache(cache, "text", TargetRequest(name="union", weighting="gold", missing="exact"))
    opened = open_cache(cache)
    record = opened.sets["text"].record
    made_of = target_identity(opened, "text", "live:union")["target_parts"]
    assert set(made_of["teachers"]) == {"a", "b"}
    assert set(made_of["gathers"]) == set(record.gathers)
    assert "gathers" not in target_identity(opened, "text", "live:gold")["target_parts"]
    for name in record.gathers:
        call(cache_cli, "drop", cache, "--gather", name)
    with pytest.raises(MergeError, match="no gathered logprobs"):
        open_stream(cache, target="live:union")


@pytest.mark.full
def test_teachers_with_another_tokenizer_are_heard_live(tmp_path, tiny_texts):
    (tmp_path / "bpe").mkdir()
    teachers = {
        "bert": twin_workshop.save_bert(tmp_path / "bert", 1),
        "roberta": twin_workshop.save_roberta(tmp_path / "bpe" / "roberta", 2, tiny_texts),
    }
    builds.write_corpus(tmp_path / "corpus.txt", tiny_texts[:60])
    capture = {"top_k": 8, "max_nats": 0.0}
    splits = {"fit": 0.3, "test": 0.1}
    path = twin_workshop.recipe(tmp_path, "bert", teachers, capture=capture, splits=splits)
    builds.build(path, tmp_path / "twins.ckd")
    for name in ("segment_loo", "fitted", "entropy", "gate"):
        merge_cache(tmp_path / "twins.ckd", "text", TargetRequest(name=name, weighting=name))
        assert_live_is_stored(tmp_path / "twins.ckd", name)
    made_of = target_identity(open_cache(tmp_path / "twins.ckd"), "text", "live:fitted")
    assert set(made_of["target_parts"]["teachers"]) == set(teachers)


def test_live_is_within_the_rounding_of_what_a_compact_cache_stores(place, tmp_path):
    cache = shutil.copytree(place / "compact.ckd", tmp_path / "own.ckd")
    merge_cache(cache, "text", TargetRequest(name="warm", weighting="ca_mkd", temperature=2.0))
    for target in ("gold", "warm"):
        step = open_cache(cache).sets["text"].record.targets[target].step
        assert step > 0.0
        stored, live = rows(cache, target), rows(cache, f"live:{target}")
        rounded = 0
        for number, row in stored.items():
            used, other = row["slot_mask"], live[number]
            for name in ("ids", "n_valid"):
                np.testing.assert_array_equal(
                    other[f"target_{name}"][used], row[f"target_{name}"][used]
                )
            there = used[:, None] & (np.arange(8) < row["target_n_valid"][:, None])
            tails = [each["target_tail"].astype(float) for each in (row, other)]
            assert (np.abs(tails[0] - tails[1])[used] <= 2.0**-11 * np.abs(tails[1])[used]).all()
            heads = [np.log1p(-np.exp(tail)) for tail in tails]
            allowed = step + np.abs(heads[0] - heads[1])[:, None] + 1e-6
            apart = np.abs(row["target_logprobs"] - other["target_logprobs"])
            assert (apart <= allowed)[there].all()
            rounded += int((apart > 1e-6)[there].sum())
        assert rounded > 0


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_read_what_one_process_reads(place):
    def batches(**loader):
        stream = open_stream(place / "exact.ckd", target="live:calm", window=2)
        sampler, collate = OrderSampler(stream), Collator(pad_id=0)
        loader |= {"batch_size": 8, "sampler": sampler, "collate_fn": collate}
        for epoch in range(2):
            sampler.set_epoch(epoch)
            yield from DataLoader(StreamDataset(stream), **loader)
            assert len(stream.source._kept) <= 2

    together = batches(num_workers=2, multiprocessing_context="fork")
    for one, other in zip(batches(), together, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name].numpy(), other[name].numpy())


def student(place, cache, target, output, *overrides, **options):
    request = TrainRequest(place / "student.yaml", cache, target, output, overrides, **options)
    return train(request)


def losses(output):
    state = json.loads((output / "checkpoint-6" / "trainer_state.json").read_text())
    return [one["loss"] for one in state["log_history"] if "loss" in one]


def test_a_student_of_a_live_target_is_that_of_the_stored_one(place, tmp_path):
    """The same losses at every step and the same weights; resumed, too. Yet it is not the same."""
    cache, steps = place / "exact.ckd", ("training.logging_steps=1", "training.save_steps=3")
    made = {}
    for target in ("gold", "live:gold"):
        output = tmp_path / target.replace(":", "-")
        made[target] = student(place, cache, target, output, *steps)
    weights = [(made[one].output / "model.safetensors").read_bytes() for one in made]
    assert weights[0] == weights[1]
    assert losses(made["gold"].output) == losses(made["live:gold"].output)
    assert len(losses(made["gold"].output)) == 6
    assert made["gold"].held_out == made["live:gold"].held_out
    with pytest.raises(MismatchError, match=r"target: then 'gold', now 'live:gold'"):
        student(place, cache, "live:gold", made["gold"].output, *steps, resume=True)
    output = made["live:gold"].output
    shutil.rmtree(output / "checkpoint-6")
    record = json.loads((output / "ckd_student.json").read_text())
    (output / "ckd_student.json").write_text(json.dumps({**record, "finished": False}))
    assert student(place, cache, "live:gold", output, *steps, resume=True).trained_now
    assert (output / "model.safetensors").read_bytes() == weights[0]


def call(cli, *arguments, code=0):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.output


def test_a_rule_is_recorded_used_and_dropped_on_the_command_line(place, cache, tmp_path):
    merged = ("merge", cache, "--name", "gate", "--weighting", "gate", "--live")
    assert "gate" in call(cache_cli, *merged)
    record = open_cache(cache).sets["text"].record.targets["gate"]
    assert (record.stored, record.parts, bool(record.fit)) == (False, {}, True)
    assert not (cache / "text/targets/gate").exists()
    call(cache_cli, "verify", cache)
    assert "live:gate" in call(cache_cli, "inspect", cache)
    summary = json.loads(call(cache_cli, "inspect", cache, "--json"))
    assert summary["targets"]["gate"]["stored"] is False
    call(cache_cli, "show", cache, "--example", "1")
    assert "only recorded" in str(call(cache_cli, "show", cache, "--target", "gate", code=1))

    common = ("--cache", cache, "-o", tmp_path / "s", "--set", "training.max_steps=2")
    begin = ("train", place / "student.yaml", "--target")
    refused = call(student_cli, *begin, "gate", *common, code=1)
    assert "--target live:gate" in refused
    call(student_cli, *begin, "live:gate", *common)
    options = ("--cache", cache, "--split", "fit", "--json", "--target")
    live = json.loads(call(student_cli, "evaluate", tmp_path / "s", *options, "live:gate"))
    request = TargetRequest(name="same", weighting="gate")
    merge_cache(cache, "text", request)
    assert live == json.loads(call(student_cli, "evaluate", tmp_path / "s", *options, "same"))

    dry = call(cache_cli, "drop", cache, "--teacher", "b", "--dry-run")
    assert "targets gold, same of set text keep all that was made of teacher b" in dry
    assert "gate of set text, only recorded, cannot be merged without teacher b" in dry
    call(cache_cli, "drop", cache, "--target", "gate")
    assert "gate" not in open_cache(cache).sets["text"].record.targets
    call(cache_cli, "verify", cache)


def test_a_recipe_can_ask_for_a_rule_that_is_not_stored(place, cache):
    """It is never filled, never makes a cache incomplete, and grows with its teachers."""
    assert open_cache(cache).manifest.complete
    assert builds.rebuild(place, cache).shards == 0
    grown = builds.rebuild(place, cache, "objective.views=2")
    assert grown.complete
    target = open_cache(cache).sets["text"].record.targets["calm"]
    assert (target.stored, target.parts) == (False, {})
    assert len(rows(cache, "live:calm")) == len(rows(cache, "gold"))
    with pytest.raises(MismatchError, match="stored"):
        builds.rebuild(place, cache, "objective.views=2", "targets.1.stored=true")
    opened = ckd_cache.open(cache)
    assert "calm" in repr(opened)
    with pytest.raises(IncompleteCacheError, match="only recorded"):
        opened.targets["calm"].read(0, 1)
    with pytest.raises(IncompleteCacheError, match="only recorded"):
        opened.targets["calm"].dask()


def test_growing_without_a_teacher_leaves_a_recorded_rule_alone(place, cache):
    """It lacks no parts, so that the cache is complete; whoever uses it is told what it lacks."""
    recipe = yaml.safe_load((place / "recipe.yaml").read_text())
    alone = {"teachers": recipe["teachers"][:1], "targets": recipe["targets"][1:]}
    path = place / "only-a.yaml"
    path.write_text(yaml.safe_dump({**recipe, **alone, "gather": []}))
    said = builds.Notes()
    assert builds.build(path, cache, "objective.views=2", progress=said).complete
    assert not [line for line in said.lines if "calm" in line]
    assert any(line.startswith("target gold of set text lacks the new") for line in said.lines)
    with pytest.raises(IncompleteCacheError, match=r"but teacher b lacks v1-0000\. Build them"):
        open_stream(cache, target="live:calm")


def test_teachers_that_are_gone_or_others_are_named(place, cache, tiny_teacher_folder):
    merge_cache(cache, "text", TargetRequest(name="learned", weighting="fitted", stored=False))
    call(cache_cli, "drop", cache, "--teacher", "b")
    with pytest.raises(IncompleteCacheError, match="teacher b is not in the cache"):
        open_stream(cache, target="live:calm")
    with pytest.raises(IncompleteCacheError, match=r"stored of it: --target gold\."):
        open_stream(cache, target="live:gold")
    only_a = "targets=[{name: gold, teachers: [a]}]"
    call(cache_cli, "drop", cache, "--target", "gold")
    other = f"teachers.1.model={tiny_teacher_folder(3)}"
    builds.rebuild(place, cache, only_a, other)
    assert len(rows(cache, "live:calm")) == len(rows(cache, "gold"))
    with pytest.raises(MergeError, match=r"'learned'.*learned from another teacher b"):
        open_stream(cache, target="live:learned")
