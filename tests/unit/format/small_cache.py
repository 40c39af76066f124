"""A small cache, the same bytes every time: two views, a compact and an exact teacher, a target.

As a script, ``small_cache.py PATH STEP`` builds a lean one and kills itself at the step STEP.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ckd_cache.fingerprint import fingerprint
from ckd_cache.format import arrow_io, manifest, paths, zarr_io
from ckd_cache.format.encode import decode_teacher, encode_target, encode_teacher
from ckd_cache.format.journal import Journal
from ckd_cache.format.spec import (
    WHOLE_PART,
    ArraySpec,
    Capture,
    Layout,
    capture_of,
    shard_count,
    shard_range,
    target_specs,
    teacher_specs,
)
from ckd_cache.format.stats import teacher_stats
from ckd_cache.format.support import SupportFiles, encode_support
from ckd_cache.format.workspace import CacheWriter, ShardFiles
from ckd_cache.numerics.topk import reference_distributions
from ckd_cache.types import Array, JsonObject, TargetArrays, TeacherArrays, array_names

SUPPORT_SIZE = 50
SEGMENTS = 10
TOKENS = 12
LAYOUT = Layout(slots=3, chunk_examples=2, shard_examples=4, support_size=SUPPORT_SIZE)
CAPTURES = {"a": capture_of(4, (1.0, 2.0), 1e-4), "b": capture_of(4, (1.0, 2.0), 0.0)}
TARGET = capture_of(5, (1.0,), 1e-4)
SPECIAL = {"mask": 3, "pad": 1, "cls": 2, "sep": 4, "unk": 0, "bos": None, "eos": None}
SUPPORT = fingerprint({"support": 1})
ORDER = np.random.default_rng(7).permutation(SUPPORT_SIZE).astype(np.uint16)
FIRST = "0000"
ARTICLES = (3, 0, 4)
"""Documents that begin in each shard of the segments."""


def segment_rows() -> arrow_io.SegmentRows:
    rng = np.random.default_rng(1)
    ids = [rng.integers(5, SUPPORT_SIZE, rng.integers(5, TOKENS + 1)) for _ in range(SEGMENTS)]
    words = [rng.random(row.size) < 0.7 for row in ids]
    spans = [
        [arrow_io.Span(n % 7, 1, row.size - 1, 10 * n, 10 * n + 9)] for n, row in enumerate(ids)
    ]
    return arrow_io.SegmentRows(ids, words, spans, np.arange(SEGMENTS, dtype=np.uint8) % 3)


def slot_rows(view: int) -> arrow_io.SlotRows:
    rng = np.random.default_rng(100 + view)
    segments = segment_rows().input_ids
    used = [np.sort(rng.choice(row.size, rng.integers(0, 4), replace=False)) for row in segments]
    gold = [row[places] for row, places in zip(segments, used, strict=True)]
    return arrow_io.SlotRows(used, [np.full(row.size, 3) for row in used], gold)


def teacher_arrays(name: str, view: int) -> TeacherArrays:
    """Unquantised distributions of all examples of a view, NaN and 0 at unused slots."""
    slots = slot_rows(view)
    mask = np.arange(LAYOUT.slots) < np.array([len(row) for row in slots.gold])[:, None]
    capture = CAPTURES[name]
    rng = np.random.default_rng([ord(name), view])
    logits = rng.normal(scale=3.0, size=(int(mask.sum()), SUPPORT_SIZE))
    logits[0, 2:] = -np.inf
    dense = reference_distributions(
        logits, np.concatenate(slots.gold), capture.k, capture.temperatures
    )
    arrays = {}
    for field in array_names(TeacherArrays):
        values = np.asarray(getattr(dense, field))
        fill = np.nan if values.dtype.kind == "f" else 0
        full = np.full((*mask.shape, *values.shape[1:]), fill, values.dtype)
        full[mask] = values
        arrays[field] = full
    return TeacherArrays(**arrays)


def target_arrays(view: int) -> TargetArrays:
    """Something with the shape of a target: teacher a with one more rank."""
    a = teacher_arrays("a", view)
    used = a.n_valid > 0
    ids = np.pad(a.ids, ((0, 0), (0, 0), (0, 1)))
    logprobs = np.pad(a.logprobs, ((0, 0), (0, 0), (0, 1)), constant_values=-np.inf)
    weights = np.where(used[..., None], np.array([0.25, 0.75]), np.nan)
    uncertain = np.where(used, 0.0123456, np.nan)
    return TargetArrays(
        ids, logprobs, a.n_valid, a.tail[..., 0], weights, uncertain, a.gold_logprob
    )


def part_of(record: TeacherArrays | TargetArrays, start: int, stop: int) -> dict[str, Array]:
    return {name: record[name][start:stop] for name in record.keys()}  # noqa: SIM118


def build(
    path: Path, checkpoint: Callable[[str], None] = lambda _: None, *, lean: bool = False
) -> None:
    """Build the cache, or what is missing of it, in a few commits.

    ``lean`` leaves out the second view, teacher b and the target.
    """
    views = (0,) if lean else (0, 1)
    with CacheWriter.begin(path, checkpoint) as writer:
        if writer.manifest is None:
            _commit_segments(writer)
        for view in views:
            if len(writer.manifest.sets["text"].parts) == view:
                _commit_slots(writer, view)
        if not writer.manifest.complete:
            _commit_arrays(writer, views, {"a"} if lean else {"a", "b"})


def _fill(
    writer: CacheWriter, key: str, shards: Callable[[int], ShardFiles], first: int
) -> Journal:
    journal = writer.journal(key, {"key": key, "fraction": 0.15}, {"threads": 1})
    finished = {line.shard for line in journal.lines}
    for shard in range(first, shard_count(SEGMENTS, LAYOUT)):
        if shard not in finished:
            writer.publish(journal, shards(shard))
    return journal


def _commit_segments(writer: CacheWriter) -> None:
    support = SupportFiles("tokens", SUPPORT_SIZE, SPECIAL)
    tokenizer = {"tokenizer.json": b'{"made": "up"}'}
    files = encode_support(SUPPORT, support, tokenizer)
    supports = writer.journal(paths.support_part(SUPPORT), {"support": SUPPORT}, {})
    if not supports.lines:
        writer.publish(supports, ShardFiles(WHOLE_PART, files, {}))
    journal = _fill(writer, paths.segments_part("text", FIRST), _segments_shard, 0)
    increment = manifest.IncrementRecord(
        name=FIRST,
        fingerprint=fingerprint({"segment_tokens": TOKENS}),
        identity={"segment_tokens": TOKENS},
        segments=SEGMENTS,
        tokens=sum(row.size for row in segment_rows().input_ids),
        documents=sum(ARTICLES),
        duplicates=0,
        skipped=0,
        splits={"train": 4, "fit": 3, "test": 3},
        genres={"fiction": sum(ARTICLES)},
    )
    text = manifest.SetRecord(
        kind="masked_lm",
        support=SUPPORT,
        segment_tokens=TOKENS,
        slots_per_example=LAYOUT.slots,
        chunk_examples=LAYOUT.chunk_examples,
        shard_examples=LAYOUT.shard_examples,
        increments=[increment],
        parts=[],
        teachers={},
        targets={},
    )
    first = manifest.Manifest(
        complete=False,
        recipe={"corpus": {"title": "Ökonomie"}},
        supports={SUPPORT: support.record},
        sets={"text": text},
        provenance={},
    )
    writer.commit(first, [supports, journal])


def _segments_shard(shard: int) -> ShardFiles:
    start, stop = shard_range(shard, SEGMENTS, LAYOUT)
    rows = segment_rows()
    cut = arrow_io.SegmentRows(
        rows.input_ids[start:stop],
        rows.word_starts[start:stop],
        rows.spans[start:stop],
        rows.splits[start:stop],
    )
    before = sum(ARTICLES[:shard])
    documents = [
        arrow_io.DocumentRow(before + n, f"d{before + n}", "books", "fiction", 0, 100)
        for n in range(ARTICLES[shard])
    ]
    files = {
        paths.segments_path("text", FIRST, shard): arrow_io.encode_segments(cut, LAYOUT),
        paths.documents_path("text", FIRST, shard): arrow_io.encode_documents(documents),
    }
    return ShardFiles(shard, files, {"next_block": shard})


def _commit_slots(writer: CacheWriter, view: int) -> None:
    name = paths.part_name(view, FIRST)
    journal = _fill(writer, paths.slots_part("text", name), partial(_slots_shard, view), 0)
    text = writer.manifest.sets["text"]
    part = manifest.PartRecord(
        name=name,
        view=view,
        increment=FIRST,
        fingerprint=fingerprint({"view": view}),
        identity={"view": view},
        first_example=view * SEGMENTS,
        examples=SEGMENTS,
        slots=sum(len(row) for row in slot_rows(view).gold),
    )
    text = text.model_copy(update={"parts": [*text.parts, part]})
    writer.commit(writer.manifest.model_copy(update={"sets": {"text": text}}), [journal])


def _slots_shard(view: int, shard: int) -> ShardFiles:
    start, stop = shard_range(shard, SEGMENTS, LAYOUT)
    rows = slot_rows(view)
    cut = arrow_io.SlotRows(
        rows.positions[start:stop], rows.inputs[start:stop], rows.gold[start:stop]
    )
    data = arrow_io.encode_slots(cut, LAYOUT)
    return ShardFiles(
        shard, {paths.slots_path("text", paths.part_name(view, FIRST), shard): data}, {}
    )


def _commit_arrays(writer: CacheWriter, views: Sequence[int], names: set[str]) -> None:
    journals = list(_array_journals(writer, views, names))
    by_key = {journal.key: journal for journal in journals}
    parts = [paths.part_name(view, FIRST) for view in views]
    slots = {part.name: part.fingerprint for part in writer.manifest.sets["text"].parts}
    teachers = {
        name: manifest.TeacherRecord(
            model=f"models/{name}",
            k=capture.k,
            temperatures=list(capture.temperatures),
            max_nats=capture.max_nats,
            step=capture.step,
            identity={},
            parts={
                p: _filled(by_key[paths.teacher_part("text", name, p)], {"slots": slots[p]})
                for p in parts
            },
        )
        for name, capture in CAPTURES.items()
        if name in names
    }
    target = manifest.TargetRecord(
        weighting="gold",
        tau=1.0,
        temperature=1.0,
        k=TARGET.k,
        step=TARGET.step,
        max_nats=TARGET.max_nats,
        teachers=["a", "b"],
        missing="bucket",
        identity={},
        parts={
            p: _filled(
                by_key[key],
                {
                    "teacher_parts": [teachers[name].parts[p].fingerprint for name in ("a", "b")],
                    "numerics": 1,
                },
            )
            for p in parts
            if (key := paths.target_part("text", "mix", p)) in by_key
        },
    )
    text = writer.manifest.sets["text"].model_copy(
        update={"teachers": teachers, "targets": {"mix": target} if len(names) > 1 else {}}
    )
    update = {"sets": {"text": text}, "complete": True}
    writer.commit(writer.manifest.model_copy(update=update), journals)


def _filled(journal: Journal, identity: JsonObject) -> manifest.FilledPart:
    stats = {str(line.shard): line.stats for line in journal.lines}
    return manifest.FilledPart(
        fingerprint=fingerprint(identity), stats=stats, profile=journal.profile
    )


def _array_journals(
    writer: CacheWriter, views: Sequence[int], names: set[str]
) -> Iterator[Journal]:
    for view in views:
        part = paths.part_name(view, FIRST)
        for name in sorted(names):
            capture = CAPTURES[name]
            specs = teacher_specs(capture, SUPPORT_SIZE)
            arrays = encode_teacher(teacher_arrays(name, view), capture, ORDER)
            shards = partial(
                _array_shard, paths.teacher_part("text", name, part), specs, arrays, capture
            )
            yield _fill(writer, paths.teacher_part("text", name, part), shards, WHOLE_PART)
        if len(names) == 1:
            continue
        arrays = encode_target(target_arrays(view), TARGET, ORDER)
        group = paths.target_part("text", "mix", part)
        shards = partial(_array_shard, group, target_specs(TARGET, SUPPORT_SIZE, 2), arrays, None)
        yield _fill(writer, group, shards, WHOLE_PART)


def _array_shard(
    group: str,
    specs: tuple[ArraySpec, ...],
    arrays: dict[str, Array],
    capture: Capture | None,
    shard: int,
) -> ShardFiles:
    if shard == WHOLE_PART:
        return ShardFiles(shard, zarr_io.describe(group, specs, LAYOUT, SEGMENTS, ORDER), {})
    start, stop = shard_range(shard, SEGMENTS, LAYOUT)
    cut = {name: values[start:stop] for name, values in arrays.items()}
    stats = {} if capture is None else teacher_stats(decode_teacher(cut, capture, ORDER))
    return ShardFiles(
        shard, zarr_io.encode_shard(group, specs, LAYOUT, SEGMENTS, shard, cut), stats
    )


def kill_at(step: int) -> Callable[[str], None]:
    """A checkpoint that kills the process without warning at the given step."""
    seen = 0

    def checkpoint(_: str) -> None:
        nonlocal seen
        if seen == step:
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1

    return checkpoint


if __name__ == "__main__":
    build(Path(sys.argv[1]), kill_at(int(sys.argv[2])), lean=True)
