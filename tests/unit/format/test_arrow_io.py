from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from ckd_cache.format import arrow_io
from ckd_cache.format.spec import Layout, id_dtype

LAYOUT = Layout(slots=3, chunk_examples=4, shard_examples=8, support_size=300)


def file_in(tmp_path, data):
    path = tmp_path / "file.arrow"
    path.write_bytes(data)
    return path


def segments(count):
    rng = np.random.default_rng(count)
    ids = [rng.integers(0, 300, n % 5) for n in range(count)]
    spans = [[arrow_io.Span(2**40 + n, 0, n % 5, 0, 2**33)] * (n % 3) for n in range(count)]
    words = [row % 2 == 0 for row in ids]
    return arrow_io.SegmentRows(ids, words, spans, np.arange(count, dtype=np.uint8) % 3)


def test_segments_are_in_batches_of_a_chunk_with_the_documented_types(tmp_path):
    path = file_in(tmp_path, arrow_io.encode_segments(segments(10), LAYOUT))
    with pa.OSFile(str(path)) as file:
        reader = pa.ipc.open_file(file)
        assert [reader.get_batch(n).num_rows for n in range(reader.num_record_batches)] == [4, 4, 2]
        types = {field.name: str(field.type) for field in reader.schema}
    assert types == {
        "input_ids": "list<item: uint16>",
        "word_starts": "list<item: bool>",
        "spans": "list<item: struct<document: uint64, token_start: uint32, token_end: uint32,"
        " char_start: uint64, char_end: uint64>>",
        "split": "uint8",
    }


def test_buffers_are_compressed_and_metadata_is_version_5(tmp_path):
    rows = arrow_io.SlotRows(
        [np.arange(500)] * 8, [np.zeros(500, int)] * 8, [np.ones(500, int)] * 8
    )
    data = arrow_io.encode_slots(rows, LAYOUT)
    assert len(data) < 8 * 500 * 2
    message = pa.ipc.read_message(pa.BufferReader(data[8:]))
    assert message.metadata_version == pa.ipc.MetadataVersion.V5
    types = {f.name: str(f.type) for f in pa.ipc.open_file(pa.BufferReader(data)).schema}
    assert types == dict.fromkeys(["positions", "inputs", "gold"], "list<item: uint16>")


@pytest.mark.parametrize("chunk", [None, 4])
@pytest.mark.parametrize(
    ("start", "stop"), [(0, 10), (3, 5), (4, 8), (9, 10), (0, 0), (10, 10), (4, 4)]
)
def test_any_range_of_segments_comes_back(tmp_path, chunk, start, stop):
    rows = segments(10)
    path = file_in(tmp_path, arrow_io.encode_segments(rows, LAYOUT))
    read = arrow_io.read_segments(path, start, stop, chunk)
    assert [row.tolist() for row in read.input_ids] == [
        r.tolist() for r in rows.input_ids[start:stop]
    ]
    words = [row.tolist() for row in rows.word_starts[start:stop]]
    assert [row.tolist() for row in read.word_starts] == words
    assert read.spans == rows.spans[start:stop]
    assert read.splits.tolist() == rows.splits[start:stop].tolist()
    assert all(row.dtype == np.uint16 for row in read.input_ids)
    assert arrow_io.read_splits(path, start, stop, chunk).tolist() == read.splits.tolist()


def test_no_segments_at_all_come_back(tmp_path):
    empty = arrow_io.SegmentRows([], [], [], np.zeros(0, np.uint8))
    path = file_in(tmp_path, arrow_io.encode_segments(empty, LAYOUT))
    assert len(arrow_io.read_segments(path, 0, 0)) == 0


@pytest.mark.parametrize(("start", "stop"), [(0, 11), (11, 12), (9, 13)])
def test_rows_beyond_the_end_are_an_error(tmp_path, start, stop):
    path = file_in(tmp_path, arrow_io.encode_segments(segments(10), LAYOUT))
    for chunk in (None, 4):
        with pytest.raises(pa.ArrowInvalid, match="not all there"):
            arrow_io.read_segments(path, start, stop, chunk)


def test_another_file_is_an_error(tmp_path):
    path = file_in(tmp_path, arrow_io.encode_documents([]))
    with pytest.raises(pa.ArrowInvalid, match="it has the columns"):
        arrow_io.read_slots(path, 0, 0)


def test_documents_come_back(tmp_path):
    rows = [arrow_io.DocumentRow(n, f"ü/{n}", "s", "g", n % 3, 2**40) for n in range(5000)]
    path = file_in(tmp_path, arrow_io.encode_documents(rows))
    assert arrow_io.read_documents(path) == rows
    with pa.OSFile(str(path)) as file:
        reader = pa.ipc.open_file(file)
        assert [reader.get_batch(n).num_rows for n in range(reader.num_record_batches)] == [
            4096,
            904,
        ]
    assert arrow_io.read_documents(file_in(tmp_path, arrow_io.encode_documents([]))) == []


@pytest.mark.parametrize("bad", [-1, 300, 65_536 + 5])
def test_ids_outside_the_support_are_refused(bad):
    with pytest.raises(ValueError, match="do not fit a support of 300"):
        arrow_io.encode_slots(
            arrow_io.SlotRows([np.array([0])], [np.array([bad])], [np.array([0])]), LAYOUT
        )


def test_positions_beyond_uint16_are_refused():
    one = [np.array([1])]
    with pytest.raises(ValueError, match="65536 do not fit uint16"):
        arrow_io.encode_slots(arrow_io.SlotRows([np.array([65_536])], one, one), LAYOUT)


@pytest.mark.parametrize(
    ("size", "wanted"), [(65_535, "uint16"), (65_536, "uint16"), (65_537, "uint32")]
)
def test_the_largest_id_of_a_support_survives(tmp_path, size, wanted):
    layout = Layout(slots=1, chunk_examples=2, shard_examples=2, support_size=size)
    assert id_dtype(size) == wanted
    largest = [np.array([0, size - 1])]
    rows = arrow_io.SlotRows([np.array([1, 2])], largest, largest)
    path = file_in(tmp_path, arrow_io.encode_slots(rows, layout))
    (gold,) = arrow_io.read_slots(path, 0, 1).gold
    assert gold.tolist() == [0, size - 1]
    assert gold.dtype.name == wanted
