"""BERT and RoBERTa together, both ways round: the same characters, the same masked words."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from tests.integration import builds, twin_workshop
from tests.integration.twin_workshop import Workshop

from ckd_cache.build.recipe import read_recipe
from ckd_cache.errors import MergeError, MismatchError
from ckd_cache.format.arrow_io import Span
from ckd_cache.format.reader import CacheReader, SetReader, open_cache
from ckd_cache.format.verify import verify_cache
from ckd_cache.format.workspace import CacheWriter
from ckd_cache.inspection.summary import summarise
from ckd_cache.merge.lineup import twins_of
from ckd_cache.merge.reading import read_voices
from ckd_cache.merge.rule import TargetRule
from ckd_cache.merge.source import merge_source

FULL = pytest.mark.full


@pytest.fixture(scope="module")
def teachers(tmp_path_factory, tiny_texts) -> dict[str, Path]:
    return twin_workshop.two_teachers(tmp_path_factory.mktemp("two-tokenizers"), tiny_texts)


@pytest.fixture(scope="module", params=["bert", "roberta"])
def workshop(request, tmp_path_factory, teachers, tiny_texts) -> Workshop:
    folder = tmp_path_factory.mktemp(f"twins-{request.param}")
    return twin_workshop.workshop_at(folder, request.param, teachers, tiny_texts)


@pytest.fixture(scope="module")
def built(workshop) -> Path:
    builds.build(workshop.recipe, workshop.folder / "whole.ckd")
    return workshop.folder / "whole.ckd"


class Sides(NamedTuple):
    """A set and its twin."""

    cache: CacheReader
    own: SetReader
    twin: SetReader


@pytest.fixture(scope="module")
def sides(built) -> Sides:
    cache = open_cache(built)
    (name,) = twins_of(cache.manifest, "text")
    return Sides(cache, cache.sets["text"], cache.sets[name])


def texts_by_number(workshop: Workshop, reader: SetReader) -> dict[int, str]:
    listed = (workshop.folder / "corpus.txt").read_text(encoding="utf-8").split("\n\n")
    count = sum(increment.documents for increment in reader.record.increments)
    rows = reader.examples.documents(range(count))
    return {number: listed[int(row.id.rpartition("#")[2]) - 1] for number, row in rows.items()}


def characters_of(
    workshop: Workshop, reader: SetReader, teacher: str
) -> list[list[set[tuple[int, int]]]]:
    """For each token of each example the (document, character) pairs that it shows.

    Read anew by the teacher's own tokenizer: a span's tokens are found in the document's.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(workshop.teachers[teacher])
    texts = texts_by_number(workshop, reader)
    encoded = {
        number: tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        for number, text in texts.items()
    }
    segments = reader.examples.segments(0, len(reader.examples))
    found = []
    for ids, spans in zip(segments.input_ids, segments.spans, strict=True):
        row: list[set[tuple[int, int]]] = [set() for _ in ids]
        for span in spans:
            document, wanted = encoded[span.document], ids[span.token_start : span.token_end]
            at = place_of(document, wanted.tolist(), span)
            for n in range(len(wanted)):
                start, stop = document["offset_mapping"][at + n]
                text = texts[span.document]
                row[span.token_start + n] = {
                    (span.document, c) for c in range(start, stop) if not text[c].isspace()
                }
        found.append(row)
    return found


def place_of(document: Any, wanted: list[int], span: Span) -> int:
    ids, offsets = document["input_ids"], document["offset_mapping"]
    places = [
        n
        for n in range(len(ids) - len(wanted) + 1)
        if ids[n : n + len(wanted)] == wanted and offsets[n][0] == span.char_start
    ]
    assert places, "the tokens of a span are those of its document"
    return places[0]


def slots_of(reader: SetReader) -> list[set[int]]:
    (positions,) = reader.examples.slot_columns(["positions"], 0, len(reader.examples))
    return [set(row.tolist()) for row in positions.rows()]


def test_it_verifies(built):
    assert verify_cache(built).findings == ()


def test_the_twin_has_the_examples_of_its_set(sides):
    own, twin = sides.own.record, sides.twin.record
    assert twin.twin_of == "text"
    assert sides.twin.name == f"text.{twin.support[:12]}"
    assert [(p.name, p.first_example, p.examples) for p in twin.parts] == [
        (p.name, p.first_example, p.examples) for p in own.parts
    ]
    assert sides.own.shards() == sides.twin.shards()
    count = len(sides.own.examples)
    np.testing.assert_array_equal(
        sides.own.examples.splits(0, count), sides.twin.examples.splits(0, count)
    )


