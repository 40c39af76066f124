"""What do the stored distributions cost, in bytes and in nats, and how fast are they read?

Captures the quickstart's teachers once, exactly, adds a flat hard case (random logits), and stores
all of them with our codec and with those that other tools use, at several k. Prints two tables.

    python -m tests.benchmarks.codec [--slots 40000]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from numcodecs import Zstd
from tests.benchmarks.corpus_growth import write_corpus

from ckd_cache.build.recipe import read_recipe
from ckd_cache.build.run import build_cache
from ckd_cache.format.encode import decode_teacher, encode_teacher, order_of
from ckd_cache.format.reader import open_cache
from ckd_cache.format.spec import Layout, capture_of, teacher_specs
from ckd_cache.format.stats import quantising_nats
from ckd_cache.format.zarr_io import encode_shard
from ckd_cache.numerics.topk import reference_distributions
from ckd_cache.types import TeacherArrays, array_names

Array = npt.NDArray[Any]
FOLDER = Path(__file__).parents[2] / "workflows" / "quickstart" / "teachers"
LARGEST, SIZE, SLOTS = 64, 8192, 19
KEPT = (16, 32, 64)
MAX_NATS = 1e-4
RAW, HALVES, OURS, BOUND = "raw uint32 + float32", "uint16 + float16, zstd", "ours", "bound"
CHUNK = 8192
DOCUMENTS_PER_SLOT = 0.135
"""Of the docstrings, which are short; a little more than needed."""


@dataclass(frozen=True)
class Measured:
    """Bytes a slot and nats of one way of storing."""

    ids: float
    values: float
    nats: float

    @property
    def whole(self) -> float:
        """Ids and values together."""
        return self.ids + self.values


def captured(folder: Path, slots: int) -> dict[str, TeacherArrays]:
    """Exact distributions of the quickstart's teachers and of random logits, one slot a row."""
    cache = build_recipe(folder, slots, LARGEST, 0.0)
    teachers = open_cache(cache).set("text").teachers
    found = {
        name: _flat(teacher.read(0, teacher.stored.record.examples), slots)
        for name, teacher in teachers.items()
    }
    rng = np.random.default_rng(0)
    pieces = [_random(rng, min(2048, slots - start)) for start in range(0, slots, 2048)]
    found["random"] = _joined(pieces)
    return found


def build_recipe(folder: Path, slots: int, top_k: int, max_nats: float) -> Path:
    """A cache of both teachers over docstrings that has at least ``slots`` slots."""
    write_corpus(folder / "corpus.jsonl", int(slots * DOCUMENTS_PER_SLOT))
    recipe = {
        "corpus": {
            "sources": [{"kind": "jsonl", "paths": ["corpus.jsonl"]}],
            "tokenizer": str(FOLDER / "prose"),
            "segment_tokens": 128,
        },
        "objective": {"kind": "masked_lm", "mask_fraction": 0.15, "views": 1},
        "teachers": [{"name": n, "model": str(FOLDER / n)} for n in ("prose", "tech")],
        "capture": {"top_k": top_k, "max_nats": max_nats},
        "shards": {"slots": 1 << 20, "chunk_slots": CHUNK},
        "runtime": {"device": "cpu"},
    }
    path = folder / f"recipe-{top_k}-{max_nats}.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    cache = folder / f"cache-{top_k}-{max_nats}.ckd"
    build_cache(read_recipe(path), path.parent, cache)
    there = open_cache(cache).set("text").n_slots
    if there < slots:
        message = f"the corpus gave {there} slots in place of {slots}; see DOCUMENTS_PER_SLOT"
        raise SystemExit(message)
    return cache


def _flat(arrays: TeacherArrays, slots: int) -> TeacherArrays:
    used = arrays.n_valid > 0
    return TeacherArrays(**{n: arrays[n][used][:slots, None] for n in array_names(TeacherArrays)})


def _random(rng: np.random.Generator, slots: int) -> TeacherArrays:
    logits = rng.normal(size=(slots, SIZE))
    dense = reference_distributions(logits, rng.integers(0, SIZE, slots), LARGEST, (1.0,))
    return TeacherArrays(
        **{n: np.asarray(getattr(dense, n))[:, None] for n in array_names(TeacherArrays)}
    )


def _joined(pieces: Sequence[TeacherArrays]) -> TeacherArrays:
    names = array_names(TeacherArrays)
    return TeacherArrays(**{n: np.concatenate([p[n] for p in pieces]) for n in names})


def cut(arrays: TeacherArrays, k: int) -> TeacherArrays:
    """The k most probable of the entries kept; what is dropped joins the tail."""
    dropped = np.logaddexp.reduce(arrays.logprobs[..., k:].astype(float), axis=-1)
    tail = np.logaddexp(arrays.tail[..., 0].astype(float), dropped)
    changed: dict[str, Array] = {
        "ids": arrays.ids[..., :k],
        "logprobs": arrays.logprobs[..., :k],
        "n_valid": np.minimum(arrays.n_valid, k),
        "tail": tail[..., None].astype(np.float32),
    }
    return TeacherArrays(**{n: changed.get(n, arrays[n]) for n in array_names(TeacherArrays)})


