"""Round trips of the format under arbitrary shapes, and journals cut anywhere."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from hypothesis import given
from hypothesis import strategies as st

from ckd_cache.format import arrow_io, shards, zarr_io
from ckd_cache.format.encode import decode_teacher, encode_teacher
from ckd_cache.format.files import FileRow, FilesTable, encode_files, files_name, read_files
from ckd_cache.format.journal import Journal, ShardLine, journal_path
from ckd_cache.format.manifest import Manifest, dumps, loads
from ckd_cache.format.paths import array_shard_path
from ckd_cache.format.ranges import pieces_of, shard_ranges
from ckd_cache.format.spec import Layout, capture_of, shard_count, shard_range, teacher_specs
from ckd_cache.numerics.topk import reference_distributions
from ckd_cache.types import TeacherArrays, array_names

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)
json_objects = st.dictionaries(st.text(st.characters(codec="utf-8")), json_values, max_size=3)


@given(json_objects, json_objects)
def test_manifests_keep_any_recipe(recipe, provenance):
    manifest = Manifest(complete=True, recipe=recipe, supports={}, sets={}, provenance=provenance)
    data = dumps(manifest)
    assert loads(data, "here") == manifest
    assert dumps(loads(data, "here")) == data


layouts = st.builds(
    lambda slots, chunk, chunks: Layout(slots, chunk, chunk * chunks, 40),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 3),
)


@given(
    layouts,
    st.integers(1, 14),
    st.floats(0, 1),
    st.sampled_from([0.0, 1e-4, 1e-9]),
    st.integers(0, 99),
)
def test_teachers_written_by_shards_come_back(layout, examples, density, max_nats, seed):
    rng = np.random.default_rng(seed)
    capture = capture_of(int(rng.integers(1, 9)), (2.0, 1.0), max_nats)
    order = rng.permutation(40)
    arrays = _teacher(rng, layout, examples, density, capture)
    stored = encode_teacher(arrays, capture, order)
    specs = teacher_specs(capture, 40)
    with tempfile.TemporaryDirectory() as folder:
        files = zarr_io.describe("g", specs, layout, examples, order)
        for shard in range(shard_count(examples, layout)):
            start, stop = shard_range(shard, examples, layout)
            cut = {name: values[start:stop] for name, values in stored.items()}
            files |= zarr_io.encode_shard("g", specs, layout, examples, shard, cut)
        for path, data in files.items():
            (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / path).write_bytes(data)
        i, j = sorted(rng.integers(0, examples + 1, 2).tolist())
        group = zarr.open_group(Path(folder) / "g", mode="r", zarr_format=3)
        read = {spec.name: _read(Path(folder), spec, layout, i, j) for spec in specs}
        for name, values in read.items():
            np.testing.assert_array_equal(values, stored[name][i:j], name)
            np.testing.assert_array_equal(values, np.asarray(group[name][i:j]), name)
        np.testing.assert_array_equal(np.asarray(group["order"]), order)
    decoded, kept = (
        decode_teacher(read, capture, order),
        arrays.n_valid[i:j, :, None] > np.arange(capture.k),
    )
    np.testing.assert_array_equal(decoded.ids[kept], arrays.ids[i:j][kept])
    np.testing.assert_array_equal(decoded.n_valid, arrays.n_valid[i:j])
    allowed = max(capture.step, 1e-6) * 1.02
    np.testing.assert_allclose(
        decoded.logprobs[kept], arrays.logprobs[i:j][kept], atol=allowed, rtol=1e-3
    )


def _read(folder, spec, layout, i, j):
    chunks = [np.zeros(spec.shape(0, layout.slots), spec.dtype)]
    first = 0
    while first < j:
        path = folder / array_shard_path(
            "g", spec.name, len(spec.dimension_names), first // layout.shard_examples
        )
        stop = min(j - first, layout.shard_examples)
        if i < first + layout.shard_examples:
            chunks += shards.read_chunks(path, spec, layout, max(i - first, 0), stop)
        first += layout.shard_examples
    return np.concatenate(chunks)


def _teacher(rng, layout, examples, density, capture):
    used = rng.random((examples, layout.slots)) < density
    logits = rng.normal(scale=rng.choice([0.1, 3.0, 30.0]), size=(int(used.sum()), 40))
    logits[:, 5:][rng.random((len(logits), 35)) < 0.3] = -np.inf
    dense = reference_distributions(
        logits, rng.integers(0, 40, len(logits)), capture.k, capture.temperatures
    )
    arrays = {}
    for name in array_names(TeacherArrays):
        values = np.asarray(getattr(dense, name))
        fill = np.nan if values.dtype.kind == "f" else 0
        arrays[name] = np.full((*used.shape, *values.shape[1:]), fill, values.dtype)
        arrays[name][used] = values
    return TeacherArrays(**arrays)


ragged = st.lists(st.lists(st.integers(0, 39), max_size=6), max_size=9)


@given(layouts, ragged, st.data())
def test_slots_come_back(layout, lists, data):
    rows = [np.array(row, np.int64) for row in lists]
    encoded = arrow_io.encode_slots(arrow_io.SlotRows(rows, rows, rows), layout)
    assert encoded == arrow_io.encode_slots(arrow_io.SlotRows(rows, rows, rows), layout)
    i = data.draw(st.integers(0, len(lists)))
    j = data.draw(st.integers(i, len(lists)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.arrow"
        path.write_bytes(encoded)
        read = arrow_io.read_slots(path, i, j, layout.chunk_examples)
    for column in (read.positions, read.inputs, read.gold):
        assert [row.tolist() for row in column] == lists[i:j]


names = st.lists(
    st.lists(st.text("ab-0é", min_size=1, max_size=3), min_size=1, max_size=3).map("/".join),
    unique=True,
)


@given(names, st.text("ab-0é", min_size=1, max_size=3))
def test_files_tables_find_what_is_there(paths, folder):
    rows = [FileRow(path, "p", -1, len(path), "0f" * 32) for path in paths]
    data = encode_files(rows)
    assert encode_files(reversed(rows)) == data
    with tempfile.TemporaryDirectory() as there:
        path = Path(there) / files_name(data)
        path.write_bytes(data)
        table: FilesTable = read_files(path)
    assert {row.path for row in table.of_part(folder)} == {
        p for p in paths if p.startswith(f"{folder}/")
    }
    for row in rows:
        assert table.get(row.path) == row
    assert (table.get(folder) is None) == (folder not in paths)


@given(json_objects, json_objects, st.lists(json_objects, max_size=4), st.data())
def test_a_journal_cut_anywhere_keeps_its_whole_lines(identity, profile, stats, data):
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        journal = Journal.open(cache, "a/b", identity, profile)
        ends = [journal.path.stat().st_size]
        for shard, stat in enumerate(stats):
            journal.append(ShardLine(shard, [], stat))
            ends.append(journal.path.stat().st_size)
        whole = journal_path(cache, "a/b").read_bytes()
        cut = data.draw(st.integers(ends[0], len(whole)))
        journal.path.write_bytes(whole[:cut])
        again = Journal.open(cache, "a/b", identity, {})
        kept = sum(end <= cut for end in ends) - 1
        assert again.lines == [
            ShardLine(n, [], json.loads(json.dumps(stats[n]))) for n in range(kept)
        ]
        assert again.profile == profile
        for shard in range(kept, len(stats)):
            again.append(ShardLine(shard, [], stats[shard]))
        assert journal.path.read_bytes() == whole


@given(layouts, st.lists(st.integers(0, 9), min_size=1, max_size=4), st.data())
def test_pieces_cover_a_range_once(layout, sizes, data):
    from types import SimpleNamespace

    parts, first = [], 0
    for number, size in enumerate(sizes):
        parts.append(SimpleNamespace(name=f"v{number}-0000", first_example=first, examples=size))
        first += size
    record: Any = SimpleNamespace(parts=parts)
    start = data.draw(st.integers(0, first))
    stop = data.draw(st.integers(start, first))
    covered: list[int] = []
    for piece in pieces_of(record, layout, start, stop):
        assert shard_range(piece.shard, piece.part.examples, layout)[0] == piece.shard_start
        assert piece.start // layout.shard_examples == (piece.stop - 1) // layout.shard_examples
        covered += range(
            piece.part.first_example + piece.start, piece.part.first_example + piece.stop
        )
    assert covered == list(range(start, stop))
    numbers = [n for s in shard_ranges(record, layout) for n in range(s.start, s.stop)]
    assert numbers == list(range(first))
