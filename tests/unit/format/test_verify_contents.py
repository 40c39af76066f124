"""Verifying a cache whose hashes fit: what must hold of what is decoded."""

from __future__ import annotations

import numpy as np
import pytest
from tests.unit.format import small_cache as small
from tests.unit.format import sound_cache
from tests.unit.format.sound_cache import change_set, examples_of, found_in, only_finding, rewrite

from ckd_cache.format.arrow_io import SlotRows, Span
from ckd_cache.format.findings import Hit
from ckd_cache.format.reader import open_cache

EXACT, COMPACT, MIX = ("teachers", "b"), ("teachers", "a"), ("targets", "mix")
FIRST, STOP = 4, 8
"""Examples of the shard that is changed, the second of view 0."""


def used_slot(cache, owner):
    """A used slot of the shard, (example within it, slot), and the stored arrays."""
    arrays = sound_cache.stored_of(cache, owner, 0, 1)
    return tuple(np.argwhere(arrays["n_valid"] > 2)[0]), arrays


def put(cache, owner, arrays, shard=1):
    rewrite(cache, sound_cache.shard_files(cache, owner, 0, shard, arrays))


def rising(values):
    return values[..., ::-1]


def twice(values):
    return values[[0, 0, *range(2, len(values))]]


@pytest.mark.parametrize(
    ("owner", "array", "change", "problem", "detail"),
    [
        (EXACT, "n_valid", 0, "used slots", "have kept ids"),
        (EXACT, "ids", twice, "token ids", "twice"),
        (COMPACT, "ids", twice, "token ids", "twice"),
        (MIX, "ids", twice, "token ids", "twice"),
        (EXACT, "ids", 50, "undecodable", "row 50 of an order of 50"),
        (EXACT, "n_valid", 9, "undecodable", "n_valid is 9, k is 4"),
        (EXACT, "logprobs", np.nan, "logprobs", "finite"),
        (EXACT, "logprobs", lambda x: x + 9, "logprobs", "at most 0"),
        (EXACT, "logprobs", rising, "logprobs", "none above"),
        (EXACT, "logprobs", lambda x: x - 0.01, "mass", "sum to 0.9"),
        (EXACT, "tail", [np.nan, -1], "tail", "at most 0"),
        (COMPACT, "tail", [-1, 0.25], "tail", "at most 0"),
        (MIX, "tail", 0.25, "tail", "at most 0"),
        (MIX, "tail", 0.0, "logprobs", "finite"),
        (EXACT, "logsumexp", np.inf, "logsumexp", "finite"),
        (EXACT, "entropy", -1, "entropy", "0 to the log"),
        (COMPACT, "entropy", 4.5, "entropy", "0 to the log"),
        (EXACT, "gold_logprob", 0.5, "gold", "at most 0"),
        (MIX, "gold_logprob", np.nan, "gold", "at most 0"),
        (EXACT, "gold_rank", 50, "gold", "less than 50"),
        (MIX, "weights", 0, "weights", "at least 0"),
        (MIX, "uncertain", 1.1, "uncertain", "0 to 1.0"),
        (MIX, "uncertain", np.nan, "uncertain", "0 to 1.0"),
    ],
)
def test_what_a_slot_holds_is_checked(cache, owner, array, change, problem, detail):
    where, arrays = used_slot(cache, owner)
    before = arrays[array][where]
    arrays[array] = arrays[array].copy()
    arrays[array][where] = change(before) if callable(change) else change
    put(cache, owner, arrays)
    finding = only_finding(cache)
    assert finding.problem == problem
    assert detail in finding.detail
    assert (finding.part, finding.shard) == (f"text/{'/'.join(owner)}/v0-0000", 1)
    assert finding.artefact == owner[0].removesuffix("s")
    if problem == "undecodable":
        assert finding.examples == (Hit("text", FIRST, STOP),)
    else:
        assert finding.examples == (Hit("text", FIRST + where[0], FIRST + where[0] + 1),)
        at_fault = "logprobs" if problem in {"mass", "logprobs"} else array
        assert f"/{at_fault}/c/1" in finding.path


