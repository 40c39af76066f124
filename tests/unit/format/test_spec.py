from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest

from ckd_cache.format import paths
from ckd_cache.format.files import (
    FileRow,
    FilesTable,
    encode_files,
    files_name,
    merge_files,
    read_files,
)
from ckd_cache.format.manifest import Manifest, dumps, loads
from ckd_cache.format.reader import open_cache
from ckd_cache.format.spec import capture_of, layout_of, shard_count, shard_range


@pytest.mark.parametrize(
    ("slots", "shard", "chunk", "expected"),
    [
        (20, 131_072, 4096, (204, 204 * 32)),
        (5000, 131_072, 4096, (1, 26)),
        (3, 12, 6, (2, 4)),
        (3, 15, 6, (2, 6)),
        (3, 14, 6, (2, 4)),
        (10, 1, 1, (1, 1)),
    ],
)
def test_layouts_follow_the_formula(slots, shard, chunk, expected):
    layout = layout_of(slots, shard, chunk, 100)
    assert (layout.chunk_examples, layout.shard_examples) == expected
    chunks = Decimal(shard) / (slots * layout.chunk_examples)
    wanted = max(1, int(chunks.to_integral_value(ROUND_HALF_UP)))
    assert layout.shard_examples == layout.chunk_examples * wanted


def test_shards_of_a_part():
    layout = layout_of(3, 12, 6, 100)
    assert shard_count(0, layout) == 0
    assert shard_count(10, layout) == 3
    assert [shard_range(n, 10, layout) for n in range(3)] == [(0, 4), (4, 8), (8, 10)]


def test_a_capture_knows_its_step():
    capture = capture_of(32, (1.0, 2.0), 1e-4)
    assert capture.step == pytest.approx(0.0489897948)
    assert not capture.exact
    assert (capture_of(32, (1.0,), 0.0).step, capture_of(32, (1.0,), 0.0).exact) == (0.0, True)


def test_names_are_those_of_the_format():
    assert paths.part_name(3, paths.increment_name(12)) == "v3-0012"
    assert paths.segments_path("text", "0000", 7) == "text/segments/0000/00007.arrow"
    assert paths.documents_path("text", "0000", 7) == "text/segments/0000/documents-00007.arrow"
    assert paths.slots_path("text", "v0-0000", 123_456) == "text/slots/v0-0000/123456.arrow"
    group = paths.teacher_part("text", "a", "v0-0000")
    assert paths.array_shard_path(group, "ids", 3, 12) == "text/teachers/a/v0-0000/ids/c/12/0/0"
    assert paths.target_part("text", "gold", "v0-0000") == "text/targets/gold/v0-0000"


@pytest.mark.parametrize(
    "bad", ["", "/", "/a", "..", "../a", "a/..", "a/../b", ".", "a//b", "a/", "C:x"]
)
def test_paths_that_leave_are_not_safe(bad):
    assert not paths.is_safe(bad)


@pytest.mark.parametrize("good", ["a", "a/b.c", "...", "a..b/c", ".hidden"])
def test_other_paths_are_safe(good):
    assert paths.is_safe(good)


# --- files table --------------------------------------------------------------------------------


def rows(*names):
    return [FileRow(name, name.rsplit("/", 1)[0], 0, len(name), "ab" * 32) for name in names]


def table_of(tmp_path, data) -> FilesTable:
    path = tmp_path / files_name(data)
    path.write_bytes(data)
    return read_files(path)


def test_files_tables_come_back_sorted_and_are_looked_up(tmp_path):
    names = ["b/x/1", "a/é/1", "b/x/0", "b/x-y/0", "b/x0/0", "b/y", "a/z/1", "B/c"]
    table = table_of(tmp_path, encode_files(rows(*names)))
    assert [row.path for row in table.rows] == sorted(names)
    assert set(table.rows) == set(rows(*names))
    assert len(table) == 8
    for row in rows(*names):
        assert table.get(row.path) == row
    assert table.get("b/x") is None
    assert table.get("zzz") is None
    assert [row.path for row in table.of_part("b/x")] == ["b/x/0", "b/x/1"]
    assert table.bytes_of("b/x") == 10
    assert table.bytes_of("b") == sum(len(name) for name in names if name.startswith("b/"))
    assert table.bytes_of("none") == 0
    assert table.parts == ("B", "a/z", "a/é", "b", "b/x", "b/x-y", "b/x0")


def test_merging_replaces_and_adds(tmp_path):
    before = table_of(tmp_path, encode_files(rows("a", "b")))
    changed = FileRow("b", "p", 3, 99, "cd" * 32)
    data = merge_files(before, [*rows("c"), changed])
    assert list(table_of(tmp_path, data).rows) == [*rows("a"), changed, *rows("c")]
    assert data == encode_files([changed, *rows("c", "a")])


def test_an_empty_files_table(tmp_path):
    table = table_of(tmp_path, encode_files([]))
    assert (len(table), table.rows, table.get("a"), table.of_part("a")) == (0, (), None, [])


# --- manifest -----------------------------------------------------------------------------------


def test_manifests_come_back(built):
    stored = (built / "ckd.json").read_bytes()
    manifest = loads(stored, "here")
    assert dumps(manifest) == stored
    text = stored.decode()
    assert text.startswith('{\n "complete": true,\n "digest": "')
    assert text.endswith("}\n")
    assert "Ökonomie" in text
    assert " \n" not in text


def test_unknown_members_and_coercions_are_refused():
    members: dict[str, Any] = {
        "complete": True,
        "recipe": {},
        "supports": {},
        "sets": {},
        "provenance": {},
    }
    Manifest(**members)
    changes: tuple[dict[str, Any], ...] = (
        {"x": 1},
        {"complete": "yes"},
        {"generation": "1"},
        {"sets": {"..": {}}},
    )
    for change in changes:
        with pytest.raises(ValueError, match="validation error"):
            Manifest(**{**members, **change})


def test_supports_come_back(built, small):
    reader = open_cache(built)
    support = reader.supports[small.SUPPORT]
    assert (support.record.size, support.record.mask_id, support.record.pad_id) == (50, 3, 1)
    assert dict(support.files.special) == small.SPECIAL
    assert (built / f"supports/{small.SUPPORT}/tokenizer.json").read_bytes() == b'{"made": "up"}'


def test_orders_are_by_frequency_of_the_kept_ids_then_id(small):
    from ckd_cache.format.encode import order_of

    arrays = small.teacher_arrays("a", 0)
    order = order_of(arrays, 50).tolist()
    kept = [
        token
        for ids, n in zip(arrays.ids.reshape(-1, 4), arrays.n_valid.ravel(), strict=True)
        for token in ids[:n].tolist()
    ]
    assert order == sorted(range(50), key=lambda token: (-kept.count(token), token))
    assert order_of(arrays, 70_000).dtype.name == "uint32"
