"""Whatever happens to the bytes of a cache, a read says so and never gives other numbers."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ckd_cache.errors import DamagedCacheError, StorageError
from ckd_cache.format.files import FileRow, encode_files, files_name, read_files
from ckd_cache.format.presence import refuse_missing_files
from ckd_cache.format.reader import open_cache

A_SHARD = "text/teachers/a/v0-0000/logprobs/c/1/0/0"
SEGMENTS = "text/segments/0000/00001.arrow"
SLOTS = "text/slots/v0-0000/00001.arrow"


def read_everything(path):
    cache = open_cache(path)
    assert all(support.files for support in cache.supports.values())
    text = cache.set("text")
    text.examples.read(0, 20)
    text.examples.segments(0, 20)
    text.examples.documents(range(7))
    for teacher in text.teachers.values():
        teacher.read(0, 20)
    for target in text.targets.values():
        target.read(0, 20)


def files_read(path):
    rows = open_cache(path).files.rows
    return [row for row in rows if not row.path.endswith(("tokenizer.json", "0000/zarr.json"))]


def test_every_file_is_read_by_something(built):
    rows = files_read(built)
    assert len(rows) == 1 + 6 + 6 + 2 * (8 * 4 + 2) * 2 + 2 * (7 * 4 + 2)
    read_everything(built)


def test_a_missing_file_is_damage(copy):
    for row in files_read(copy)[::15]:
        (copy / row.path).rename(copy / "aside")
        advice = f"verify {copy} --repair .*from a copy.*delete the folder {copy}"
        with pytest.raises(DamagedCacheError, match=f"{row.path}.*missing.*{advice}"):
            read_everything(copy)
        (copy / "aside").rename(copy / row.path)


def test_a_shortened_or_grown_file_is_damage(copy):
    for row in files_read(copy)[3::40]:
        data = (copy / row.path).read_bytes()
        for other in (data[:-1], b"", data + b"\0"):
            (copy / row.path).write_bytes(other)
            with pytest.raises(DamagedCacheError, match=f"{row.path}.*{row.bytes} were written"):
                read_everything(copy)
        (copy / row.path).write_bytes(data)


def flips(data):
    return range(0, len(data), max(1, len(data) // 40))


@pytest.mark.parametrize("name", ["ids", "logprobs", "n_valid", "tail", "gold_logprob"])
def test_every_flipped_bit_of_a_shard_is_found(copy, name):
    teacher = open_cache(copy).set("text").teachers["a"]
    path = (
        copy
        / f"text/teachers/a/v0-0000/{name}/c/0"
        / ("0" if "gold" in name or "n_" in name else "0/0")
    )
    data = path.read_bytes()
    for position in flips(data):
        flipped = bytearray(data)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        with pytest.raises(DamagedCacheError, match=rf"{name}.*shard 0, examples 0 to 3"):
            teacher.read(0, 10)
    path.write_bytes(data)
    assert len(teacher.read(0, 10)) == 10


@pytest.mark.parametrize("relative", [SEGMENTS, SLOTS, "text/segments/0000/documents-00000.arrow"])
def test_every_flipped_bit_of_an_arrow_file_is_found(copy, relative):
    data = (copy / relative).read_bytes()
    for position in flips(data):
        flipped = bytearray(data)
        flipped[position] ^= 1 << position % 8
        (copy / relative).write_bytes(flipped)
        with pytest.raises(DamagedCacheError, match=rf"{relative}.*sha256"):
            read_everything(copy)


def test_an_arrow_file_that_changes_after_it_was_verified_is_found(copy):
    text = open_cache(copy).set("text")
    text.examples.read(4, 8)
    data = bytearray((copy / SLOTS).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "fresh").write_bytes(data)
    (copy / "fresh").rename(copy / SLOTS)
    with pytest.raises(DamagedCacheError, match="sha256"):
        text.examples.read(4, 8)


def test_damage_is_named_with_shard_and_examples_of_the_set(copy):
    path = copy / "text/targets/mix/v1-0000/weights/c/1/0/0"
    data = bytearray(path.read_bytes())
    data[0] ^= 255
    path.write_bytes(data)
    target = open_cache(copy).set("text").targets["mix"]
    target.read(0, 14)
    wanted = rf"{copy}: text/targets/mix/v1-0000/weights/c/1/0/0 \(shard 1, examples 14 to 17\)"
    with pytest.raises(DamagedCacheError, match=wanted):
        target.read(0, 20)


def test_metadata_of_another_array_is_damage_even_with_its_hash(copy):
    group = copy / "text/teachers/a/v0-0000"
    shutil.copy(group / "tail/zarr.json", group / "entropy/zarr.json")
    _fix_files_table(copy)
    open_cache(copy).set("text").teachers["a"].read(0, 10)
    shutil.copy(group / "ids/zarr.json", group / "logprobs/zarr.json")
    _fix_files_table(copy)
    with pytest.raises(
        DamagedCacheError, match=r"logprobs/zarr\.json.*does not describe the array"
    ):
        open_cache(copy).set("text").teachers["a"].read(0, 10)


def _fix_files_table(cache):
    """Make the files table fit whatever is there now, as a hostile writer would."""
    from ckd_cache.fingerprint import hash_file
    from ckd_cache.format.workspace import CacheWriter

    with CacheWriter.begin(cache) as writer:
        assert writer.manifest is not None
        rows = read_files(cache / writer.manifest.files.path).rows
        actual = [
            FileRow(
                r.path, r.part, r.shard, (cache / r.path).stat().st_size, hash_file(cache / r.path)
            )
            for r in rows
        ]
        writer.commit(writer.manifest, extra=actual)


@pytest.mark.parametrize(
    ("relative", "content"),
    [
        ("text/teachers/a/v0-0000/tail/zarr.json", b"[" * 50_000),
        ("text/teachers/a/v0-0000/tail/zarr.json", b"null"),
        (SEGMENTS, b"ARROW1\0\0" + b"\xff" * 500),
        (SLOTS, b""),
        ("text/segments/0000/documents-00000.arrow", b"ARROW1"),
        ("text/teachers/a/v0-0000/order/c/0", b"nonsense"),
        (f"supports/{'%s'}/support.json", b"[1"),
        (A_SHARD, b"\0" * 400),
    ],
)
def test_hostile_bytes_with_the_right_hash_are_damage(copy, small, relative, content):
    relative = relative.replace("%s", small.SUPPORT)
    (copy / relative).write_bytes(content)
    _fix_files_table(copy)
    with pytest.raises(DamagedCacheError):
        read_everything(copy)


def test_swapped_segments_with_the_right_hash_are_damage(copy):
    """Slots that point beyond their segment, as a hostile writer would make them."""
    shutil.copy(copy / "text/slots/v1-0000/00000.arrow", copy / SLOTS)
    shutil.copy(copy / "text/segments/0000/00002.arrow", copy / SEGMENTS)
    _fix_files_table(copy)
    with pytest.raises(DamagedCacheError, match=r"00001\.arrow"):
        read_everything(copy)


def test_links_that_lead_out_are_refused(copy, tmp_path):
    outside = tmp_path / "outside"
    shutil.copy(copy / SLOTS, outside)
    (copy / SLOTS).unlink()
    (copy / SLOTS).symlink_to(outside)
    with pytest.raises(DamagedCacheError, match="leads out of the cache"):
        read_everything(copy)


def test_a_cache_reached_through_a_link_is_fine(copy, tmp_path):
    (tmp_path / "link.ckd").symlink_to(copy)
    read_everything(tmp_path / "link.ckd")


def test_a_damaged_or_missing_files_table_is_named(copy):
    path = copy / open_cache(copy).manifest.files.path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(DamagedCacheError, match=r"files-.*not those that were written"):
        read_everything(copy)
    path.unlink()
    with pytest.raises(DamagedCacheError, match="open the cache again"):
        read_everything(copy)


@pytest.mark.parametrize("bad", ["../x", "/etc/passwd", "a/../../b", "a//b", "./a", "a\\b", ""])
def test_files_tables_that_name_paths_outside_are_refused(tmp_path, bad, built):
    data = encode_files([FileRow(bad, "p", 0, 1, "0" * 64), FileRow("x", "p", 0, 1, "0" * 64)])
    path = tmp_path / files_name(data)
    path.write_bytes(data)
    with pytest.raises(DamagedCacheError, match="leads out of the cache"):
        read_files(path)


def stored_table(folder, rows):
    data = encode_files(rows)
    path = folder / files_name(data)
    path.write_bytes(data)
    return path


def test_a_files_table_with_other_rows_than_the_manifest_says_is_refused(tmp_path):
    path = stored_table(tmp_path, [FileRow(name, "p", 0, 1, "0" * 64) for name in "xy"])
    assert len(read_files(path, 2)) == len(read_files(path)) == 2
    with pytest.raises(DamagedCacheError, match="it has 2 rows, the manifest says 3"):
        read_files(path, 3)


def test_a_files_table_that_would_fill_the_memory_is_not_read(tmp_path):
    fine = stored_table(tmp_path, [FileRow("x" * 1_000_000, "p", 0, 1, "0" * 64)])
    assert len(read_files(fine)) == 1
    bomb = stored_table(tmp_path, [FileRow("x" * 50_000_000, "p", 0, 1, "0" * 64)])
    assert bomb.stat().st_size < 100_000
    before = pa.total_allocated_bytes(), pa.default_memory_pool().max_memory()
    with pytest.raises(DamagedCacheError, match=r"its 1 rows would take [0-9,]{10,} bytes"):
        read_files(bomb, 1)
    assert (pa.total_allocated_bytes(), pa.default_memory_pool().max_memory()) == before


def test_reading_a_files_table_starts_no_thread(tmp_path):
    """A thread of Arrow's pool sometimes aborts the interpreter when this one ends."""
    path = stored_table(tmp_path, [FileRow(name, "p", 0, 1, "0" * 64) for name in "xyz"])
    script = (
        "import os, sys; from pathlib import Path\n"
        "from ckd_cache.format.files import read_files\n"
        "before = set(os.listdir('/proc/self/task'))\n"
        "read_files(Path(sys.argv[1]), 3)\n"
        "sys.exit(len(set(os.listdir('/proc/self/task')) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3] / "pipeline")},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0


def test_messages_name_the_repair_before_anything_is_deleted(copy):
    (copy / A_SHARD).unlink()
    with pytest.raises(DamagedCacheError) as found:
        refuse_missing_files(open_cache(copy))
    assert f"`ckd-cache verify {copy} --repair --recipe RECIPE`, or restore" in str(found.value)
    assert "delete" not in str(found.value)
    (copy / open_cache(copy).manifest.files.path).write_bytes(b"")
    with pytest.raises(DamagedCacheError) as found:
        read_everything(copy)
    message = str(found.value)
    places = [message.index(word) for word in ("copy", f"{copy} --repair", "last resort", "delete")]
    assert places == sorted(places)


def test_tables_that_are_no_files_table_are_refused(tmp_path):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": [1]}), sink)
    for data in (b"", b"PAR1", sink.getvalue().to_pybytes()):
        path = tmp_path / files_name(data)
        path.write_bytes(data)
        with pytest.raises(DamagedCacheError):
            read_files(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
def test_reading_needs_no_write_permission(copy):
    for folder, _, names in os.walk(copy):
        Path(folder).chmod(0o555)
        for name in names:
            (Path(folder) / name).chmod(0o444)
    read_everything(copy)
    assert np.isfinite(open_cache(copy).set("text").teachers["a"].read(0, 1).n_valid).all()


def test_a_folder_in_place_of_a_file_is_damage(copy):
    row = open_cache(copy).files.get(A_SHARD)
    (copy / A_SHARD).unlink()
    (copy / A_SHARD).mkdir()
    with pytest.raises(DamagedCacheError, match=f"{row.bytes} were written"):
        read_everything(copy)


def test_a_system_out_of_descriptors_is_no_damage(copy):
    text = open_cache(copy).set("text")
    text.examples.read(0, 4)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.raises(StorageError, match=r"could not read it: Too many open files"):
            text.examples.read(8, 10)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    text.examples.read(8, 10)