@pytest.mark.parametrize("owner", [EXACT, COMPACT])
@pytest.mark.parametrize(
    ("kept", "array", "value", "detail"),
    [
        (True, "gold_logprob", lambda x: x - 0.2, "that of its rank is"),
        (True, "gold_logprob", lambda x: x + 0.2, "that of its rank is"),
        (True, "gold_rank", lambda x: (x + 1) % 4, "kept at rank"),
        (True, "gold_rank", lambda x: 0 * x + 7, "kept at rank"),
        (False, "gold_logprob", lambda x: 0 * x - 0.01, "that of the last kept rank is"),
        (False, "gold_rank", lambda x: 0 * x, "not kept"),
    ],
    ids=["low", "high", "rank besides", "rank outside", "outside, high", "outside, rank inside"],
)
def test_gold_is_held_against_what_is_kept(cache, owner, kept, array, value, detail):
    for shard in range(3):
        arrays = sound_cache.stored_of(cache, owner, 0, shard)
        used = arrays["n_valid"] == 4
        fitting = np.argwhere(used & ((arrays["gold_rank"] < 4) == kept))
        if len(fitting):
            break
    where = tuple(fitting[0])
    arrays[array] = arrays[array].copy()
    arrays[array][where] = value(arrays[array][where])
    put(cache, owner, arrays, shard)
    finding = only_finding(cache)
    assert (finding.problem, examples_of(finding)) == ("gold", [4 * shard + where[0]])
    assert detail in finding.detail


@pytest.mark.parametrize("owner", [EXACT, COMPACT, MIX])
def test_nothing_stands_where_nothing_belongs(cache, owner):
    arrays = sound_cache.stored_of(cache, owner, 0, 1)
    where = tuple(np.argwhere(arrays["n_valid"] == 0)[0])
    for array in arrays:
        changed = {name: values.copy() for name, values in arrays.items()}
        changed[array][where] = 1
        put(cache, owner, changed)
        finding = only_finding(cache)
        assert (finding.problem, examples_of(finding)) == ("used slots", [FIRST + where[0]])
        assert f"/{'ids' if array == 'order' else array}/c/1" in finding.path


def test_findings_of_several_examples_of_a_shard_are_one(cache):
    arrays = sound_cache.stored_of(cache, EXACT, 0, 1)
    used = arrays["n_valid"][..., None] > 0
    arrays["entropy"] = np.where(used, np.float32(-1), arrays["entropy"])
    put(cache, EXACT, arrays)
    finding = only_finding(cache)
    wanted = FIRST + np.flatnonzero((arrays["n_valid"] > 0).any(axis=1))
    assert examples_of(finding) == wanted.tolist()


def changed_slots(change, row=5):
    """The slots of view 0 with those of one example, as (slots, 3) numbers, changed."""
    rows = small.slot_rows(0)
    columns = [list(rows.positions), list(rows.inputs), list(rows.gold)]
    before = np.stack([column[row] for column in columns], axis=1)
    assert len(before) >= 2
    for column, values in zip(columns, change(before).T, strict=True):
        column[row] = values
    return SlotRows(*columns)


def moved(slots, position):
    slots = slots.copy()
    slots[-1, 0] = position
    return slots


@pytest.mark.parametrize(
    ("change", "problem", "detail"),
    [
        (lambda s: s[::-1], "slots", "expected ascending"),
        (lambda s: s[[0, 0]], "slots", "expected ascending ones"),
        (lambda s: moved(s, 60), "slots", "position 60 in a segment"),
        (lambda s: np.repeat(s, 4, axis=0), "slots", "at most 3"),
        (lambda s: s ^ [0, 0, 1], "gold", "gold is"),
    ],
)
def test_slots_are_held_against_their_segment(cache, change, problem, detail):
    rewrite(cache, sound_cache.slots_file(0, 1, changed_slots(change)))
    finding = only_finding(cache)
    assert (finding.path, finding.artefact) == ("text/slots/v0-0000/00001.arrow", "slots")
    assert (finding.problem, examples_of(finding)) == (problem, [5])
    assert detail in finding.detail


