"""A small cache for students: text with a rule that can be learnt, two views, several targets.

Token t + 1 of a segment follows from token t, so a student improves within a few steps. Targets
``mix`` (temperature 1), ``warm`` (temperature 2) and ``partial`` (lacks the second view).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ckd_cache.fingerprint import fingerprint
from ckd_cache.format import arrow_io, manifest, paths, zarr_io
from ckd_cache.format.encode import encode_target
from ckd_cache.format.spec import (
    WHOLE_PART,
    Layout,
    capture_of,
    shard_count,
    shard_range,
    target_specs,
)
from ckd_cache.format.support import SupportFiles, encode_support
from ckd_cache.format.workspace import CacheWriter, ShardFiles
from ckd_cache.numerics.topk import reference_distributions
from ckd_cache.types import TargetArrays

SEGMENTS, TOKENS, SLOTS, K = 60, 16, 3, 6
CHUNK, SHARD = 4, 12
VIEWS = (0, 1)
GENRES = ("fiction", "law")
TEMPERATURES = {"mix": 1.0, "warm": 2.0, "partial": 1.0}
FIRST = "0000"
SUPPORT = fingerprint({"student": "support"})
WITHOUT_SLOTS = 7
"""The segment that is too short for a slot."""


@dataclass(frozen=True)
class Text:
    """The segments of the cache: every fifth is of split test, every seventh of fit."""

    size: int
    special: Mapping[str, int | None]
    held_out: bool = True

    def segments(self) -> arrow_io.SegmentRows:
        rng = np.random.default_rng(1)
        rows = [self._segment(number, rng) for number in range(SEGMENTS)]
        words = [np.ones(row.size, dtype=bool) for row in rows]
        spans = [self._spans(number, row.size) for number, row in enumerate(rows)]
        numbers = np.arange(SEGMENTS)
        splits = np.where(numbers % 5 == 4, 2, np.where(numbers % 7 == 6, 1, 0)) * self.held_out
        return arrow_io.SegmentRows(rows, words, spans, splits.astype(np.uint8))

    def slots(self, view: int) -> arrow_io.SlotRows:
        rng = np.random.default_rng(100 + view)
        rows = self.segments().input_ids
        used = [
            np.sort(rng.choice(np.arange(1, row.size - 1), self._count(number), replace=False))
            for number, row in enumerate(rows)
        ]
        gold = [row[places] for row, places in zip(rows, used, strict=True)]
        return arrow_io.SlotRows(used, [np.full(g.size, self.special["mask"]) for g in gold], gold)

    def target(self, view: int, temperature: float, max_nats: float) -> TargetArrays:
        """Peaked at gold, with a tail."""
        slots = self.slots(view)
        gold = np.concatenate(slots.gold)
        rng = np.random.default_rng([view, 9])
        logits = rng.normal(size=(gold.size, self.size))
        logits[np.arange(gold.size), gold] += 6.0
        dense = reference_distributions(logits / temperature, gold, K, (1.0,))
        mask = np.arange(SLOTS) < np.array([len(row) for row in slots.gold])[:, None]

        def spread(values: np.ndarray, fill: float) -> np.ndarray:
            full = np.full((*mask.shape, *values.shape[1:]), fill, values.dtype)
            full[mask] = values
            return full

        floats = np.float32
        return TargetArrays(
            ids=spread(dense.ids.astype(np.int32), 0),
            logprobs=spread(dense.logprobs.astype(floats), np.nan),
            n_valid=spread(dense.n_valid.astype(np.int32), 0),
            tail=spread(dense.tail[:, 0].astype(floats), np.nan),
            weights=spread(np.full((gold.size, 2), 0.5, floats), np.nan),
            uncertain=spread(np.zeros(gold.size, floats), np.nan),
            gold_logprob=spread(dense.gold_logprob.astype(floats), np.nan),
        )

    def _count(self, number: int) -> int:
        return 0 if number == WITHOUT_SLOTS else 1 + number % SLOTS

    def _segment(self, number: int, rng: np.random.Generator) -> np.ndarray:
        length = 4 if number == WITHOUT_SLOTS else int(rng.integers(TOKENS - 6, TOKENS + 1))
        first = max(i for i in self.special.values() if i is not None) + 1
        start = int(rng.integers(0, 20))
        body = first + (start + np.arange(length - 2)) % 20
        return np.concatenate([[self.special["cls"]], body, [self.special["sep"]]])

    def _spans(self, number: int, tokens: int) -> list[arrow_io.Span]:
        """Two documents of different genres share a segment."""
        middle = tokens // 2
        return [
            arrow_io.Span(2 * number, 1, middle, 0, 10),
            arrow_io.Span(2 * number + 1, middle, tokens - 1, 0, 10),
        ]


def build(
    path: Path, tokenizer_folder: Path, max_nats: float = 0.0, *, held_out: bool = True
) -> Path:
    """Write the cache with the tokenizer of a folder; without ``held_out`` all is split train."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    special = {
        name: getattr(tokenizer, f"{name}_token_id")
        for name in ("mask", "pad", "cls", "sep", "unk", "bos", "eos")
    }
    text = Text(len(tokenizer), special, held_out)
    layout = Layout(SLOTS, CHUNK, SHARD, text.size)
    order = np.arange(text.size, dtype=np.uint16)[::-1].copy()
    support = SupportFiles("tokens", text.size, special)
    files = {file.name: file.read_bytes() for file in sorted(tokenizer_folder.iterdir())}
    with CacheWriter.begin(path) as writer:
        journals = [_fill(writer, paths.support_part(SUPPORT), {
            WHOLE_PART: encode_support(SUPPORT, support, files)
        })]  # fmt: skip
        journals.append(_fill(writer, paths.segments_part("text", FIRST), _segments(text, layout)))
        for view in VIEWS:
            part = paths.part_name(view, FIRST)
            shards = _slots(text, layout, view)
            journals.append(_fill(writer, paths.slots_part("text", part), shards))
        for name, temperature in TEMPERATURES.items():
            for view in VIEWS[: 1 if name == "partial" else 2]:
                group = paths.target_part("text", name, paths.part_name(view, FIRST))
                arrays = text.target(view, temperature, max_nats)
                capture = capture_of(K, (temperature,), max_nats)
                journals.append(
                    _fill(writer, group, _arrays(group, layout, capture, arrays, order))
                )
        writer.commit(_manifest(text, support, max_nats), journals)
    return path


