"""How the golden caches of format version 1 were made. They are never made again.

    python -m tests.golden.make_v1 FOLDER

wrote ``tests/golden/v1``: caches through the writers of ``ckd_cache.format``, with distributions
from random logits, and beside each an ``.npz`` of what a reader must see. A later format gets a
script and a folder of its own; these caches are read for ever.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tests.golden.making_v1 import corpus
from tests.golden.making_v1.distributions import add_distributions
from tests.golden.making_v1.plan import PLANS, SET, SLOTS, Making, Plan, shards_of

from ckd_cache.corpus.masking import MaskSettings, mask_segments
from ckd_cache.fingerprint import canonical_json, fingerprint, hash_bytes
from ckd_cache.format import arrow_io, manifest, paths
from ckd_cache.format.spec import FORMAT_VERSION, NUMERICS_VERSION, WHOLE_PART, Capture
from ckd_cache.format.support import SupportFiles, encode_support
from ckd_cache.format.workspace import CacheWriter, ShardFiles

MASKING = MaskSettings(fraction=(0.0, 0.3), seed=7)


AddDistributions = Callable[[Making, manifest.PartRecord, arrow_io.SlotRows], None]


def make(plan: Plan, folder: Path, add: AddDistributions = add_distributions) -> None:
    """Make a cache, and the file of what a reader must see of it."""
    with CacheWriter.begin(folder / plan.name) as writer:
        making = Making(plan, writer)
        _start(making)
        for number in range(len(plan.words)):
            _add_increment(making, number)
            for view in range(plan.views):
                _add_part(making, number, view, add)
        complete = making.committed.model_copy(update={"complete": True})
        writer.commit(complete)
    expected = {
        **corpus.expected_examples(making.parts, SLOTS),
        **corpus.expected_segments([segments for segments, _ in making.parts]),
        **corpus.expected_documents([d for i in making.increments for d in i.documents]),
    }
    for owner, filled in making.arrays.items():
        for name in filled[0]:
            expected[f"{owner}.{name}"] = np.concatenate([part[name] for part in filled])
    np.savez_compressed(folder / f"{plan.name}.npz", allow_pickle=False, **expected)


def _start(making: Making) -> None:
    """Commit the support and an empty set."""
    plan = making.plan
    names = corpus.token_names(plan.size)
    identity = {
        "kind": "tokens",
        "size": plan.size,
        "tokens": hash_bytes(canonical_json(names)),
        "special": corpus.SPECIAL,
    }
    support = SupportFiles("tokens", plan.size, corpus.SPECIAL)
    key = fingerprint(identity)
    files = encode_support(key, support, {"tokenizer.json": b'{"golden": "words \\u00e9N"}\n'})
    whole = {WHOLE_PART: ShardFiles(WHOLE_PART, files, {})}
    journal = making.fill(paths.support_part(key), identity, whole)
    text = manifest.SetRecord(
        kind="masked_lm",
        support=key,
        segment_tokens=corpus.SEGMENT_TOKENS,
        slots_per_example=SLOTS,
        chunk_examples=plan.layout.chunk_examples,
        shard_examples=plan.layout.shard_examples,
        increments=[],
        parts=[],
        teachers={name: _teacher_record(name, one) for name, one in plan.captures.items()},
        targets={plan.target[0]: _target_record(plan)},
    )
    first = manifest.Manifest(
        complete=False,
        recipe={"title": f"golden cache {plan.name}: größe {plan.size}"},
        supports={key: support.record},
        sets={SET: text},
        provenance={"runtime": {"device": "none"}},
    )
    making.writer.commit(first, [journal])


def _teacher_record(name: str, capture: Capture) -> manifest.TeacherRecord:
    kept = {
        "top_k": capture.k,
        "top_p": capture.top_p,
        "temperatures": list(capture.temperatures),
        "max_nats": capture.max_nats,
    }
    made_up = {"weights": {"model.safetensors": hash_bytes(name.encode())}, "dtype": "float32"}
    rest = {"config": hash_bytes(b"{}"), "attention": "sdpa", "numerics": NUMERICS_VERSION}
    return manifest.TeacherRecord(
        model=f"models/{name}",
        k=capture.k,
        temperatures=list(capture.temperatures),
        max_nats=capture.max_nats,
        step=capture.step,
        top_p=capture.top_p,
        identity={**made_up, **rest, **kept},
        parts={},
    )


def _target_record(plan: Plan) -> manifest.TargetRecord:
    rule, capture = plan.target[1], plan.target_capture
    identity = {
        "weighting": rule.weighting,
        "tau": rule.tau,
        "temperature": rule.temperature,
        "top_k": capture.k,
        "teachers": list(rule.teachers),
        "missing": rule.missing,
        "max_nats": capture.max_nats,
    }
    return manifest.TargetRecord(
        weighting=rule.weighting,
        tau=rule.tau,
        temperature=rule.temperature,
        k=capture.k,
        step=capture.step,
        max_nats=capture.max_nats,
        teachers=list(rule.teachers),
        missing=rule.missing,
        identity=identity,
        parts={},
    )


def _add_increment(making: Making, number: int) -> None:
    plan, name = making.plan, paths.increment_name(number)
    first = sum(len(increment.documents) for increment in making.increments)
    made = corpus.make_increment(number, plan.words[number], plan.size, first)
    making.increments.append(made)
    rows = made.segments
    identity = {
        "sources": {made.source: {"kind": "golden", "genre": "mixed", "contents": "0" * 64}},
        "source_order": [made.source],
        "tokenizer": hash_bytes(b"golden"),
        "segment_tokens": corpus.SEGMENT_TOKENS,
        "pack": True,
        "splits": {"fit": corpus.FIT, "test": corpus.TEST},
        "deduplicate": True,
    }
    shards = {
        shard: ShardFiles(
            shard,
            {
                paths.segments_path(SET, name, shard): arrow_io.encode_segments(
                    _segments(rows, start, stop),
                    plan.layout,
                ),
                paths.documents_path(SET, name, shard): arrow_io.encode_documents(
                    made.documents if shard == 0 else []
                ),
            },
            {},
        )
        for shard, start, stop in shards_of(plan, len(rows))
    }
    journal = making.fill(paths.segments_part(SET, name), identity, shards)
    genres = [row.genre for row in made.documents]
    record = manifest.IncrementRecord(
        name=name,
        fingerprint=fingerprint(identity),
        identity=identity,
        segments=len(rows),
        tokens=sum(len(ids) for ids in rows.input_ids),
        documents=len(genres),
        duplicates=number,
        skipped=0,
        splits={
            split: int((rows.splits == n).sum()) for n, split in enumerate(("train", "fit", "test"))
        },
        genres={genre: genres.count(genre) for genre in set(genres)},
    )
    making.commit([journal], increments=[*making.record.increments, record])


def _segments(rows: arrow_io.SegmentRows, start: int, stop: int) -> arrow_io.SegmentRows:
    return arrow_io.SegmentRows(
        rows.input_ids[start:stop],
        rows.word_starts[start:stop],
        rows.spans[start:stop],
        rows.splits[start:stop],
    )


def _slots(rows: arrow_io.SlotRows, start: int, stop: int) -> arrow_io.SlotRows:
    return arrow_io.SlotRows(
        rows.positions[start:stop], rows.inputs[start:stop], rows.gold[start:stop]
    )


def _add_part(making: Making, number: int, view: int, add: AddDistributions) -> None:
    plan, increment = making.plan, making.record.increments[number]
    rows = making.increments[number].segments
    support = making.committed.supports[making.record.support]
    before = sum(len(one.segments) for one in making.increments[:number])
    slots = mask_segments(rows, before, view, MASKING, support)
    making.parts.append((rows, slots))
    identity = {
        "segments": increment.fingerprint,
        "mask_fraction": list(MASKING.range),
        "corruption": {"mask": MASKING.mask, "random": MASKING.random, "keep": MASKING.keep},
        "whole_word": MASKING.whole_word,
        "seed": MASKING.seed,
        "view": view,
    }
    name = paths.part_name(view, increment.name)
    shards = {
        shard: ShardFiles(
            shard,
            {
                paths.slots_path(SET, name, shard): arrow_io.encode_slots(
                    _slots(slots, start, stop),
                    plan.layout,
                )
            },
            {},
        )
        for shard, start, stop in shards_of(plan, len(rows))
    }
    journal = making.fill(paths.slots_part(SET, name), identity, shards)
    part = manifest.PartRecord(
        name=name,
        view=view,
        increment=increment.name,
        fingerprint=fingerprint(identity),
        identity=identity,
        first_example=making.record.examples,
        examples=len(rows),
        slots=sum(len(gold) for gold in slots.gold),
    )
    making.commit([journal], parts=[*making.record.parts, part])
    add(making, part, slots)


def main() -> None:
    """Make all of them in a new folder."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    if FORMAT_VERSION != 1:
        sys.exit(f"this writes format version {FORMAT_VERSION}; give it a script of its own")
    folder = Path(sys.argv[1])
    if folder.exists():
        sys.exit(f"{folder} is there already; golden caches are never made again")
    folder.mkdir(parents=True)
    for plan in PLANS:
        make(plan, folder)


if __name__ == "__main__":
    main()
