from __future__ import annotations

import pickle

import numpy as np
import pytest

from ckd_cache.errors import (
    CacheNotFoundError,
    CkdCacheError,
    DamagedCacheError,
    FormatVersionError,
    IncompleteCacheError,
)
from ckd_cache.fingerprint import hash_bytes
from ckd_cache.format import manifest
from ckd_cache.format.encode import (
    decode_target,
    decode_teacher,
    encode_target,
    encode_teacher,
)
from ckd_cache.format.reader import open_cache
from ckd_cache.format.workspace import CacheWriter
from ckd_cache.types import TeacherArrays, array_names


@pytest.fixture
def text(built):
    return open_cache(built).set("text")


def expected_teacher(small, name):
    both = []
    for view in (0, 1):
        capture = small.CAPTURES[name]
        stored = encode_teacher(small.teacher_arrays(name, view), capture, small.ORDER)
        both.append(decode_teacher(stored, capture, small.ORDER))
    return {field: np.concatenate([x[field] for x in both]) for field in array_names(TeacherArrays)}


def test_a_set_says_what_it_is(text, small):
    assert (text.name, text.n_examples, len(text.examples)) == ("text", 20, 20)
    assert text.n_slots == sum(len(row) for view in (0, 1) for row in small.slot_rows(view).gold)
    assert text.layout == small.LAYOUT
    assert list(text.teachers) == ["a", "b"]
    assert (text.teachers["a"].k, text.teachers["a"].temperatures) == (4, (1.0, 2.0))
    assert (text.targets["mix"].teachers, text.targets["mix"].temperature) == (("a", "b"), 1.0)
    assert text.split_names == ("train", "fit", "test")


def test_shards_cover_the_examples(text):
    ranges = [(s.part, s.shard, s.start, s.stop) for s in text.shards()]
    assert ranges == [
        ("v0-0000", 0, 0, 4),
        ("v0-0000", 1, 4, 8),
        ("v0-0000", 2, 8, 10),
        ("v1-0000", 0, 10, 14),
        ("v1-0000", 1, 14, 18),
        ("v1-0000", 2, 18, 20),
    ]


@pytest.mark.parametrize(("start", "stop"), [(0, 20), (0, 1), (3, 5), (9, 11), (5, 17), (20, 20)])
@pytest.mark.parametrize("name", ["a", "b"])
def test_teachers_read_what_was_encoded(text, small, name, start, stop):
    read = text.teachers[name].read(start, stop)
    for field, values in expected_teacher(small, name).items():
        np.testing.assert_array_equal(read[field], values[start:stop], err_msg=field)
    assert {field: read[field].dtype.name for field in array_names(TeacherArrays)} == {
        "ids": "int32",
        "logprobs": "float32",
        "n_valid": "int32",
        "tail": "float32",
        "logsumexp": "float32",
        "entropy": "float32",
        "gold_logprob": "float32",
        "gold_rank": "uint32",
    }


def test_targets_read_what_was_encoded(text, small):
    read = text.targets["mix"].read(9, 20)
    stored = encode_target(small.target_arrays(1), small.TARGET, small.ORDER)
    expected = decode_target(stored, small.TARGET, small.ORDER)
    for field in expected.keys():  # noqa: SIM118
        np.testing.assert_array_equal(read[field][1:], expected[field], err_msg=field)


def test_unused_slots_are_nan_and_zero(text):
    read = text.teachers["a"].read(0, 20)
    unused = read.n_valid == 0
    assert unused.any()
    assert not unused.all()
    for field in array_names(TeacherArrays):
        values = read[field][unused]
        assert np.isnan(values).all() if values.dtype.kind == "f" else not values.any(), field
        if values.dtype.kind == "f":
            assert not np.isnan(read[field][~unused]).any(), field