def test_both_sides_show_the_same_characters_and_hide_the_same_words(workshop, sides):
    own = characters_of(workshop, sides.own, workshop.first)
    twin = characters_of(workshop, sides.twin, workshop.other)
    same = 0
    hidden_slots = 0
    for shown, twinned, slots, twin_slots in zip(
        own, twin, slots_of(sides.own), slots_of(sides.twin), strict=True
    ):
        same += set().union(*shown) == set().union(*twinned)
        hidden = set().union(*(shown[n] for n in slots), set())
        if not twin_slots:
            continue
        hidden_slots += len(twin_slots)
        visible = set().union(*(one for n, one in enumerate(twinned) if n not in twin_slots))
        unknown = {c for c in visible & hidden if is_unknown(workshop, sides, c)}
        assert not (visible & hidden) - unknown
        assert all(twinned[n] & hidden for n in twin_slots)
    assert hidden_slots > 300
    assert same > 0.6 * len(own), "tokens at the ends of segments may be cut elsewhere"


def is_unknown(workshop: Workshop, sides: Sides, character: tuple[int, int]) -> bool:
    """Signs that the twin has no token for; unknown tokens are never slots."""
    text = texts_by_number(workshop, sides.own)[character[0]]
    return text[character[1]] in "日本☃“”—"


def test_what_is_masked_is_the_mask_token(sides):
    for reader in (sides.own, sides.twin):
        examples = reader.examples.read(0, len(reader.examples))
        rows, columns = np.nonzero(examples.slot_mask)
        seen = examples.input_ids[rows, examples.slot_positions[rows, columns]]
        assert (seen == reader.support.record.mask_id).all()


def test_words_are_numbered_alike_on_both_sides(workshop, sides):
    """A word that is exact has, by its number, the same characters on both sides."""
    count = len(sides.own.examples)
    own, twin = (
        characters_of(workshop, sides.own, workshop.first),
        characters_of(workshop, sides.twin, workshop.other),
    )
    (starts,) = sides.own.examples.segment_columns(["word_starts"], 0, count)
    (places,) = sides.own.examples.slot_columns(["positions"], 0, count)
    columns = sides.twin.examples.slot_columns(["positions", "words", "exact"], 0, count)
    exact_words = 0
    for row, (begins, slots) in enumerate(zip(starts.rows(), places.rows(), strict=True)):
        word = np.cumsum(begins)
        masked = sorted(set(word[slots].tolist()))
        positions, words, exact = (column.rows()[row] for column in columns)
        for number in set(words[exact].tolist()):
            theirs = set().union(*(twin[row][n] for n in positions[words == number]))
            mine = set().union(*(own[row][n] for n in slots[word[slots] == masked[number]]))
            assert theirs == mine
            exact_words += 1
    assert exact_words > 300


def test_the_twins_numbers_are_the_live_ones(workshop, sides):
    """log p(word) is the sum of the model's logprobs of its pieces, all of them masked."""
    import torch
    from transformers import AutoModelForMaskedLM

    model = AutoModelForMaskedLM.from_pretrained(workshop.teachers[workshop.other]).eval()
    count = min(24, len(sides.own.examples))
    rule = TargetRule("uniform", 1.0, 1.0, 8, (workshop.first, workshop.other))
    source = merge_source(sides.cache, "text", rule.teachers)
    slots, voices = read_voices(source, rule, 0, count)
    twin = voices[1]
    columns = sides.twin.examples.slot_columns(["words", "exact"], 0, count)
    examples = sides.twin.examples.read(0, count)
    expected: dict[tuple[int, int], float] = {}
    for row in range(count):
        used = examples.attention_mask[row].astype(bool)
        with torch.inference_mode():
            logits = model(torch.tensor(examples.input_ids[row, used])[None]).logits[0]
        logprobs = torch.log_softmax(logits.double(), dim=-1).numpy()
        words, exact = (column.rows()[row] for column in columns)
        for n, number in enumerate(words.tolist()):
            if exact[n]:
                gold = examples.gold_ids[row, n]
                key = (row, number)
                expected[key] = (
                    expected.get(key, 0.0) + logprobs[examples.slot_positions[row, n], gold]
                )
    ordinal = slots.unit - np.array([slots.unit[slots.example == e].min() for e in slots.example])
    begins = np.diff(slots.unit, prepend=-1) != 0
    found = {
        (int(e), int(w)): value
        for e, w, value, first in zip(
            slots.example, ordinal, twin.unit_logprob, begins, strict=True
        )
        if first and not np.isnan(value)
    }
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=0.02)
    assert twin.present.sum() > 50
    assert not np.isnan(twin.gold_logprob[twin.present]).any()


