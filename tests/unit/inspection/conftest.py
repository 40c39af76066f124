"""A small cache, written through the format: two views, two teachers, two targets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from ckd_cache.format.arrow_io import (
    DocumentRow,
    SegmentRows,
    SlotRows,
    Span,
    encode_documents,
    encode_segments,
    encode_slots,
)
from ckd_cache.format.encode import decode_target, decode_teacher, encode_target, encode_teacher
from ckd_cache.format.journal import Journal
from ckd_cache.format.manifest import (
    FilledPart,
    IncrementRecord,
    Manifest,
    PartRecord,
    SetRecord,
    TargetRecord,
    TeacherRecord,
)
from ckd_cache.format.paths import (
    documents_path,
    segments_part,
    segments_path,
    slots_part,
    slots_path,
    support_part,
    target_part,
    teacher_part,
)
from ckd_cache.format.spec import (
    Layout,
    capture_of,
    shard_count,
    shard_range,
    target_specs,
    teacher_specs,
)
from ckd_cache.format.stats import add_stats, target_stats, teacher_stats
from ckd_cache.format.support import SupportFiles, encode_support
from ckd_cache.format.workspace import CacheWriter, ShardFiles
from ckd_cache.format.zarr_io import describe, encode_shard
from ckd_cache.numerics.topk import reference_distributions
from ckd_cache.types import Array, TargetArrays, TeacherArrays, array_names

SPECIAL = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4, "bos": None, "eos": None}
WORDS = [
    *("the", "a", "quick", "brown", "lazy", "fox", "dog", "cat", "jumps", "over", "sleeps"),
    *("under", "old", "new", "tree", "river", "stone", "and", "or", "but", "while", "slowly"),
    *("often", "never", "##s", "##ing", ".", ","),
]
SIZE = len(WORDS) + 5
SEGMENTS, TOKENS, SLOTS = 7, 12, 3
LAYOUT = Layout(slots=SLOTS, chunk_examples=2, shard_examples=4, support_size=SIZE)
VIEWS = ("v0-0000", "v1-0000")
SPLITS = np.array([0, 0, 0, 0, 1, 2, 2], dtype=np.uint8)
TEMPERATURES = (1.0, 2.0)
K = 4
HASH = "ab" * 32
ORDER = np.argsort(np.random.default_rng(5).random(SIZE)).astype(np.uint16)


Arrays = TypeVar("Arrays", TeacherArrays, TargetArrays)


@dataclass(frozen=True)
class Part:
    """The slots of one part and what two teachers and a mixture say there, unquantised."""

    slots: SlotRows
    teachers: dict[str, TeacherArrays]
    target: TargetArrays

    @property
    def used(self) -> int:
        return sum(map(len, self.slots.positions))


@dataclass(frozen=True)
class TinyCache:
    """What was written, for comparison."""

    path: Path
    segments: SegmentRows
    parts: dict[str, Part]


def tokenizer_json() -> bytes:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(names[:5])
    return tokenizer.to_str().encode()


def make_segments(rng: np.random.Generator) -> SegmentRows:
    """Seven segments; the first has one word, too few for a slot."""
    lengths = [1, *rng.integers(4, TOKENS - 1, SEGMENTS - 1)]
    ids = [np.array([2, *rng.integers(5, SIZE, n), 3], dtype=np.uint16) for n in lengths]
    starts = [np.ones(len(one), dtype=bool) for one in ids]
    spans = [
        [Span(number // 3, 1, len(one) - 1, 10 * number, 10 * number + 9)]
        for number, one in enumerate(ids)
    ]
    return SegmentRows(ids, starts, spans, SPLITS)


def make_slots(rng: np.random.Generator, segments: SegmentRows) -> SlotRows:
    """Slots in turn masked, replaced by the next id, and kept."""
    rows = SlotRows([], [], [])
    for ids in segments.input_ids:
        maskable = len(ids) - 2
        count = int(0.3 * maskable + 0.5)
        positions = np.sort(rng.permutation(maskable)[:count] + 1).astype(np.uint16)
        gold = ids[positions]
        other = np.where(gold + 1 < SIZE, gold + 1, 5)
        fate = np.arange(count) % 3
        rows.positions.append(positions)
        rows.gold.append(gold)
        rows.inputs.append(np.choose(fate, [np.full(count, 4), other, gold]).astype(np.uint16))
    return rows


def spread(values: Array, slots: SlotRows, fill: float, dtype: type) -> Array:
    """Flat rows of all slots as (examples, SLOTS, …), the rest filled."""
    shape = (len(slots), SLOTS, *values.shape[1:])
    out = np.full(shape, fill, dtype=np.float64 if dtype is np.float32 else dtype)
    used = np.arange(SLOTS) < np.array([len(one) for one in slots.positions])[:, None]
    out[used] = values
    return out.astype(dtype)


def make_teacher(logits: Array, slots: SlotRows) -> TeacherArrays:
    gold = np.concatenate(slots.gold)
    flat = reference_distributions(logits, gold, K, TEMPERATURES)
    return TeacherArrays(
        ids=spread(flat.ids, slots, 0, np.int32),
        logprobs=spread(flat.logprobs, slots, np.nan, np.float32),
        n_valid=spread(flat.n_valid, slots, 0, np.int32),
        tail=spread(flat.tail, slots, np.nan, np.float32),
        logsumexp=spread(flat.logsumexp, slots, np.nan, np.float32),
        entropy=spread(flat.entropy, slots, np.nan, np.float32),
        gold_logprob=spread(flat.gold_logprob, slots, np.nan, np.float32),
        gold_rank=spread(flat.gold_rank, slots, 0, np.uint32),
    )


def make_target(logits: Sequence[Array], slots: SlotRows, rng: np.random.Generator) -> TargetArrays:
    """A dense mixture with random weights, cut to its top k."""
    share = rng.random(len(logits[0]))
    probabilities = [np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in logits]
    mixed = share[:, None] * probabilities[0] + (1 - share[:, None]) * probabilities[1]
    flat = reference_distributions(np.log(mixed), np.concatenate(slots.gold), K, (1.0,))
    return TargetArrays(
        ids=spread(flat.ids, slots, 0, np.int32),
        logprobs=spread(flat.logprobs, slots, np.nan, np.float32),
        n_valid=spread(flat.n_valid, slots, 0, np.int32),
        tail=spread(flat.tail[:, 0], slots, np.nan, np.float32),
        weights=spread(np.stack([share, 1 - share], axis=-1), slots, np.nan, np.float32),
        uncertain=spread(rng.random(len(share)) * 0.1, slots, np.nan, np.float32),
        gold_logprob=spread(flat.gold_logprob, slots, np.nan, np.float32),
    )


def make_part(rng: np.random.Generator, segments: SegmentRows) -> Part:
    slots = make_slots(rng, segments)
    total = sum(map(len, slots.positions))
    logits = [rng.normal(0, 2, (total, SIZE)) for _ in range(2)]
    teachers = {name: make_teacher(x, slots) for name, x in zip("ab", logits, strict=True)}
    return Part(slots, teachers, make_target(logits, slots, rng))


def cut(arrays: Arrays, start: int, stop: int) -> Arrays:
    return type(arrays)(**{name: arrays[name][start:stop] for name in array_names(type(arrays))})


def shards() -> Iterable[tuple[int, int, int]]:
    for shard in range(shard_count(SEGMENTS, LAYOUT)):
        yield shard, *shard_range(shard, SEGMENTS, LAYOUT)


def segments_files(segments: SegmentRows) -> Iterable[ShardFiles]:
    documents = [DocumentRow(n, f"doc-{n}", "books", "fiction", 0, 70) for n in range(3)]
    for shard, i, j in shards():
        rows = SegmentRows(*(getattr(segments, name)[i:j] for name in SegmentRows.__slots__))
        listed = encode_documents(documents if shard == 0 else [])
        yield ShardFiles(
            shard,
            {
                segments_path("text", "0000", shard): encode_segments(rows, LAYOUT),
                documents_path("text", "0000", shard): listed,
            },
            {},
        )


def slots_files(name: str, part: Part) -> Iterable[ShardFiles]:
    for shard, i, j in shards():
        rows = SlotRows(*(getattr(part.slots, field)[i:j] for field in SlotRows.__slots__))
        yield ShardFiles(shard, {slots_path("text", name, shard): encode_slots(rows, LAYOUT)}, {})


def group_files(folder: str, arrays: TeacherArrays | TargetArrays, max_nats: float) -> Any:
    """Shards of a teacher or target, each with its stats, after one with the metadata."""
    if isinstance(arrays, TeacherArrays):
        capture = capture_of(K, TEMPERATURES, max_nats)
        specs = teacher_specs(capture, SIZE)
    else:
        capture = capture_of(K, (1.0,), max_nats)
        specs = target_specs(capture, SIZE, 2)
    yield ShardFiles(-1, describe(folder, specs, LAYOUT, SEGMENTS, ORDER), {})
    for shard, i, j in shards():
        if isinstance(arrays, TeacherArrays):
            stored = encode_teacher(cut(arrays, i, j), capture, ORDER)
            stats = teacher_stats(decode_teacher(stored, capture, ORDER), TEMPERATURES)
        else:
            stored = encode_target(cut(arrays, i, j), capture, ORDER)
            stats = target_stats(decode_target(stored, capture, ORDER), ("a", "b"))
        files = encode_shard(folder, specs, LAYOUT, SEGMENTS, shard, stored)
        yield ShardFiles(shard, files, stats)


class Filler:
    """Publishes parts and remembers their journals for the commit."""

    def __init__(self, writer: CacheWriter) -> None:
        self.writer = writer
        self.journals: list[Journal] = []

    def fill(self, key: str, files: Iterable[ShardFiles]) -> FilledPart:
        journal = self.writer.journal(key, {}, {})
        for shard in files:
            self.writer.publish(journal, shard)
        self.journals.append(journal)
        stats = add_stats(line.stats for line in journal.lines)
        return FilledPart(fingerprint=HASH, stats=stats, profile={})


def set_record(segments: SegmentRows, parts: dict[str, Part]) -> SetRecord:
    increment = IncrementRecord(
        name="0000",
        fingerprint=HASH,
        identity={},
        segments=SEGMENTS,
        tokens=sum(map(len, segments.input_ids)),
        documents=3,
        duplicates=2,
        skipped=1,
        splits={"train": 4, "fit": 1, "test": 2},
        genres={"fiction": 3},
    )
    records = [
        PartRecord(
            name=name,
            view=view,
            increment="0000",
            fingerprint=HASH,
            identity={},
            first_example=view * SEGMENTS,
            examples=SEGMENTS,
            slots=part.used,
        )
        for view, (name, part) in enumerate(parts.items())
    ]
    return SetRecord(
        kind="masked_lm",
        support=HASH,
        segment_tokens=TOKENS,
        slots_per_example=SLOTS,
        chunk_examples=LAYOUT.chunk_examples,
        shard_examples=LAYOUT.shard_examples,
        increments=[increment],
        parts=records,
        teachers={},
        targets={},
    )


def teacher_record(filled: dict[str, FilledPart], max_nats: float) -> TeacherRecord:
    return TeacherRecord(
        model="models/some",
        k=K,
        temperatures=list(TEMPERATURES),
        max_nats=max_nats,
        step=capture_of(K, TEMPERATURES, max_nats).step,
        identity={"dtype": "float32"},
        parts=filled,
    )


def target_record(filled: dict[str, FilledPart], max_nats: float) -> TargetRecord:
    return TargetRecord(
        weighting="gold",
        tau=0.5,
        temperature=1.0,
        k=K,
        step=capture_of(K, (1.0,), max_nats).step,
        max_nats=max_nats,
        teachers=["a", "b"],
        missing="bucket",
        identity={},
        parts=filled,
    )


def write_cache(path: Path, *, complete: bool = True, max_nats: float = 1e-4) -> TinyCache:
    """Write a cache; an incomplete one has teacher ``a`` whole, ``b`` in part, and no target."""
    rng = np.random.default_rng(11)
    segments = make_segments(rng)
    parts = {name: make_part(rng, segments) for name in VIEWS}
    support = SupportFiles("tokens", SIZE, SPECIAL)
    with CacheWriter.begin(path) as writer:
        filler = Filler(writer)
        files = encode_support(HASH, support, {"tokenizer.json": tokenizer_json()})
        filler.fill(support_part(HASH), [ShardFiles(-1, files, {})])
        filler.fill(segments_part("text", "0000"), segments_files(segments))
        for name, part in parts.items():
            filler.fill(slots_part("text", name), slots_files(name, part))
        teachers = {
            teacher: teacher_record(
                {
                    name: filler.fill(folder, group_files(folder, part.teachers[teacher], max_nats))
                    for name, part in list(parts.items())[: None if whole else 1]
                    for folder in [teacher_part("text", teacher, name)]
                },
                max_nats,
            )
            for teacher, whole in (("a", True), ("b", complete))
        }
        targets = {
            target: target_record(
                {
                    name: filler.fill(folder, group_files(folder, part.target, max_nats))
                    for name, part in parts.items()
                    for folder in [target_part("text", target, name)]
                },
                max_nats,
            )
            for target in (("gold", "other") if complete else ())
        }
        record = set_record(segments, parts)
        manifest = Manifest(
            complete=complete,
            recipe={},
            supports={HASH: support.record},
            sets={"text": record.model_copy(update={"teachers": teachers, "targets": targets})},
            provenance={},
        )
        writer.commit(manifest, filler.journals)
    return TinyCache(path, segments, parts)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyCache:
    """A complete cache; nobody may change it."""
    return write_cache(tmp_path_factory.mktemp("caches") / "tiny.ckd")


@pytest.fixture(scope="session")
def unfinished(tmp_path_factory: pytest.TempPathFactory) -> TinyCache:
    """A cache whose build was interrupted; nobody may change it."""
    return write_cache(tmp_path_factory.mktemp("caches") / "unfinished.ckd", complete=False)