def test_positions_inputs_and_gold_are_as_many(cache):
    rows = small.slot_rows(0)
    rows.inputs[5] = rows.inputs[5][:-1]
    rewrite(cache, sound_cache.slots_file(0, 1, rows))
    finding = only_finding(cache)
    assert (finding.problem, examples_of(finding)) == ("slots", [5])
    assert "expected as many of each" in finding.detail


@pytest.mark.parametrize("column", ["inputs", "gold"])
def test_ids_at_slots_are_of_the_support(cache, column):
    rows = small.slot_rows(0)
    getattr(rows, column)[5][0] = 53
    rewrite(cache, sound_cache.slots_file(0, 1, rows, size=60))
    finding = only_finding(cache)
    assert (finding.problem, examples_of(finding)) == ("token ids", [5])
    assert finding.detail == "token id 53, the support has 50 entries"


def test_special_tokens_are_no_slots(cache):
    segments = small.segment_rows()
    at = small.slot_rows(0).positions[5][0]
    segments.input_ids[5][at] = 4

    def special(slots):
        slots[0, 2] = 4
        return slots

    rewrite(
        cache,
        sound_cache.segments_file(1, segments)
        | sound_cache.slots_file(0, 1, changed_slots(special)),
    )
    problems = {(one.path, one.problem, *examples_of(one)) for one in found_in(cache).findings}
    assert ("text/slots/v0-0000/00001.arrow", "slots", 5) in problems


@pytest.mark.parametrize(
    ("change", "problem", "detail"),
    [
        (lambda s: s.input_ids[5].__setitem__(0, 51), "token ids", "token id 51"),
        (lambda s: s.splits.__setitem__(5, 3), "segments", "split 3, there are 3"),
        (lambda s: s.splits.__setitem__(5, 1), "segments", "split 1 with a document of split 2"),
        (lambda s: s.input_ids.__setitem__(5, np.full(13, 6)), "segments", "13 tokens with"),
        (lambda s: s.spans.__setitem__(5, [Span(5, 3, 3, 0, 9)]), "spans", "tokens 3 to 3"),
        (lambda s: s.spans.__setitem__(5, [Span(5, 3, 33, 0, 9)]), "spans", "tokens 3 to 33"),
        (lambda s: s.spans.__setitem__(5, [Span(5, 1, 3, 9, 8)]), "spans", "characters 9 to 8"),
        (lambda s: s.spans.__setitem__(5, [Span(5, 1, 3, 0, 101)]), "spans", "character 101"),
        (lambda s: s.spans.__setitem__(5, [Span(7, 1, 3, 0, 9)]), "spans", "document 7"),
        (
            lambda s: s.spans.__setitem__(5, [Span(5, 1, 3, 0, 9), Span(5, 2, 4, 9, 10)]),
            "spans",
            "tokens 2 to 4",
        ),
    ],
)
def test_segments_are_held_against_support_and_documents(cache, change, problem, detail):
    segments = small.segment_rows()
    segments = type(segments)(
        segments.input_ids, segments.word_starts, segments.spans, sound_cache.SPLITS.copy()
    )
    change(segments)
    rewrite(cache, sound_cache.segments_file(1, segments, size=60))
    found = [one for one in found_in(cache).findings if one.artefact == "segments"]
    (finding,) = found
    assert (finding.path, finding.shard) == ("text/segments/0000/00001.arrow", 1)
    assert (finding.problem, examples_of(finding)) == (problem, [5, 15])
    assert detail in finding.detail