@pytest.mark.parametrize(("start", "stop"), [(0, 20), (3, 12), (7, 8), (4, 4)])
def test_examples_are_segments_with_their_slots(text, small, start, stop):
    read = text.examples.read(start, stop)
    segments = small.segment_rows()
    for row, example in enumerate(range(start, stop)):
        ids = segments.input_ids[example % 10].copy()
        slots = small.slot_rows(example // 10)
        places = slots.positions[example % 10]
        ids[places] = slots.inputs[example % 10]
        count = len(places)
        assert read.input_ids[row].tolist() == [*ids, *[1] * (12 - ids.size)]
        assert read.attention_mask[row].tolist() == [1] * ids.size + [0] * (12 - ids.size)
        assert read.slot_mask[row].tolist() == [True] * count + [False] * (3 - count)
        assert read.slot_positions[row].tolist() == [*places, *[0] * (3 - count)]
        assert read.gold_ids[row].tolist() == [*slots.gold[example % 10], *[0] * (3 - count)]
    assert read.input_ids.shape == (stop - start, 12)
    assert read.gold_ids.shape == (stop - start, 3)
    assert not read.token_type_ids.any()
    assert text.examples.splits(start, stop).tolist() == [n % 10 % 3 for n in range(start, stop)]


def test_segments_come_back(text, small):
    read, written = text.examples.segments(8, 12), small.segment_rows()
    order = [8, 9, 0, 1]
    assert [row.tolist() for row in read.input_ids] == [
        written.input_ids[n].tolist() for n in order
    ]
    assert [r.tolist() for r in read.word_starts] == [
        written.word_starts[n].tolist() for n in order
    ]
    assert read.spans == [written.spans[n] for n in order]
    assert read.splits.tolist() == [2, 0, 0, 1]


def test_documents_are_found_across_files_without_any(text):
    found = text.examples.documents([6, 0, 2, 3, 3])
    assert {number: row.id for number, row in found.items()} == {n: f"d{n}" for n in (0, 2, 3, 6)}
    for number in (7, 100):
        with pytest.raises(IncompleteCacheError, match=f"no document {number}"):
            text.examples.documents([number])


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (0, 21), (3, 2), (21, 21)])
def test_ranges_outside_are_refused(text, start, stop):
    for reader in (text.examples, text.teachers["a"], text.targets["mix"]):
        with pytest.raises(CkdCacheError, match="0 <= start <= stop <= 20"):
            reader.read(start, stop)


def test_readers_travel_to_other_processes(text):
    teacher = text.teachers["a"]
    teacher.read(0, 1)
    again = pickle.loads(pickle.dumps(teacher))
    np.testing.assert_array_equal(again.read(3, 12).ids, teacher.read(3, 12).ids)


def test_an_unfilled_part_is_incomplete(copy):
    with CacheWriter.begin(copy) as writer:
        assert writer.manifest is not None
        text = writer.manifest.sets["text"]
        a = text.teachers["a"]
        a = a.model_copy(update={"parts": {"v0-0000": a.parts["v0-0000"]}})
        text = text.model_copy(update={"teachers": {"a": a}, "targets": {}})
        writer.commit(writer.manifest.model_copy(update={"sets": {"text": text}}))
    teacher = open_cache(copy).set("text").teachers["a"]
    assert len(teacher.read(0, 10)) == 10
    with pytest.raises(IncompleteCacheError) as found:
        teacher.read(9, 11)
    assert "teacher a has nothing yet for part v1-0000" in str(found.value)
    assert f"`ckd-cache build RECIPE --cache {copy}`" in str(found.value)
    assert "ckd-cache merge" not in str(found.value)


def test_an_unfinished_target_names_both_commands_that_may_have_made_it(copy):
    with CacheWriter.begin(copy) as writer:
        assert writer.manifest is not None
        text = writer.manifest.sets["text"]
        mix = text.targets["mix"].model_copy(update={"parts": {}})
        text = text.model_copy(update={"targets": {"mix": mix}})
        writer.commit(writer.manifest.model_copy(update={"sets": {"text": text}}))
    with pytest.raises(IncompleteCacheError) as found:
        open_cache(copy).set("text").targets["mix"].read(0, 1)
    assert f"`ckd-cache build RECIPE --cache {copy}`" in str(found.value)
    assert f"`ckd-cache merge {copy} --name mix …`" in str(found.value)


