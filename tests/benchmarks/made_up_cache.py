"""A cache of any size in seconds: every shard holds the same made-up distributions."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ckd_cache.fingerprint import fingerprint
from ckd_cache.format import arrow_io, manifest, paths, zarr_io
from ckd_cache.format.encode import decode_teacher, encode_teacher
from ckd_cache.format.journal import Journal
from ckd_cache.format.spec import WHOLE_PART, Layout, capture_of, teacher_specs
from ckd_cache.format.stats import teacher_stats
from ckd_cache.format.support import SupportFiles, encode_support
from ckd_cache.format.workspace import CacheWriter, ShardFiles
from ckd_cache.numerics.topk import reference_distributions
from ckd_cache.types import Array, TeacherArrays, array_names

TEACHERS = ("a", "b", "c")
SIZE, SLOTS, TOKENS = 8192, 16, 64
LAYOUT = Layout(SLOTS, 512, 1024, SIZE)
EXAMPLES = LAYOUT.shard_examples
CAPTURE = capture_of(32, (1.0, 2.0), 1e-4)
DISTINCT = 1024
"""Distinct slots of a shard."""
SPECIAL = {"mask": 3, "pad": 1, "cls": 2, "sep": 4, "unk": 0, "bos": None, "eos": None}
SUPPORT = fingerprint({"support": "made up"})
FIRST = "0000"
PART = paths.part_name(0, FIRST)


def write_cache(path: Path, shards: int) -> int:
    """Write a complete cache of three teachers; the number of its slots."""
    with CacheWriter.begin(path, lambda _: None) as writer:
        files = encode_support(
            SUPPORT,
            SupportFiles("tokens", SIZE, SPECIAL),
            {"tokenizer.json": b'{"made": "up"}'},
        )
        support = writer.journal(paths.support_part(SUPPORT), {"support": SUPPORT}, {})
        writer.publish(support, ShardFiles(WHOLE_PART, files, {}))
        journals = [support, _segments(writer, shards), _slots(writer, shards)]
        teachers = {name: _teacher(writer, name, shards) for name in TEACHERS}
        journals += teachers.values()
        writer.commit(_manifest(shards, teachers), journals)
    return shards * EXAMPLES * SLOTS


@cache
def _rows() -> tuple[Array, Array, Array]:
    """Of a shard: token ids, positions of the slots, and gold."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, SIZE, (EXAMPLES, TOKENS))
    positions = np.sort(rng.permuted(np.tile(np.arange(TOKENS), (EXAMPLES, 1)), axis=1)[:, :SLOTS])
    gold = np.tile(_made_up()["gold"], EXAMPLES * SLOTS // DISTINCT).reshape(EXAMPLES, SLOTS)
    np.put_along_axis(tokens, positions, gold, axis=1)
    return tokens, positions, gold


@cache
def _made_up() -> dict[str, Any]:
    """Peaked distributions of teachers that agree on much, at some slots."""
    rng = np.random.default_rng(0)
    common = -1.4 * np.log1p(rng.permuted(np.tile(np.arange(SIZE), (DISTINCT, 1)), axis=1))
    gold = np.argsort(-common, axis=1)[np.arange(DISTINCT), rng.geometric(0.2, DISTINCT)]
    found: dict[str, Any] = {"gold": gold}
    for name in TEACHERS:
        logits = common + rng.normal(size=common.shape)
        found[name] = reference_distributions(logits, gold, CAPTURE.k, CAPTURE.temperatures)
    return found


def _segments(writer: CacheWriter, shards: int) -> Journal:
    journal = writer.journal(paths.segments_part("text", FIRST), {"made": "up"}, {})
    tokens = _rows()[0]
    spans = [[arrow_io.Span(n, 0, TOKENS, 0, 4 * TOKENS)] for n in range(EXAMPLES)]
    starts = [np.ones(TOKENS, np.bool_)] * EXAMPLES
    rows = arrow_io.SegmentRows(list(tokens), starts, spans, np.zeros(EXAMPLES, np.uint8))
    encoded = arrow_io.encode_segments(rows, LAYOUT)
    for shard in range(shards):
        first = shard * EXAMPLES
        documents = [
            arrow_io.DocumentRow(first + n, f"d{first + n}", "books", "fiction", 0, 4 * TOKENS)
            for n in range(EXAMPLES)
        ]
        files = {
            paths.segments_path("text", FIRST, shard): encoded,
            paths.documents_path("text", FIRST, shard): arrow_io.encode_documents(documents),
        }
        writer.publish(journal, ShardFiles(shard, files, {}))
    return journal


def _slots(writer: CacheWriter, shards: int) -> Journal:
    journal = writer.journal(paths.slots_part("text", PART), {"made": "up"}, {})
    _, positions, gold = _rows()
    masks = [np.full(SLOTS, SPECIAL["mask"])] * EXAMPLES
    encoded = arrow_io.encode_slots(arrow_io.SlotRows(list(positions), masks, list(gold)), LAYOUT)
    for shard in range(shards):
        files = {paths.slots_path("text", PART, shard): encoded}
        writer.publish(journal, ShardFiles(shard, files, {}))
    return journal


def _teacher(writer: CacheWriter, name: str, shards: int) -> Journal:
    group = paths.teacher_part("text", name, PART)
    journal = writer.journal(group, {"made": name}, {})
    specs, order = teacher_specs(CAPTURE, SIZE), np.arange(SIZE, dtype=np.uint16)
    stored = encode_teacher(_arrays(name), CAPTURE, order)
    stats = teacher_stats(decode_teacher(stored, CAPTURE, order))
    examples = shards * EXAMPLES
    whole = zarr_io.describe(group, specs, LAYOUT, examples, order)
    writer.publish(journal, ShardFiles(WHOLE_PART, whole, {}))
    for shard in range(shards):
        files = zarr_io.encode_shard(group, specs, LAYOUT, examples, shard, stored)
        writer.publish(journal, ShardFiles(shard, files, stats))
    return journal


def _arrays(name: str) -> TeacherArrays:
    """Of a shard."""
    arrays = {}
    for field in array_names(TeacherArrays):
        values = np.asarray(getattr(_made_up()[name], field))
        whole = np.tile(values, (EXAMPLES * SLOTS // DISTINCT, *[1] * (values.ndim - 1)))
        arrays[field] = whole.reshape(EXAMPLES, SLOTS, *values.shape[1:])
    return TeacherArrays(**arrays)


def _manifest(shards: int, teachers: dict[str, Journal]) -> manifest.Manifest:
    examples = shards * EXAMPLES
    slots = fingerprint({"made": "up", "shards": shards})
    increment = manifest.IncrementRecord(
        name=FIRST,
        fingerprint=slots,
        identity={"made": "up"},
        segments=examples,
        tokens=examples * TOKENS,
        documents=examples,
        duplicates=0,
        skipped=0,
        splits={"train": examples, "fit": 0, "test": 0},
        genres={"fiction": examples},
    )
    part = manifest.PartRecord(
        name=PART,
        view=0,
        increment=FIRST,
        fingerprint=slots,
        identity={"made": "up"},
        first_example=0,
        examples=examples,
        slots=examples * SLOTS,
    )
    text = manifest.SetRecord(
        kind="masked_lm",
        support=SUPPORT,
        segment_tokens=TOKENS,
        slots_per_example=SLOTS,
        chunk_examples=LAYOUT.chunk_examples,
        shard_examples=EXAMPLES,
        increments=[increment],
        parts=[part],
        teachers={name: _record(name, journal) for name, journal in teachers.items()},
        targets={},
    )
    return manifest.Manifest(
        complete=True,
        recipe={"teachers": [{"name": name} for name in TEACHERS]},
        supports={SUPPORT: SupportFiles("tokens", SIZE, SPECIAL).record},
        sets={"text": text},
        provenance={},
    )


def _record(name: str, journal: Journal) -> manifest.TeacherRecord:
    stats = {str(line.shard): line.stats for line in journal.lines}
    filled = manifest.FilledPart(fingerprint=fingerprint({"made": name}), stats=stats, profile={})
    return manifest.TeacherRecord(
        model=f"models/{name}",
        k=CAPTURE.k,
        temperatures=list(CAPTURE.temperatures),
        max_nats=CAPTURE.max_nats,
        step=CAPTURE.step,
        identity={},
        parts={PART: filled},
    )
