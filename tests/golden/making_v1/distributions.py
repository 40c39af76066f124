"""Distributions of the golden caches: random logits, and mixtures of what is read back of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tests.golden.making_v1.numbers import expected_target, expected_teacher
from tests.golden.making_v1.plan import SET, Making, shards_of

from ckd_cache.fingerprint import fingerprint
from ckd_cache.format import paths, zarr_io
from ckd_cache.format.arrow_io import SlotRows
from ckd_cache.format.encode import (
    decode_target,
    decode_teacher,
    encode_target,
    encode_teacher,
    order_of,
)
from ckd_cache.format.journal import Journal
from ckd_cache.format.manifest import FilledPart, PartRecord
from ckd_cache.format.reader import open_cache
from ckd_cache.format.spec import (
    NUMERICS_VERSION,
    WHOLE_PART,
    ArraySpec,
    Capture,
    target_specs,
    teacher_specs,
)
from ckd_cache.format.stats import add_stats, quantising_nats, target_stats, teacher_stats
from ckd_cache.format.workspace import ShardFiles
from ckd_cache.merge.merge import merge_arrays
from ckd_cache.numerics.narrow import narrow
from ckd_cache.numerics.topk import reference_distributions
from ckd_cache.types import Array, JsonObject, TargetArrays, TeacherArrays, array_names

Arrays = TeacherArrays | TargetArrays
Encode = Callable[[Arrays, Array], tuple[dict[str, Array], JsonObject]]


def add_distributions(making: Making, part: PartRecord, slots: SlotRows) -> None:
    """Fill a new part for every teacher, and then for the target."""
    add_teachers(making, part, slots)
    add_target(making, part, _merged(making, part))


def add_teachers(making: Making, part: PartRecord, slots: SlotRows) -> None:
    """Fill a new part for every teacher."""
    size = making.plan.size
    for name, capture in making.plan.captures.items():
        arrays = _teacher_arrays(making, name, capture, part, slots)
        specs = teacher_specs(capture, size)
        group = paths.teacher_part(SET, name, part.name)
        record = making.record.teachers[name]
        identity = {"slots": part.fingerprint, **record.identity}
        journal = _fill(making, group, identity, specs, arrays, _teacher_encoder(capture))
        filled = {**record.parts, part.name: _filled(journal, identity)}
        changed = record.model_copy(update={"parts": filled})
        making.commit([journal], teachers={**making.record.teachers, name: changed})
        expected = expected_teacher(arrays, capture.step, capture.temperatures.index(1.0))
        making.arrays.setdefault(f"teachers.{name}", []).append(expected)


def add_target(making: Making, part: PartRecord, arrays: TargetArrays) -> None:
    """Fill a new part for the target."""
    plan = making.plan
    name, rule = plan.target
    specs = target_specs(plan.target_capture, plan.size, len(rule.teachers))
    group = paths.target_part(SET, name, part.name)
    record = making.record.targets[name]
    teachers = making.record.teachers
    fingerprints = [teachers[teacher].parts[part.name].fingerprint for teacher in rule.teachers]
    identity = {"teacher_parts": fingerprints, "numerics": NUMERICS_VERSION, **record.identity}
    journal = _fill(making, group, identity, specs, arrays, _target_encoder(making))
    filled = {**record.parts, part.name: _filled(journal, identity)}
    changed = record.model_copy(update={"parts": filled})
    making.commit([journal], targets={**making.record.targets, name: changed})
    expected = expected_target(arrays, plan.target_capture.step)
    making.arrays.setdefault(f"targets.{name}", []).append(expected)


def _merged(making: Making, part: PartRecord) -> TargetArrays:
    plan = making.plan
    rule = plan.target[1]
    reader = open_cache(making.writer.path).set(SET)
    start, stop = part.first_example, part.first_example + part.examples
    examples = reader.examples.read(start, stop)
    return merge_arrays(
        [reader.teachers[name].read(start, stop) for name in rule.teachers],
        [plan.captures[name] for name in rule.teachers],
        examples.gold_ids,
        examples.slot_mask,
        rule,
        plan.size,
        plan.target_capture.max_nats,
    )


def logits_of(making: Making, name: str, part: PartRecord, slots: SlotRows) -> Array:
    """(N, V) logits of a teacher at the used slots of a part."""
    gold = np.concatenate(slots.gold)
    rng = np.random.default_rng([ord(name), part.first_example])
    logits = rng.normal(scale=3.0, size=(len(gold), making.plan.size))
    # Gold is likely at every other slot.
    logits[np.arange(2, len(gold), 2), gold[2::2]] += 9.0
    # Fewer ids of non-zero probability than are kept, and a gold of probability 0.
    logits[0, 2:] = -np.inf
    logits[1, gold[1]] = -np.inf
    if making.plan.zeros and name == "a":
        logits[3, making.plan.size // 2 :] = -np.inf
    return logits


def _teacher_arrays(
    making: Making, name: str, capture: Capture, part: PartRecord, slots: SlotRows
) -> TeacherArrays:
    """Distributions of the examples of a part: NaN and 0 at unused slots."""
    used = np.array([len(gold) for gold in slots.gold])
    mask = np.arange(making.plan.layout.slots) < used[:, None]
    gold = np.concatenate(slots.gold)
    logits = logits_of(making, name, part, slots)
    dense = reference_distributions(logits, gold, capture.k, capture.temperatures)
    types = {"ids": np.int32, "n_valid": np.int32, "gold_rank": np.uint32}
    arrays = {}
    for array in array_names(TeacherArrays):
        values = np.asarray(getattr(dense, array)).astype(types.get(array, np.float32))
        fill = np.nan if values.dtype.kind == "f" else 0
        arrays[array] = np.full((*mask.shape, *values.shape[1:]), fill, values.dtype)
        arrays[array][mask] = values
    return narrow(TeacherArrays(**arrays), capture.top_p, capture.temperatures)


def _teacher_encoder(capture: Capture) -> Encode:
    at_1 = capture.temperatures.index(1.0)

    def encode(arrays: Arrays, order: Array) -> tuple[dict[str, Array], JsonObject]:
        assert isinstance(arrays, TeacherArrays)
        stored = encode_teacher(arrays, capture, order)
        read = decode_teacher(stored, capture, order)
        cost = quantising_nats(
            arrays.logprobs, arrays.tail[..., at_1], read.logprobs, read.tail[..., at_1]
        )
        return stored, {**teacher_stats(read, capture.temperatures), "quantising_nats_sum": cost}

    return encode


def _target_encoder(making: Making) -> Encode:
    capture, rule = making.plan.target_capture, making.plan.target[1]

    def encode(arrays: Arrays, order: Array) -> tuple[dict[str, Array], JsonObject]:
        assert isinstance(arrays, TargetArrays)
        stored = encode_target(arrays, capture, order)
        read = decode_target(stored, capture, order)
        cost = quantising_nats(arrays.logprobs, arrays.tail, read.logprobs, read.tail)
        return stored, {**target_stats(read, rule.teachers), "quantising_nats_sum": cost}

    return encode


def _fill(
    making: Making,
    group: str,
    identity: JsonObject,
    specs: tuple[ArraySpec, ...],
    arrays: Arrays,
    encode: Encode,
) -> Journal:
    plan, examples = making.plan, len(arrays)
    order = order_of(_cut(arrays, 0, plan.layout.shard_examples), plan.size)
    described = zarr_io.describe(group, specs, plan.layout, examples, order)
    files = {WHOLE_PART: ShardFiles(WHOLE_PART, described, {})}
    for shard, start, stop in shards_of(plan, examples):
        stored, stats = encode(_cut(arrays, start, stop), order)
        encoded = zarr_io.encode_shard(group, specs, plan.layout, examples, shard, stored)
        files[shard] = ShardFiles(shard, encoded, stats)
    return making.fill(group, identity, files)


def _cut(arrays: Arrays, start: int, stop: int) -> Arrays:
    return type(arrays)(**{name: arrays[name][start:stop] for name in array_names(type(arrays))})


def _filled(journal: Journal, identity: JsonObject) -> FilledPart:
    return FilledPart(
        fingerprint=fingerprint(identity),
        stats=add_stats(line.stats for line in journal.lines),
        profile=journal.profile,
    )
