"""How the golden caches of format version 2 were made. They are never made again.

    python -m tests.golden.make_v2 FOLDER

wrote ``tests/golden/v2``: like those of version 1, with what version 2 adds: gathered logprobs, a
target that is mixed with them, and one whose rule is only recorded, with what it learned.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from tests.golden.make_v1 import make
from tests.golden.making_v1.distributions import add_target, add_teachers, logits_of
from tests.golden.making_v1.plan import SET, Making, Plan, shards_of

from ckd_cache.fingerprint import fingerprint
from ckd_cache.format import manifest, paths, zarr_io
from ckd_cache.format.arrow_io import SlotRows
from ckd_cache.format.gathers import decode_gather, encode_gather, gather_width, implied_ids
from ckd_cache.format.identities import gather_identity, gather_name, gather_part_identity
from ckd_cache.format.reader import open_cache
from ckd_cache.format.spec import FORMAT_VERSION, WHOLE_PART, capture_of, gather_specs
from ckd_cache.format.stats import add_stats, gather_stats
from ckd_cache.format.workspace import ShardFiles
from ckd_cache.merge.fit import Fit, fit_to_json
from ckd_cache.merge.reading import merge_range
from ckd_cache.merge.rule import TargetRule
from ckd_cache.merge.source import merge_source
from ckd_cache.types import Array, GatherArrays, TeacherArrays

GROUP = ("a", "b")
PLANS = (
    Plan(
        "gathered",
        60,
        1,
        ((6, 7, 4, 3, 9, 5, 8), (4, 9, 2, 6)),
        {
            "a": capture_of(4, (1.0, 2.0), 1e-4),
            "b": capture_of(6, (1.0, 2.0), 1e-4, top_p=0.8),
        },
        ("union", TargetRule("gold", 0.5, 1.0, 6, GROUP, missing="exact")),
        zeros=True,
    ),
    Plan(
        "pooled",
        300,
        2,
        ((8, 3, 5, 7),),
        {"a": capture_of(3, (1.0,), 0.0), "b": capture_of(5, (1.0,), 0.0)},
        (
            "pool",
            TargetRule("uniform", 1.0, 1.0, 4, GROUP, missing="exact", mixture="geometric"),
        ),
        zeros=True,
    ),
)


def add_distributions(making: Making, part: manifest.PartRecord, slots: SlotRows) -> None:
    """Fill a new part for every teacher, gather for every one, and fill it for the target."""
    add_teachers(making, part, slots)
    for name in making.plan.captures:
        _gather(making, name, part, slots)
    if "live" not in making.record.targets:
        making.commit([], targets=_targets(making))
    rule = making.plan.target[1]
    source = merge_source(open_cache(making.writer.path), SET, rule.teachers)
    start, stop = part.first_example, part.first_example + part.examples
    merged = merge_range(source, rule, start, stop, making.plan.target_capture.max_nats)
    add_target(making, part, merged)


def _targets(making: Making) -> dict[str, manifest.TargetRecord]:
    """The target with all of its rule, and beside it one that is only recorded."""
    name, rule = making.plan.target
    stored = making.record.targets[name]
    stored = stored.model_copy(update={"mixture": rule.mixture})
    if rule.mixture != "arithmetic":
        identity = {**stored.identity, "mixture": rule.mixture}
        stored = stored.model_copy(update={"identity": identity})
    learned = fit_to_json(
        Fit(
            on={"split": "fit", "slots": 12},
            temperatures={one: {"masked": 1.0, "shown": 1.0} for one in GROUP},
            weights={"a": 0.625, "b": 0.375},
        )
    )
    settings = {"prior": "fitted"}
    identity = {
        "teachers": [*GROUP],
        "weighting": "gold",
        "tau": 1.0,
        "temperature": 1.0,
        "top_k": 4,
        "missing": "bucket",
        "max_nats": making.plan.target_capture.max_nats,
        "calibrate": "weights",
        **settings,
        "fit": {key: learned[key] for key in learned if key != "on"},
    }
    live = stored.model_copy(
        update={
            "weighting": "gold",
            "tau": 1.0,
            "k": 4,
            "missing": "bucket",
            "mixture": "arithmetic",
            "calibrate": "weights",
            "settings": settings,
            "fit": learned,
            "stored": False,
            "identity": identity,
            "parts": {},
        }
    )
    return {name: stored, "live": live}


def _gather(making: Making, teacher: str, part: manifest.PartRecord, slots: SlotRows) -> None:
    plan, name = making.plan, gather_name(teacher, GROUP)
    kept = {one: capture.k for one, capture in plan.captures.items()}
    record = making.record.gathers.get(name) or manifest.GatherRecord(
        teacher=teacher,
        group=[*GROUP],
        width=gather_width(teacher, kept, plan.size),
        step=plan.captures[teacher].step,
        identity=gather_identity(teacher, GROUP),
        parts={},
    )
    reader = open_cache(making.writer.path).set(SET)
    start, stop = part.first_example, part.first_example + part.examples
    arrays = {one: reader.teachers[one].read(start, stop) for one in GROUP}
    ids, n_valid = implied_ids(record, arrays)
    used = arrays[teacher].n_valid > 0
    logits = logits_of(making, teacher, part, slots)
    dense = np.zeros((*used.shape, plan.size))
    dense[used] = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    logprobs = np.take_along_axis(dense, np.maximum(ids, 0), axis=2).astype(np.float32)
    group = paths.gather_part(SET, name, part.name)
    specs = gather_specs(record.width, record.step)
    described = zarr_io.describe(group, specs, plan.layout, part.examples, None)
    files = {WHOLE_PART: ShardFiles(WHOLE_PART, described, {})}
    for shard, first, last in shards_of(plan, part.examples):
        stored = encode_gather(logprobs[first:last], n_valid[first:last], record.step)
        read = decode_gather(stored["logprobs"], n_valid[first:last], record.step)
        stats = gather_stats(
            GatherArrays(ids[first:last], read, n_valid[first:last]), used[first:last]
        )
        encoded = zarr_io.encode_shard(group, specs, plan.layout, part.examples, shard, stored)
        files[shard] = ShardFiles(shard, encoded, stats)
    fingerprints = [making.record.teachers[one].parts[part.name].fingerprint for one in GROUP]
    identity = gather_part_identity(fingerprints, record.identity)
    journal = making.fill(group, identity, files)
    filled = manifest.FilledPart(
        fingerprint=fingerprint(identity),
        stats=add_stats(line.stats for line in journal.lines),
        profile=journal.profile,
    )
    changed = record.model_copy(update={"parts": {**record.parts, part.name: filled}})
    making.commit([journal], gathers={**making.record.gathers, name: changed})
    expected = _expected(arrays[teacher].n_valid.shape, teacher, arrays, dense, record)
    making.arrays.setdefault(f"gathers.{name}", []).append(expected)


def _expected(
    shape: tuple[int, ...],
    teacher: str,
    arrays: dict[str, TeacherArrays],
    dense: Array,
    record: manifest.GatherRecord,
) -> dict[str, Array]:
    """Decoded arrays of a gather: docs/format.md done slot by slot."""
    ids = np.full((*shape, record.width), -1, np.int32)
    logprobs = np.full(ids.shape, -np.inf, np.float32)
    for at in np.ndindex(shape):
        kept = {one: set(a.ids[at][: a.n_valid[at]].tolist()) for one, a in arrays.items()}
        found = sorted(set().union(*kept.values()) - kept[teacher]) if kept[teacher] else []
        values = dense[at][found].astype(np.float32).astype(np.float64)
        if record.step:
            finite = np.where(np.isfinite(values), values, 0.0)
            rounded = -record.step * np.rint(-finite / record.step)
            values = np.where(np.isfinite(values), rounded, values)
        ids[at][: len(found)] = found
        logprobs[at][: len(found)] = values
    return {"ids": ids, "logprobs": logprobs, "n_valid": (ids >= 0).sum(axis=-1, dtype=np.int32)}


def main() -> None:
    """Make all of them in a new folder."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    if FORMAT_VERSION != 2:
        sys.exit(f"this writes format version {FORMAT_VERSION}; give it a script of its own")
    folder = Path(sys.argv[1])
    if folder.exists():
        sys.exit(f"{folder} is there already; golden caches are never made again")
    folder.mkdir(parents=True)
    for plan in PLANS:
        make(plan, folder, add_distributions)


if __name__ == "__main__":
    main()