def test_targets_take_the_twins_teacher_where_it_speaks(workshop, sides):
    count = len(sides.own.examples)
    rule = TargetRule("uniform", 1.0, 1.0, 8, (workshop.first, workshop.other))
    source = merge_source(sides.cache, "text", rule.teachers)
    slots, voices = read_voices(source, rule, 0, count)
    present = voices[1].present
    assert 0.2 < present.mean() < 0.95
    even = sides.own.targets["even"].read(0, count)
    order = sides.own.record.targets["even"].teachers
    weights = even.weights[slots.at][:, order.index(workshop.other)]
    np.testing.assert_allclose(weights, np.where(present, 0.5, 0.0), atol=1e-4)
    gold = sides.own.targets["gold"].read(0, count)
    assert (gold.n_valid[slots.at] > 0).all()


def test_what_was_never_gathered_is_said(workshop, sides):
    names = (workshop.first, workshop.other)
    source = merge_source(sides.cache, "text", names)
    rule = TargetRule("uniform", 1.0, 1.0, 8, names, missing="exact")
    with pytest.raises(MergeError, match=f"{workshop.other} has another tokenizer than set text"):
        read_voices(source, rule, 0, 8)


def test_inspect_tells_twins_from_sets(built, sides):
    summary = summarise(built)
    twin = summary["sets"][sides.twin.name]
    assert (summary["twin_of"], twin["twin_of"]) == (None, "text")
    assert twin["cut"] == sum(one.cut for one in sides.twin.record.increments)
    assert f"Set {sides.twin.name}\n  twin of set text" in builds.run("inspect", built).stdout


@pytest.mark.full
@pytest.mark.parametrize("stage", ["segments", pytest.param("slots", marks=FULL)])
def test_a_stopped_build_goes_on_to_the_same_bytes(workshop, built, monkeypatch, stage):
    """Stopped at the second shard of a stage of the twin set."""
    cache = workshop.folder / f"stopped-{stage}.ckd"
    publish = CacheWriter.publish
    begun: list[str] = []

    def stopping(self, journal, files):
        if journal.key.startswith(f"text.{journal.key[5:17]}/{stage}/"):
            begun.append(journal.key)
            if len(begun) == 2:
                raise builds.StopError
        publish(self, journal, files)

    with monkeypatch.context() as patch:
        patch.setattr(CacheWriter, "publish", stopping)
        with pytest.raises(builds.StopError):
            builds.build(workshop.recipe, cache)
    builds.build(workshop.recipe, cache)
    assert builds.stored_bytes(cache) == builds.stored_bytes(built)
    shutil.rmtree(cache)


def test_damaged_twins_are_computed_again(workshop, built, sides):
    from ckd_cache.build.repair import repair_cache

    cache = workshop.folder / "damaged.ckd"
    shutil.copytree(built, cache)
    name = sides.twin.name
    for path in (f"{name}/segments/0000/00000.arrow", f"{name}/slots/v1-0000/00000.arrow"):
        (cache / path).write_bytes(b"damaged")
    (cache / f"{name}/segments/0000/documents-00000.arrow").unlink()
    findings = verify_cache(cache).findings
    assert len(findings) >= 3
    recipe = (read_recipe(workshop.recipe), workshop.folder)
    repaired = repair_cache(cache, findings, recipe)
    assert repaired.left == ()
    assert builds.stored_bytes(cache) == builds.stored_bytes(built)
    shutil.rmtree(cache)


@pytest.mark.full
def test_twins_grow_with_their_set(workshop, built, tiny_texts, tmp_path):
    cache = tmp_path / "growing.ckd"
    shutil.copytree(built, cache)
    (workshop.folder / "more.txt").write_text("\n\n".join(tiny_texts[-4:]), encoding="utf-8")
    sources = [
        {"name": "docs", "kind": "text", "paths": ["corpus.txt"]},
        {"name": "more", "kind": "text", "paths": ["more.txt"]},
    ]
    builds.build(workshop.recipe, cache, f"corpus.sources={sources}", "objective.views=3")
    assert verify_cache(cache).findings == ()
    reader = open_cache(cache)
    (name,) = twins_of(reader.manifest, "text")
    own, twin = reader.sets["text"].record, reader.sets[name].record
    assert [part.name for part in twin.parts] == [part.name for part in own.parts]
    assert len(own.parts) == 6
    assert [one.segments for one in twin.increments] == [one.segments for one in own.increments]
    assert len(twin.teachers[workshop.other].parts) == 6
    assert all(len(target.parts) == 6 for target in own.targets.values())
    assert (
        builds.build(
            workshop.recipe, cache, f"corpus.sources={sources}", "objective.views=3"
        ).shards
        == 0
    )


def test_a_twin_cut_otherwise_is_refused(workshop, built):
    with pytest.raises(MismatchError, match="segment_tokens"):
        builds.build(workshop.recipe, built, "corpus.segment_tokens=40")
