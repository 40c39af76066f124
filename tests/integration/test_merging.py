"""Targets of every rule, merged from a cache that was built: threads, order, growth, stops."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from tests.integration import builds

from ckd_cache.build.dropping import DropRequest, drop_from_cache
from ckd_cache.build.merging import merge_cache
from ckd_cache.build.target_request import TargetRequest
from ckd_cache.build.target_section import Target
from ckd_cache.errors import MergeError, MismatchError
from ckd_cache.format.reader import open_cache
from ckd_cache.format.verify import verify_cache
from ckd_cache.format.workspace import CacheWriter
from ckd_cache.merge.merge import merge_arrays
from ckd_cache.merge.names import WEIGHTING_NAMES
from ckd_cache.merge.reading import merge_range
from ckd_cache.merge.rule import TargetRule
from ckd_cache.merge.source import merge_source
from ckd_cache.merge.weightings import WEIGHTINGS
from ckd_cache.types import TargetArrays, array_names

SHARES = {"a": 0.75, "b": 0.25}
ALONE = [name for name, rule in WEIGHTINGS.items() if not rule.fitted]
LEARNING = [name for name, rule in WEIGHTINGS.items() if rule.fitted]


def request(weighting: str, name: str | None = None, **changes) -> TargetRequest:
    if weighting == "fixed":
        changes.setdefault("weights", SHARES)
    return TargetRequest(name=name or weighting, weighting=weighting, **changes)


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_texts, tiny_teacher_folder):
    """A folder with a small corpus, two teachers, a recipe, and the cache that it makes."""
    folder = tmp_path_factory.mktemp("merging")
    builds.write_corpus(folder / "corpus.txt", tiny_texts[:160])
    teachers = {"a": tiny_teacher_folder(1), "b": tiny_teacher_folder(2)}
    shards = {"slots": 3000, "chunk_slots": 300}
    builds.recipe(folder, teachers, shards=shards, splits={"fit": 0.2, "test": 0.1})
    builds.rebuild(folder, folder / "whole.ckd")
    return folder


@pytest.fixture
def cache(place, tmp_path):
    return shutil.copytree(place / "whole.ckd", tmp_path / "own.ckd")


def test_the_lists_of_rules_are_the_same_everywhere():
    assert set(WEIGHTING_NAMES) == set(WEIGHTINGS)
    assert set(Target.model_fields["weighting"].annotation.__args__) == set(WEIGHTINGS)


@pytest.mark.parametrize("weighting", ALONE)
def test_a_range_is_what_the_arrays_in_memory_give(place, weighting):
    """Chunk by chunk from the cache and all at once in memory are the same numbers."""
    source = merge_source(open_cache(place / "whole.ckd"), "text", ("a", "b"))
    shares = (0.75, 0.25) if weighting == "fixed" else ()
    rule = TargetRule(weighting, 1.0, 2.0, 6, ("a", "b"), weights=shares)
    start, stop = 3, source.reader.n_examples - 2
    found = merge_range(source, rule, start, stop, 1e-4)
    examples = source.reader.examples.read(start, stop)
    whole = merge_arrays(
        [source.reader.teachers[name].read(start, stop) for name in ("a", "b")],
        source.captures,
        examples.gold_ids,
        examples.slot_mask,
        rule,
        source.support_size,
        1e-4,
    )
    if weighting in {"segment_loo", "random"}:  # documents, and numbers of examples, play a part
        assert found.weights.shape == whole.weights.shape
        return
    for name in array_names(TargetArrays):
        np.testing.assert_array_equal(found[name], whole[name], err_msg=name)


@pytest.mark.parametrize("weighting", ["gate", "random", "segment_loo"])
def test_threads_change_no_byte(cache, tmp_path, weighting):
    other = shutil.copytree(cache, tmp_path / "other.ckd")
    merge_cache(cache, "text", request(weighting), threads=1)
    merge_cache(other, "text", request(weighting), threads=4)
    assert builds.stored_bytes(cache) == builds.stored_bytes(other)


@pytest.mark.full
def test_every_rule_makes_a_target_that_verifies_and_is_made_once(cache):
    for weighting in WEIGHTING_NAMES:
        asked = request(weighting, f"own-{weighting}")
        assert merge_cache(cache, "text", asked).shards > 0
        assert merge_cache(cache, "text", asked).shards == 0
        arrays = open_cache(cache).sets["text"].targets[asked.name].read(0, 5)
        used = arrays.n_valid > 0
        np.testing.assert_allclose(arrays.weights[used].sum(axis=-1), 1.0, atol=1e-6)
    assert not verify_cache(cache).findings


@pytest.mark.full
@pytest.mark.parametrize("weighting", LEARNING)
def test_what_a_rule_learned_is_recorded_and_used_for_what_comes_later(cache, place, weighting):
    merge_cache(cache, "text", request(weighting))
    before = open_cache(cache).manifest.sets["text"].targets[weighting]
    assert before.fit is not None
    assert before.fit["on"]["split"] == "fit"
    assert set(before.fit["on"]["teacher_parts"]) == {"a", "b"}
    builds.rebuild(place, cache, "objective.views=3")
    after = open_cache(cache).manifest.sets["text"].targets[weighting]
    assert after.fit == before.fit
    assert len(after.parts) == 3


def test_a_merge_that_was_stopped_goes_on_with_the_same_bytes(cache, tmp_path, monkeypatch):
    other = shutil.copytree(cache, tmp_path / "other.ckd")
    merge_cache(other, "text", request("gate", calibrate="weights"))
    with monkeypatch.context() as patch:
        patch.setattr(CacheWriter, "publish", builds.stop_after(2))
        with pytest.raises(builds.StopError):
            merge_cache(cache, "text", request("gate", calibrate="weights"))
    merge_cache(cache, "text", request("gate", calibrate="weights"))
    assert builds.stored_bytes(cache) == builds.stored_bytes(other)


def test_listing_the_teachers_otherwise_permutes_the_weights_only(cache):
    for name, order in {"ab": ("a", "b"), "ba": ("b", "a")}.items():
        merge_cache(cache, "text", request("gate", name, teachers=order))
    targets = open_cache(cache).sets["text"].targets
    one, other = targets["ab"].read(0, 40), targets["ba"].read(0, 40)
    for name in array_names(TargetArrays):
        expected = one.weights[..., ::-1] if name == "weights" else one[name]
        np.testing.assert_array_equal(other[name], expected, err_msg=name)


def test_another_rule_under_the_same_name_is_refused(cache):
    merge_cache(cache, "text", request("random", "control", seed=1))
    with pytest.raises(MismatchError, match="seed"):
        merge_cache(cache, "text", request("random", "control", seed=2))
    with pytest.raises(MismatchError, match="stored"):
        merge_cache(cache, "text", request("random", "control", seed=1, stored=False))


def test_a_rule_that_learns_needs_a_split_to_learn_on(place, tmp_path):
    cache = tmp_path / "none.ckd"
    builds.rebuild(place, cache, "splits.fit=0.0", "objective.views=1")
    with pytest.raises(MergeError, match=r"splits\.fit"):
        merge_cache(cache, "text", request("fitted"))


def test_calibration_needs_temperatures_to_choose_from(cache):
    merge_cache(cache, "text", request("entropy", "calm", calibrate="weights"))
    fit = open_cache(cache).manifest.sets["text"].targets["calm"].fit
    for by_type in fit["temperatures"].values():
        assert set(by_type.values()) <= {1.0, 2.0}


@pytest.mark.parametrize(
    ("teachers", "said"), [((), "no teacher of set text was named"), (("a", "z"), "no teacher z")]
)
def test_teachers_that_are_not_there_are_named(place, teachers, said):
    with pytest.raises(MergeError, match=said):
        merge_source(open_cache(place / "whole.ckd"), "text", teachers)


def test_a_merge_that_cannot_be_made_leaves_nothing_behind(cache):
    before = builds.stored_bytes(cache)
    with pytest.raises(MergeError, match="gather"):
        merge_cache(cache, "text", request("uniform", "union", missing="exact"))
    assert builds.stored_bytes(cache) == before
    assert not list((cache / "journal").glob("*.jsonl"))


def test_a_finished_target_needs_its_teachers_no_more(cache):
    merge_cache(cache, "text", request("entropy"))
    drop_from_cache(cache, DropRequest(teachers=("b",)))
    assert merge_cache(cache, "text", request("entropy")).shards == 0
