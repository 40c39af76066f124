"""Whole caches against plain transformers code: seven families, stored exactly and quantised.

The oracle reads ``cache.examples`` and runs one example at a time, unpadded, with full logits.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration import builds
from tests.integration.test_teacher_families import (
    FAMILIES,
    KEPT,
    TEMPERATURES,
    assert_same,
    live,
    make,
)

import ckd_cache
from ckd_cache.build.recipe import read_recipe
from ckd_cache.build.run import build_cache
from ckd_cache.types import TeacherArrays

MAX_NATS = 1e-4
STEP = math.sqrt(24 * MAX_NATS)
HALF, GRID = 2.0**-11, 2.0**-11
FLOAT32 = 2e-4
"""Room for what two ways of computing the same float32 logits may differ by."""


@pytest.fixture(scope="module", params=list(FAMILIES))
def caches(request, tmp_path_factory) -> tuple[Path, int, ckd_cache.Cache, ckd_cache.Cache]:
    """A teacher of a family, and its exact and its quantised cache."""
    folder = tmp_path_factory.mktemp(f"live-{request.param}")
    teacher, size = make(folder / "teacher", request.param)
    write_words(folder / "corpus.txt", size)
    changes: dict[str, Any] = {
        "corpus": {
            "sources": [{"kind": "text", "paths": ["corpus.txt"]}],
            "segment_tokens": 24,
            "pack": False,
        },
        "capture": {"top_k": KEPT.k, "temperatures": list(TEMPERATURES)},
        "objective": {"mask_fraction": [0.1, 0.4], "views": 2},
        "targets": [{"name": "gold"}],
    }
    recipe = builds.recipe(folder, {"a": teacher}, **changes)
    for name, max_nats in (("exact", 0), ("quantised", MAX_NATS)):
        overrides = [f"capture.max_nats={max_nats}"]
        build_cache(read_recipe(recipe, overrides), folder, folder / f"{name}.ckd")
    exact, quantised = (ckd_cache.open(folder / f"{n}.ckd") for n in ("exact", "quantised"))
    return teacher, size, exact, quantised


def write_words(path: Path, size: int) -> None:
    """Documents of unequal length made of the words of a made-up vocabulary."""
    generator = np.random.default_rng(size)
    documents = [
        " ".join(f"w{word}" for word in generator.integers(5, size, generator.integers(3, 40)))
        for _ in range(24)
    ]
    path.write_text("\n\n".join(documents), encoding="utf-8")


def both(cache: ckd_cache.Cache, folder: Path, size: int) -> tuple[TeacherArrays, TeacherArrays]:
    examples = cache.examples.read(0, len(cache.examples))
    assert examples.slot_mask.sum() > 100
    assert len(set(examples.attention_mask.sum(axis=1))) > 5, "lengths must differ"
    return cache.teachers["a"].read(0, len(cache.examples)), live(folder, examples, size)


def test_stored_exactly_every_number_is_the_live_one(caches):
    folder, size, exact, _ = caches
    cached, plain = both(exact, folder, size)
    assert_same(cached, plain, tolerance=FLOAT32)


def test_quantised_every_number_is_within_its_bound(caches):
    folder, size, _, quantised = caches
    cached, plain = both(quantised, folder, size)
    at_1 = TEMPERATURES.index(1.0)
    used = plain.n_valid > 0
    tail, head = plain.tail[used][:, at_1], np.exp(plain.logprobs[used]).sum(-1)
    tail_mass_error = np.exp(tail) * np.expm1(HALF * np.abs(tail))
    bound = STEP + (tail_mass_error / head)[:, None] + FLOAT32
    error = np.abs(cached.logprobs[used] - plain.logprobs[used])
    assert np.all(error <= bound)
    assert error.mean() > STEP / 40, "this cache is quantised"
    for name in ("tail", "entropy"):
        limit = HALF * np.abs(plain[name][used]) + FLOAT32
        assert np.all(np.abs(cached[name][used] - plain[name][used]) <= limit), name
    for name in ("logsumexp", "gold_logprob"):
        assert np.all(np.abs(cached[name][used] - plain[name][used]) <= GRID + FLOAT32), name
    assert np.all(np.abs(cached.gold_rank.astype(int) - plain.gold_rank) <= 1)
    total = np.exp(cached.logprobs[used].astype(float)).sum(-1)
    total += np.exp(cached.tail[used][:, at_1].astype(float))
    np.testing.assert_allclose(total, 1.0, atol=1e-5)


def test_quantising_costs_what_the_recipe_allows(caches):
    """KL of the decoded distribution from the exact one, on the cells of the cache."""
    _, _, exact, quantised = caches
    count = len(exact.examples)
    p, q = (cache.teachers["a"].read(0, count) for cache in (exact, quantised))
    used = p.n_valid > 0
    at_1 = TEMPERATURES.index(1.0)
    cells = [
        np.concatenate([a.logprobs[used], a.tail[used][:, at_1 : at_1 + 1]], axis=1).astype(float)
        for a in (p, q)
    ]
    kl = (np.exp(cells[0]) * (cells[0] - cells[1])).sum(axis=1)
    assert 0 < kl.mean() <= 1.2 * MAX_NATS


def test_ids_are_the_same_however_they_are_stored(caches):
    _, _, exact, quantised = caches
    count = len(exact.examples)
    a, b = (cache.teachers["a"].read(0, count) for cache in (exact, quantised))
    np.testing.assert_array_equal(a.ids, b.ids)


def test_slots_alone_differ_from_gold_or_not_as_the_corruption_says(caches):
    _, _, exact, _ = caches
    examples = exact.examples.read(0, len(exact.examples))
    rows, slots = np.nonzero(examples.slot_mask)
    seen = examples.input_ids[rows, examples.slot_positions[rows, slots]]
    masked = seen == 4
    kept = seen == examples.gold_ids[rows, slots]
    assert 0.7 < masked.mean() < 0.9
    assert 0.04 < kept.mean() < 0.17
