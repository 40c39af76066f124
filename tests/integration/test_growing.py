"""A cache that grows by increments of its corpus: what is added, and that nothing else changes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from tests.integration import builds
from tests.integration.builds import rebuild, stopped

import ckd_cache
from ckd_cache.build.merging import merge_cache
from ckd_cache.build.target_request import TargetRequest
from ckd_cache.corpus.deduplicate import text_key
from ckd_cache.corpus.masking import MaskSettings, mask_segments
from ckd_cache.errors import CorpusError
from ckd_cache.format.journal import journal_keys
from ckd_cache.format.reader import open_cache
from ckd_cache.inspection.summary import summarise
from ckd_cache.inspection.text import view_example
from ckd_cache.numerics.splits import SPLIT_NAMES, split_of
from ckd_student.genres import GenreLookup
from ckd_student.stream import open_stream

OLD, NEW, MORE, LAST = (
    {"name": name, "genre": f"genre of {name}", "kind": "text", "paths": [f"{name}.txt"]}
    for name in ("old", "new", "more", "last")
)


def documents(texts: list[str]) -> dict[str, list[str]]:
    """Texts of each source; ten of ``new`` are also in ``old``."""
    return {"old": texts[:60], "new": texts[50:90], "more": texts[90:110], "last": texts[110:120]}


@pytest.fixture(scope="module")
def garden(tmp_path_factory, tiny_texts, tiny_teacher_folder):
    """A folder with four sources, two teachers and a recipe that names the first source."""
    folder = tmp_path_factory.mktemp("garden")
    for name, texts in documents(tiny_texts).items():
        builds.write_corpus(folder / f"{name}.txt", texts)
    teachers = {"a": tiny_teacher_folder(1), "b": tiny_teacher_folder(2)}
    corpus = {"sources": [OLD], "segment_tokens": 32}
    builds.recipe(folder, teachers, corpus=corpus, shards={"slots": 700, "chunk_slots": 140})
    return folder


@pytest.fixture(scope="module")
def planted(garden):
    """The cache of the first source."""
    rebuild(garden, garden / "planted.ckd")
    return garden / "planted.ckd"


@pytest.fixture(scope="module")
def grown(garden, planted):
    """A copy of it to which the second source was added."""
    cache = garden / "grown.ckd"
    shutil.copytree(planted, cache)
    assert add(garden, cache, OLD, NEW).shards > 0
    return cache


def add(garden: Path, cache: Path, *sources, **changes):
    """Build with these sources; keywords replace sections of the recipe."""
    content = yaml.safe_load((garden / "recipe.yaml").read_text())
    content["corpus"]["sources"] = list(sources)
    content.update(changes)
    path = garden / "recipe-grown.yaml"
    path.write_text(yaml.safe_dump(content))
    return builds.build(path, cache)


def kept_files(cache: Path) -> dict[str, bytes]:
    files = builds.stored_bytes(cache)
    return {path: data for path, data in files.items() if path.startswith(("text/", "supports/"))}


def test_an_increment_changes_no_file_that_was_there(planted, grown):
    before, after = kept_files(planted), kept_files(grown)
    assert before.items() <= after.items()
    added = {path for path in after if path not in before}
    assert "text/segments/0001/documents-00000.arrow" in added
    assert all("0001/" in path for path in added)


def test_an_increment_is_shown_in_all_views_by_all_teachers_and_targets(planted, grown):
    text = open_cache(grown).set("text")
    names = ["v0-0000", "v1-0000", "v0-0001", "v1-0001"]
    assert [part.name for part in text.record.parts] == names
    parts = [one.parts for one in text.record.teachers.values()]
    parts += [one.parts for one in text.record.targets.values()]
    assert [sorted(one) for one in parts] == [sorted(names)] * 4
    assert open_cache(grown).manifest.complete
    assert text.n_examples == sum(part.examples for part in text.record.parts)
    assert text.n_examples > open_cache(planted).set("text").n_examples


def test_an_increment_knows_its_own_sources_only(planted, grown):
    first, second = open_cache(grown).set("text").record.increments
    assert first == open_cache(planted).set("text").record.increments[0]
    assert second.identity["source_order"] == list(second.identity["sources"]) == ["new"]
    same = ("tokenizer", "segment_tokens", "pack", "splits", "deduplicate")
    assert all(first.identity[name] == second.identity[name] for name in same)


def test_segment_numbers_go_on_for_the_masks(grown):
    reader = open_cache(grown)
    text = reader.set("text")
    before = text.record.increments[0].segments
    settings = MaskSettings(0.2, 0.8, 0.1, 0.1, whole_word=False, seed=3)
    support = reader.manifest.supports[text.record.support]
    for part in text.record.parts:
        number = before if part.increment == "0001" else 0
        start, stop = part.first_example, part.first_example + part.examples
        slots = mask_segments(
            text.examples.segments(start, stop), number, part.view, settings, support
        )
        read = text.examples.read(start, stop)
        found = [read.slot_positions[row, read.slot_mask[row]] for row in range(part.examples)]
        for mine, theirs in zip(slots.positions, found, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_reading_across_parts_of_two_increments(grown):
    text = open_cache(grown).set("text")
    border = text.record.parts[2].first_example
    for read in (
        text.examples.read,
        text.teachers["a"].read,
        text.targets["warm"].read,
        ckd_cache.open(grown).examples.read,
    ):
        whole, left, right = read(border - 5, border + 7), read(border - 5, border), None
        right = read(border, border + 7)
        for name in whole.keys():  # noqa: SIM118
            joined = np.concatenate([left[name], right[name]])
            np.testing.assert_array_equal(whole[name], joined, err_msg=name)
    lazy = ckd_cache.open(grown).teachers["b"].dask()
    np.testing.assert_array_equal(
        lazy.gold_rank[border - 3 : border + 3].compute(),
        text.teachers["b"].read(border - 3, border + 3).gold_rank,
    )


def test_documents_are_numbered_over_the_increments(grown, tiny_texts):
    text = open_cache(grown).set("text")
    first, second = text.record.increments
    rows = text.examples.documents(range(first.documents + second.documents))
    sources = [row.source for row in rows.values()]
    assert sources == ["old"] * first.documents + ["new"] * second.documents
    assert (first.documents, second.documents) == (60, 30)
    wanted = [text_key(" ".join(one.split())) for one in tiny_texts[:90]]
    assert [row.key for row in rows.values()] == wanted
    assert [key for keys in text.examples.document_keys() for key in keys] == wanted
    for part in text.record.parts:
        numbers = {
            span.document
            for spans in text.examples.segments(
                part.first_example, part.first_example + part.examples
            ).spans
            for span in spans
        }
        assert numbers == (set(range(60)) if part.increment == "0000" else set(range(60, 90)))


def test_genres_splits_and_show_know_the_second_increment(grown):
    text = open_cache(grown).set("text")
    border, genres = text.record.parts[2].first_example, GenreLookup(text, run=4)
    assert genres.of(border - 1, 3) == "genre of old"
    assert genres.of(border, 3) == genres.of(text.n_examples - 1, 3) == "genre of new"
    splits = text.examples.splits(0, text.n_examples)
    spans = text.examples.segments(0, text.n_examples).spans
    rows = text.examples.documents(range(90))
    for split, row in zip(splits, spans, strict=True):
        assert {split_of(rows[span.document].id, 0.05, 0.1) for span in row} == {split}
    view = view_example(grown, "text", border, "gold", 3)
    assert (view.part, view.documents[0].genre) == ("v0-0001", "genre of new")
    assert view.split == SPLIT_NAMES[splits[border]]
    assert view.slots[0].target is not None
    assert {one.name for one in view.slots[0].teachers} == {"a", "b"}


def test_inspect_counts_both_increments(grown):
    found = summarise(grown)
    record = open_cache(grown).set("text").record
    assert found["documents"] == 90
    assert found["duplicates"] == 10
    assert found["genres"] == {"genre of old": 60, "genre of new": 30}
    for name in ("tokens", "segments"):
        assert found[name] == sum(getattr(one, name) for one in record.increments)
    assert sum(found["splits"].values()) == found["examples"] == 2 * found["segments"]
    assert [one["sources"] for one in found["increments"]] == [["old"], ["new"]]
    assert found["teachers"]["a"]["slots"] == found["slots"]


def test_a_student_streams_both_increments_also_while_the_cache_grows(garden, planted, tmp_path):
    cache = tmp_path / "growing.ckd"
    shutil.copytree(planted, cache)
    splits = ("train", "test")
    streams = [open_stream(cache, target="gold", split=split, window=2) for split in splits]
    before = {
        number: row["target_logprobs"]
        for stream in streams
        for number, row in zip(stream.numbers(), stream, strict=True)
    }
    late = [open_stream(cache, target="gold", split=split, window=2) for split in splits]
    # Segments and slots of the second increment are there, its targets are not yet.
    content = yaml.safe_load((garden / "recipe.yaml").read_text())
    content["corpus"]["sources"] = [OLD, NEW]
    for source in content["corpus"]["sources"]:
        shutil.copy(garden / source["paths"][0], tmp_path)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
    with pytest.MonkeyPatch.context() as patch:
        stopped(tmp_path, cache, patch, 6)
    assert len(open_cache(cache).set("text").record.parts) > 2
    for stream in late:
        for number, row in zip(stream.numbers(), stream, strict=True):
            np.testing.assert_array_equal(row["target_logprobs"], before[number])
    rebuild(tmp_path, cache)
    text = open_cache(cache).set("text")
    after = open_stream(cache, target="gold", window=2)
    rows = dict(zip(after.numbers(), after, strict=True))
    assert set(streams[0].numbers()) < set(rows)
    assert max(rows) >= text.record.parts[2].first_example
    target = text.targets["gold"].read(0, text.n_examples)
    for number, row in rows.items():
        np.testing.assert_array_equal(row["target_ids"], target.ids[number])


def test_several_sources_at_once_and_again_later(garden, grown, tmp_path):
    """Duplicates of any earlier increment are known, though its sources need not be read."""
    cache = tmp_path / "again.ckd"
    shutil.copytree(grown, cache)
    merge_cache(cache, "text", TargetRequest("merged", "gold", tau=0.5))
    before = kept_files(cache)
    copy = tmp_path / "garden"
    shutil.copytree(garden, copy, ignore=shutil.ignore_patterns("*.ckd"))
    repeated = [(copy / f"{name}.txt").read_text() for name in ("last", "new", "old")]
    (copy / "last.txt").write_text("\n\n".join(repeated))
    add(copy, cache, OLD, NEW, MORE, LAST)
    record = open_cache(cache).set("text").record
    third = record.increments[2]
    assert third.identity["source_order"] == ["more", "last"]
    assert (third.documents, third.duplicates) == (30, 40 + 60)
    (copy / "five.txt").write_text("Nobody has ever said this.\n\n" + repeated[0])
    five = {"name": "five", "kind": "text", "paths": ["five.txt"]}
    add(copy, cache, OLD, NEW, MORE, LAST, five)
    text = open_cache(cache).set("text")
    assert [one.documents for one in text.record.increments] == [60, 30, 30, 1]
    assert text.examples.documents([120])[120].source == "five"
    assert before.items() <= kept_files(cache).items()
    assert len(text.targets["merged"].read(0, text.n_examples)) == text.n_examples
    assert add(copy, cache, OLD, NEW, MORE, LAST, five).shards == 0


def test_without_deduplication_nothing_is_dropped(garden, tmp_path):
    cache = tmp_path / "repeating.ckd"
    teachers = yaml.safe_load((garden / "recipe.yaml").read_text())["teachers"][:1]
    for sources in ([OLD], [OLD, NEW]):
        corpus = {"sources": sources, "segment_tokens": 32, "deduplicate": False}
        add(garden, cache, corpus=corpus, teachers=teachers, targets=[])
    first, second = open_cache(cache).set("text").record.increments
    assert (first.documents, second.documents, second.duplicates) == (60, 40, 0)


def test_an_increment_that_brings_nothing_is_refused_and_does_not_stand_in_the_way(
    garden, planted, tmp_path
):
    cache = tmp_path / "planted.ckd"
    shutil.copytree(planted, cache)
    before = builds.stored_bytes(cache)
    shutil.copy(garden / "old.txt", garden / "copy.txt")
    same = {"name": "copy", "kind": "text", "paths": ["copy.txt"]}
    with pytest.raises(CorpusError, match="Nothing is new: the source copy gave 60 documents that"):
        add(garden, cache, OLD, same)
    assert builds.stored_bytes(cache) == before
    assert journal_keys(cache) == []
    assert add(garden, cache, OLD).shards == 0
    add(garden, cache, OLD, NEW)
    assert len(open_cache(cache).set("text").record.increments) == 2


@pytest.mark.parametrize("shards", [5, *(pytest.param(n, marks=pytest.mark.full) for n in (1, 14))])
def test_an_interrupted_increment_ends_in_the_same_bytes(
    garden, planted, grown, tmp_path, monkeypatch, shards
):
    cache = tmp_path / "stopped.ckd"
    shutil.copytree(planted, cache)
    content = yaml.safe_load((garden / "recipe.yaml").read_text())
    content["corpus"]["sources"] = [OLD, NEW]
    for name in ("old.txt", "new.txt"):
        shutil.copy(garden / name, tmp_path)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
    stopped(tmp_path, cache, monkeypatch, shards)
    assert not open_cache(cache).manifest.complete or shards == 1
    rebuild(tmp_path, cache)
    assert builds.stored_bytes(cache) == builds.stored_bytes(grown)


def test_a_view_after_an_increment_shows_all_increments(garden, grown, tmp_path):
    cache = tmp_path / "viewed.ckd"
    shutil.copytree(grown, cache)
    objective = {"mask_fraction": 0.2, "views": 3, "seed": 3}
    add(garden, cache, OLD, NEW, objective=objective)
    record = open_cache(cache).set("text").record
    assert [part.name for part in record.parts[4:]] == ["v2-0000", "v2-0001"]
    # Later text is shown in all views of the set, also by a recipe that asks for fewer.
    add(garden, cache, OLD, NEW, MORE, objective={**objective, "views": 1})
    record = open_cache(cache).set("text").record
    assert [part.name for part in record.parts[6:]] == ["v0-0002", "v1-0002", "v2-0002"]
    assert set(record.targets["gold"].parts) == {part.name for part in record.parts}