def test_an_open_reader_outlives_a_commit(copy):
    before = open_cache(copy)
    with CacheWriter.begin(copy) as writer:
        assert writer.manifest is not None
        generation = writer.commit(writer.manifest, extra=[before.files.rows[0]]).generation
    assert generation == before.manifest.generation + 1
    assert len(before.set("text").teachers["a"].read(0, 20)) == 20


def test_absent_caches_say_what_to_type(tmp_path):
    with pytest.raises(CacheNotFoundError, match=r"ckd\.json.*`ckd-cache build RECIPE --cache "):
        open_cache(tmp_path / "none.ckd")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CacheNotFoundError, match=r"holds no ckd\.json"):
        open_cache(tmp_path / "folder")
    (tmp_path / "file").write_text("x")
    with pytest.raises(CacheNotFoundError):
        open_cache(tmp_path / "file")
    (tmp_path / "folder" / "journal").mkdir()
    with pytest.raises(IncompleteCacheError, match=r"interrupted before its first commit"):
        open_cache(tmp_path / "folder")


def test_an_unknown_set_lists_those_there_are(built):
    with pytest.raises(IncompleteCacheError, match=r"no set 'gloss'; it has text"):
        open_cache(built).set("gloss")


def _rewrite(cache, **members):
    stored = manifest._parse((cache / "ckd.json").read_bytes(), "")
    stored.update(members)
    del stored["digest"]
    stored["digest"] = hash_bytes(manifest._text(stored))
    (cache / "ckd.json").write_bytes(manifest._text(stored))


def test_a_newer_format_is_refused_by_both_versions(copy):
    _rewrite(copy, format_version=3, unheard="of")
    with pytest.raises(FormatVersionError, match=r"format version 3; .* up to 2"):
        open_cache(copy)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"format": "ckd-cache", "format_version": 1e400}',
        b'{"format": "ckd-cache", "format_version": true}',
        b'{"format": "ckd-cache", "format_version": 1, "x": ' + b"9" * 5000 + b"}",
        b'{"format": "ckd-cache", "format_version": 1, "x": NaN}',
        b'{"format": "ckd-cache", "format_version": 1, "x": "\\ud800"}',
        b'{"format": "ckd-cache", "format_version": 1, "digest": []}',
        b'{"format": "ckd-cache", "format_version": 1, "x": ' + b"[" * 900 + b"]" * 900 + b"}",
    ],
)
def test_nonsense_in_place_of_a_manifest_is_damage(copy, content):
    (copy / "ckd.json").write_bytes(content)
    with pytest.raises(DamagedCacheError, match=r"ckd\.json"):
        open_cache(copy)


def test_every_flipped_bit_of_a_manifest_is_found(copy):
    data = (copy / "ckd.json").read_bytes()
    for position in range(0, len(data), 37):
        flipped = bytearray(data)
        flipped[position] ^= 1 << position % 8
        (copy / "ckd.json").write_bytes(flipped)
        with pytest.raises((DamagedCacheError, FormatVersionError)):
            open_cache(copy)


@pytest.mark.parametrize(
    "change",
    [
        {"sets": {"../x": {}}},
        {"sets": []},
        {"generation": -1},
        {"generation": 1.5},
        {"unknown": 1},
        {"supports": {}},
        {"files": {"path": "../files-" + "0" * 64 + ".parquet", "bytes": 1, "rows": 1}},
    ],
)
def test_a_manifest_that_makes_no_sense_is_damage(copy, change):
    _rewrite(copy, **change)
    with pytest.raises(DamagedCacheError):
        open_cache(copy)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"shard_examples": 5}, "chunks of 2"),
        ({"support": "0" * 64}, "not listed"),
        ({"segment_tokens": 0}, "segment_tokens"),
        ({"teachers": {"a/../..": {}}}, "teachers"),
    ],
)
def test_a_set_that_makes_no_sense_is_damage(copy, change, found):
    stored = manifest._parse((copy / "ckd.json").read_bytes(), "")
    _rewrite(copy, sets={"text": {**stored["sets"]["text"], **change}})
    with pytest.raises(DamagedCacheError, match=found):
        open_cache(copy)


def test_a_huge_manifest_is_not_even_read(copy):
    with (copy / "ckd.json").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(DamagedCacheError, match="is not read"):
        open_cache(copy)