def _fill(writer, key, shards):
    journal = writer.journal(key, {"key": key}, {})
    for shard, files in shards.items():
        writer.publish(journal, ShardFiles(shard, files, {}))
    return journal


def _ranges(layout):
    for shard in range(shard_count(SEGMENTS, layout)):
        yield shard, slice(*shard_range(shard, SEGMENTS, layout))


def _segments(text, layout):
    rows = text.segments()
    documents = [
        arrow_io.DocumentRow(n, f"d{n}", "made", GENRES[n % 2], 0, 10) for n in range(2 * SEGMENTS)
    ]
    return {
        shard: {
            paths.segments_path("text", FIRST, shard): arrow_io.encode_segments(
                arrow_io.SegmentRows(
                    rows.input_ids[at], rows.word_starts[at], rows.spans[at], rows.splits[at]
                ),
                layout,
            ),
            paths.documents_path("text", FIRST, shard): arrow_io.encode_documents(
                documents[2 * at.start : 2 * at.stop]
            ),
        }
        for shard, at in _ranges(layout)
    }


def _slots(text, layout, view):
    rows = text.slots(view)
    return {
        shard: {
            paths.slots_path("text", paths.part_name(view, FIRST), shard): arrow_io.encode_slots(
                arrow_io.SlotRows(rows.positions[at], rows.inputs[at], rows.gold[at]), layout
            )
        }
        for shard, at in _ranges(layout)
    }


def _arrays(group, layout, capture, arrays, order):
    specs = target_specs(capture, layout.support_size, 2)
    stored = encode_target(arrays, capture, order)
    shards = {WHOLE_PART: zarr_io.describe(group, specs, layout, SEGMENTS, order)}
    for shard, at in _ranges(layout):
        cut = {name: values[at] for name, values in stored.items()}
        shards[shard] = zarr_io.encode_shard(group, specs, layout, SEGMENTS, shard, cut)
    return shards


def _manifest(text, support, max_nats):
    parts = [
        manifest.PartRecord(
            name=paths.part_name(view, FIRST),
            view=view,
            increment=FIRST,
            fingerprint=fingerprint({"view": view}),
            identity={},
            first_example=view * SEGMENTS,
            examples=SEGMENTS,
            slots=sum(len(row) for row in text.slots(view).gold),
        )
        for view in VIEWS
    ]
    rows = text.segments()
    increment = manifest.IncrementRecord(
        name=FIRST,
        fingerprint=fingerprint({"segments": 1}),
        identity={},
        segments=SEGMENTS,
        tokens=sum(row.size for row in rows.input_ids),
        documents=2 * SEGMENTS,
        duplicates=0,
        skipped=0,
        splits={},
        genres={},
    )
    targets = {
        name: manifest.TargetRecord(
            weighting="gold",
            tau=1.0,
            temperature=temperature,
            k=K,
            step=capture_of(K, (temperature,), max_nats).step,
            max_nats=max_nats,
            teachers=["a", "b"],
            missing="bucket",
            identity={},
            parts={
                part.name: manifest.FilledPart(
                    fingerprint=fingerprint({name: part.name}), stats={}, profile={}
                )
                for part in (parts[:1] if name == "partial" else parts)
            },
        )
        for name, temperature in TEMPERATURES.items()
    }
    record = manifest.SetRecord(
        kind="masked_lm",
        support=SUPPORT,
        segment_tokens=TOKENS,
        slots_per_example=SLOTS,
        chunk_examples=CHUNK,
        shard_examples=SHARD,
        increments=[increment],
        parts=parts,
        teachers={},
        targets=targets,
    )
    return manifest.Manifest(
        complete=True,
        recipe={},
        supports={SUPPORT: support.record},
        sets={"text": record},
        provenance={},
    )