def ours(arrays: TeacherArrays) -> tuple[Measured, float]:
    """Our codec, as a cache stores it: ids and logprobs, and bytes of all the other arrays."""
    slots, _, k = arrays.ids.shape
    layout = Layout(1, CHUNK, CHUNK * -(-slots // CHUNK), SIZE)
    capture = capture_of(k, (1.0,), MAX_NATS)
    order = order_of(arrays, SIZE)
    stored = encode_teacher(arrays, capture, order)
    files = encode_shard("g", teacher_specs(capture, SIZE), layout, slots, 0, stored)
    size = {path.split("/")[1]: len(data) / slots for path, data in files.items()}
    decoded = decode_teacher(stored, capture, order)
    nats = _nats(arrays, decoded.logprobs, decoded.tail)
    rest = sum(size.values()) - size["ids"] - size["logprobs"]
    return Measured(size["ids"], size["logprobs"], nats), rest


def raw(arrays: TeacherArrays) -> Measured:
    """Ids as uint32 and values as float32."""
    k = arrays.ids.shape[-1]
    return Measured(4.0 * k, 4.0 * k, 0.0)


def halves(arrays: TeacherArrays) -> Measured:
    """Ids as uint16 and values as float16, slot after slot, each chunk with zstd."""
    rounded = arrays.logprobs.astype(np.float16)
    nats = _nats(arrays, rounded.astype(np.float32), arrays.tail.astype(np.float16))
    return Measured(_zstd(arrays.ids.astype(np.uint16)), _zstd(rounded), nats)


def bound(arrays: TeacherArrays) -> Measured:
    """Order-0 entropy of the drops by rank; ids under a prior fitted on the other half."""
    k = arrays.ids.shape[-1]
    capture = capture_of(k, (1.0,), MAX_NATS)
    drops = encode_teacher(arrays, capture, np.arange(SIZE))["logprobs"][:, 0]
    values = sum(_entropy(drops[:, rank]) for rank in range(k))
    ids, half = arrays.ids[:, 0], len(arrays.ids) // 2
    bits = 0.0
    for fitted, coded in ((ids[:half], ids[half:]), (ids[half:], ids[:half])):
        counts = np.bincount(fitted.ravel(), minlength=SIZE) + 0.5
        bits -= np.log2(counts / counts.sum())[coded].sum()
    return Measured(bits / 8 / len(ids), values / 8, float("nan"))


def _nats(arrays: TeacherArrays, logprobs: Array, tail: Array) -> float:
    sums = quantising_nats(arrays.logprobs, arrays.tail[..., 0], logprobs, tail[..., 0])
    return sums / len(arrays.ids)


def _zstd(values: Array) -> float:
    codec = Zstd(level=3, checksum=True)
    chunks = [values[start : start + CHUNK] for start in range(0, len(values), CHUNK)]
    return sum(len(codec.encode(np.ascontiguousarray(c))) for c in chunks) / len(values)


def _entropy(symbols: Array) -> float:
    shares = np.unique(symbols, return_counts=True)[1] / symbols.size
    return float(-(shares * np.log2(shares)).sum())


def reading(folder: Path, slots: int, turns: int = 7) -> dict[str, float]:
    """Slots a second on one core: all arrays of a teacher at k = 32, against ``np.load``."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cache = open_cache(build_recipe(folder, slots, 32, MAX_NATS)).set("text")
    teacher, examples = cache.teachers["prose"], cache.n_examples
    arrays = teacher.read(0, examples)
    for name in array_names(TeacherArrays):
        np.save(folder / f"{name}.npy", arrays[name])
    ways: dict[str, Callable[[], object]] = {
        "np.load, all arrays": lambda: _load(folder, array_names(TeacherArrays)),
        "cache, all arrays": lambda: teacher.read(0, examples),
    }
    best = dict.fromkeys(ways, 0.0)
    for _ in range(turns):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            best[name] = max(best[name], cache.n_slots / (time.perf_counter() - begin))
    return best


def _load(folder: Path, names: Sequence[str]) -> list[Array]:
    return [np.load(folder / f"{name}.npy") for name in names]


def sizes(found: dict[str, TeacherArrays]) -> list[str]:
    """The table of bytes and nats, a line a teacher, k and way of storing."""
    lines = [
        "| teacher | k | stored as | ids | values | ids + values | of the bound | KL, nats |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, exact in found.items():
        for k in KEPT:
            ways, rest = compared(cut(exact, k))
            for way, one in ways.items():
                more = f" (other arrays: {rest:.1f})" if way == OURS else ""
                nats = "" if np.isnan(one.nats) else f"{one.nats:.1e}"
                lines.append(
                    f"| {name} | {k} | {way}{more} | {one.ids:.1f} | {one.values:.1f} |"
                    f" {one.whole:.1f} | {one.whole / ways[BOUND].whole:.3f} | {nats} |"
                )
    return lines


def compared(arrays: TeacherArrays) -> tuple[dict[str, Measured], float]:
    """Every way of storing some arrays; and bytes a slot of our other arrays."""
    here, rest = ours(arrays)
    ways = {RAW: raw(arrays), HALVES: halves(arrays), OURS: here, BOUND: bound(arrays)}
    return ways, rest


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slots", type=int, default=40_000)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        lines = sizes(captured(Path(folder), options.slots))
        speeds = reading(Path(folder), options.slots)
    lines += ["", "| read at k = 32, one core | million slots/s |", "| --- | --- |"]
    lines += [f"| {name} | {speed / 1e6:.2f} |" for name, speed in speeds.items()]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
