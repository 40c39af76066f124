"""The small cache with nothing wrong in it, and ways to make one thing of it wrong.

The small cache is made up: its documents do not fit its segments, and its stats are no sums.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from tests.unit.format import small_cache as small

from ckd_cache.fingerprint import hash_bytes
from ckd_cache.format import arrow_io, paths, zarr_io
from ckd_cache.format.files import FileRow, encode_files, files_name
from ckd_cache.format.findings import Finding, Verification
from ckd_cache.format.manifest import FilesRecord, Manifest, SetRecord, dumps
from ckd_cache.format.reader import SetReader, TargetReader, TeacherReader, open_cache
from ckd_cache.format.spec import MANIFEST_NAME, shard_count, shard_range
from ckd_cache.format.stats import target_stats, teacher_stats
from ckd_cache.format.verify import verify_cache
from ckd_cache.types import Array

Owner = tuple[str, str]
"""``teachers`` or ``targets``, and a name."""
SPLITS = np.array([(n % 7) % 3 for n in range(small.SEGMENTS)], dtype=np.uint8)
SHARDS = range(shard_count(small.SEGMENTS, small.LAYOUT))


def make(path: Path) -> None:
    """Build the small cache and put right what is made up."""
    small.build(path)
    text: dict[str, bytes] = {}
    for shard in SHARDS:
        text |= segments_file(shard, small.segment_rows())
        text |= documents_file(shard, documents(shard))
    rewrite(path, text)
    rewrite(path, {}, lambda manifest: _with_sums(path, manifest))


def segments_file(shard: int, rows: arrow_io.SegmentRows, size: int = 50) -> dict[str, bytes]:
    """A file of segments; ``size`` is the support that its ids are held against."""
    start, stop = shard_range(shard, small.SEGMENTS, small.LAYOUT)
    splits = SPLITS if np.array_equal(rows.splits, small.segment_rows().splits) else rows.splits
    cut = arrow_io.SegmentRows(
        rows.input_ids[start:stop],
        rows.word_starts[start:stop],
        rows.spans[start:stop],
        splits[start:stop],
    )
    layout = replace(small.LAYOUT, support_size=size)
    return {paths.segments_path("text", "0000", shard): arrow_io.encode_segments(cut, layout)}


def documents(shard: int) -> list[arrow_io.DocumentRow]:
    """The documents that a shard lists; 0-2, none, and 3-6."""
    first = sum(small.ARTICLES[:shard])
    return [
        arrow_io.DocumentRow(n, f"d{n}", "books", "fiction", n % 3, 100)
        for n in range(first, first + small.ARTICLES[shard])
    ]


def documents_file(shard: int, rows: list[arrow_io.DocumentRow]) -> dict[str, bytes]:
    """A file of documents."""
    return {paths.documents_path("text", "0000", shard): arrow_io.encode_documents(rows)}


def slots_file(view: int, shard: int, rows: arrow_io.SlotRows, size: int = 50) -> dict[str, bytes]:
    """A file of slots; ``size`` is the support that its ids are held against."""
    start, stop = shard_range(shard, small.SEGMENTS, small.LAYOUT)
    cut = arrow_io.SlotRows(
        rows.positions[start:stop], rows.inputs[start:stop], rows.gold[start:stop]
    )
    name = paths.part_name(view, "0000")
    layout = replace(small.LAYOUT, support_size=size)
    return {paths.slots_path("text", name, shard): arrow_io.encode_slots(cut, layout)}


def stored_of(cache: Path, owner: Owner, view: int, shard: int) -> dict[str, Array]:
    """Stored arrays of one shard of a teacher or target, to be changed."""
    stored = _reader_of(cache, owner).stored
    start, stop = shard_range(shard, small.SEGMENTS, small.LAYOUT)
    (piece,) = stored.pieces(view * small.SEGMENTS + start, view * small.SEGMENTS + stop)
    chunks = list(stored.read(piece))
    return {array: np.concatenate([chunk[array] for chunk in chunks]) for array in chunks[0]}


def shard_files(
    cache: Path, owner: Owner, view: int, shard: int, arrays: Mapping[str, Array]
) -> dict[str, bytes]:
    """The files of one shard with these stored arrays."""
    stored = _reader_of(cache, owner).stored
    group = stored.groups[paths.part_name(view, "0000")]
    return zarr_io.encode_shard(
        group, stored.specs, small.LAYOUT, small.SEGMENTS, shard, dict(arrays)
    )


def rewrite(
    cache: Path,
    files: Mapping[str, bytes],
    change: Callable[[Manifest], Manifest] = lambda manifest: manifest,
    rows: Callable[[list[FileRow]], list[FileRow]] = lambda rows: rows,
) -> None:
    """Replace files as a hostile writer would, who makes all hashes fit.

    Args:
        cache: where.
        files: new bytes by path.
        change: what becomes of the manifest.
        rows: what becomes of the rows of the files table.
    """
    reader = open_cache(cache)
    for path, data in files.items():
        (cache / path).write_bytes(data)
    fitting = [
        FileRow(row.path, row.part, row.shard, len(files[row.path]), hash_bytes(files[row.path]))
        if row.path in files
        else row
        for row in reader.files.rows
    ]
    table = encode_files(rows(fitting))
    (cache / files_name(table)).write_bytes(table)
    record = FilesRecord(
        path=files_name(table), bytes=len(table), rows=len(rows(fitting)), previous=None
    )
    manifest = reader.manifest.model_copy(update={"files": record})
    (cache / MANIFEST_NAME).write_bytes(dumps(change(manifest)))
    for old in cache.glob("files-*.parquet"):
        if old.name != files_name(table):
            old.unlink()


def change_set(**members: object) -> Callable[[Manifest], Manifest]:
    """A change of the record of the set."""

    def change(manifest: Manifest) -> Manifest:
        text = manifest.sets["text"].model_copy(update=members)
        return manifest.model_copy(update={"sets": {"text": text}})

    return change


def only_finding(cache: Path) -> Finding:
    """What verifying finds, which must be one thing."""
    (finding,) = found_in(cache).findings
    return finding


def found_in(cache: Path) -> Verification:
    return verify_cache(cache, workers=2)


def examples_of(finding: Finding) -> list[int]:
    """The numbers of the examples that a finding hits."""
    return [number for hit in finding.examples for number in range(hit.start, hit.stop)]


def _reader_of(cache: Path, owner: Owner) -> TeacherReader | TargetReader:
    kind, name = owner
    text = open_cache(cache).set("text")
    return text.teachers[name] if kind == "teachers" else text.targets[name]


def _with_sums(cache: Path, manifest: Manifest) -> Manifest:
    text = open_cache(cache).set("text")
    counts = np.bincount(SPLITS, minlength=3).tolist()
    increment = text.record.increments[0].model_copy(
        update={"splits": dict(zip(("train", "fit", "test"), counts, strict=True))}
    )
    return change_set(increments=[increment], **_sums(text, text.record))(manifest)


def _sums(text: SetReader, record: SetRecord) -> dict[str, object]:
    ranges = {p.name: (p.first_example, p.first_example + p.examples) for p in record.parts}
    teachers = {
        name: one.model_copy(
            update={
                "parts": {
                    part: filled.model_copy(
                        update={
                            "stats": teacher_stats(
                                text.teachers[name].read(*ranges[part]), one.temperatures
                            )
                        }
                    )
                    for part, filled in one.parts.items()
                }
            }
        )
        for name, one in record.teachers.items()
    }
    targets = {
        name: one.model_copy(
            update={
                "parts": {
                    part: filled.model_copy(
                        update={
                            "stats": target_stats(
                                text.targets[name].read(*ranges[part]), one.teachers
                            )
                        }
                    )
                    for part, filled in one.parts.items()
                }
            }
        )
        for name, one in record.targets.items()
    }
    return {"teachers": teachers, "targets": targets}