@pytest.mark.parametrize(
    ("shard", "numbers"),
    [(2, [3, 4, 6, 7]), (2, [4, 5, 6, 7]), (2, [2, 3, 4, 5]), (0, [1, 2, 3])],
)
def test_documents_are_numbered_without_gaps(cache, shard, numbers):
    rows = [
        type(row)(number, row.id, row.source, row.genre, row.split, row.characters)
        for row, number in zip(sound_cache.documents(shard), numbers, strict=True)
    ]
    rewrite(cache, sound_cache.documents_file(shard, rows))
    found = [one for one in found_in(cache).findings if one.artefact == "documents"]
    assert {(one.path, one.problem) for one in found} == {
        (f"text/segments/0000/documents-0000{shard}.arrow", "documents")
    }


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("text/segments/0000/00001.arrow", b""),
        ("text/segments/0000/documents-00002.arrow", b"ARROW1\0\0" + b"\xff" * 300),
        ("text/slots/v1-0000/00000.arrow", b"nonsense"),
        ("text/teachers/a/v0-0000/ids/c/0/0/0", b"\0" * 400),
        ("text/targets/mix/v1-0000/weights/c/2/0/0", b""),
        ("text/targets/mix/v1-0000/weights/zarr.json", b"null"),
        ("text/targets/mix/v1-0000/zarr.json", b'{"zarr_format": 2}'),
        ("text/teachers/a/v0-0000/order/c/0", b"\1" * 90),
        ("text/teachers/a/v0-0000/order/zarr.json", b"[" * 50_000),
        (f"supports/{small.SUPPORT}/support.json", b"{}"),
    ],
)
def test_hostile_bytes_with_the_right_hash_are_found_once(cache, path, content):
    rewrite(cache, {path: content})
    finding = only_finding(cache)
    assert (finding.path, finding.problem) == (path, "undecodable")
    assert "Restore" not in finding.detail
    assert finding.examples or "/documents-" in path


@pytest.mark.parametrize(
    ("members", "artefact", "detail"),
    [
        ({"tokens": 3}, "segments", "tokens is"),
        ({"documents": 8}, "segments", "documents is 7 in the files, 8 in the manifest"),
        ({"splits": {"train": 9, "fit": 9, "test": 9}}, "segments", "splits.fit"),
        ({"genres": {"fiction": 7, "law": 1}}, "segments", "genres.law is 0 in the files"),
    ],
)
def test_counts_of_the_increment_are_counted_again(cache, members, artefact, detail):
    increment = open_cache(cache).set("text").record.increments[0].model_copy(update=members)
    rewrite(cache, {}, change_set(increments=[increment]))
    finding = only_finding(cache)
    assert (finding.path, finding.part) == ("ckd.json", "text/segments/0000")
    assert (finding.artefact, finding.problem, finding.shard) == (artefact, "sums", -1)
    assert detail in finding.detail


def test_slots_of_a_part_are_counted_again(cache):
    first, second = open_cache(cache).set("text").record.parts
    wrong = second.model_copy(update={"slots": 3})
    rewrite(cache, {}, change_set(parts=[first, wrong]))
    finding = only_finding(cache)
    assert (finding.part, finding.problem) == ("text/slots/v1-0000", "sums")
    assert finding.examples == (Hit("text", 10, 20),)


@pytest.mark.parametrize("owner", [EXACT, COMPACT, MIX])
def test_every_figure_of_the_stats_is_added_up_again(cache, owner):
    record = open_cache(cache).set("text").record
    kind, name = owner
    one = getattr(record, kind)[name]
    filled = one.parts["v1-0000"]
    for figure, value in filled.stats.items():
        other = {**value, "a": 0.5} if isinstance(value, dict) else value + 1e-6
        wrong = filled.model_copy(update={"stats": {**filled.stats, figure: other, "more": 1}})
        changed = one.model_copy(update={"parts": {**one.parts, "v1-0000": wrong}})
        rewrite(cache, {}, change_set(**{kind: {**getattr(record, kind), name: changed}}))
        finding = only_finding(cache)
        assert (finding.part, finding.problem) == (f"text/{kind}/{name}/v1-0000", "sums")
        assert finding.detail.startswith(figure)


def test_special_ids_are_of_the_support(cache):
    special = {**small.SPECIAL, "bos": 50}
    manifest = open_cache(cache).manifest
    support = manifest.supports[small.SUPPORT].model_copy(update={"special": special})
    path = f"supports/{small.SUPPORT}/support.json"
    data = (cache / path).read_bytes().replace(b'"bos":null', b'"bos":50')
    rewrite(
        cache,
        {path: data},
        lambda one: one.model_copy(update={"supports": {small.SUPPORT: support}}),
    )
    finding = only_finding(cache)
    assert (finding.path, finding.problem) == (path, "token ids")
    assert finding.examples == (Hit("text", 0, 20),)
