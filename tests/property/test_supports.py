"""Write and read is the identity within the quantiser's bound, for any support and any logits."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckd_cache.format import shards, zarr_io
from ckd_cache.format.encode import decode_teacher, encode_teacher, order_of
from ckd_cache.format.spec import Layout, capture_of, teacher_specs
from ckd_cache.numerics.topk import reference_distributions
from ckd_cache.types import TeacherArrays, array_names

SIZES = [2**n + off for n in (8, 15, 16, 17, 18) for off in (-1, 0, 1)]
KINDS = ["plain", "flat", "certain", "forbidden", "few"]
HALF = 2.0**-11
"""Largest relative rounding of a float16."""


def logits_of(kind, size, rng):
    """One slot: (size,) float64."""
    logits = rng.normal(scale=4.0, size=size)
    if kind == "flat":
        logits[:] = 1.5
    if kind == "certain":
        logits[rng.integers(size)] += 500.0
    if kind == "forbidden":
        logits[rng.random(size) < 0.7] = -np.inf
        logits[rng.integers(size)] = 0.0
    if kind == "few":
        few = rng.choice(size, 3, replace=False)
        kept = logits[few]
        logits[:] = -np.inf
        logits[few] = kept
    return logits


def through_files(stored, capture, order, layout, examples):
    """Write the arrays as files, and read them with the reader of shards."""
    specs = teacher_specs(capture, layout.support_size)
    with tempfile.TemporaryDirectory() as folder:
        files = zarr_io.describe("g", specs, layout, examples, order)
        files |= zarr_io.encode_shard("g", specs, layout, examples, 0, stored)
        read = {}
        for spec in specs:
            path = Path(folder) / spec.name
            path.write_bytes(files[f"g/{spec.name}/c/0{'/0' * (len(spec.dimension_names) - 1)}"])
            read[spec.name] = np.concatenate(
                list(shards.read_chunks(path, spec, layout, 0, examples))
            )
    again = shards.decode_order(files["g/order/c/0"], layout.support_size)
    return decode_teacher(read, capture, again)


@pytest.mark.parametrize("size", SIZES)
@settings(max_examples=6)
@given(
    k=st.integers(1, 128),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
    max_nats=st.sampled_from([0.0, 1e-4, 1e-9]),
    seed=st.integers(0, 999),
)
def test_what_is_written_is_read(size, k, kinds, max_nats, seed):
    rng = np.random.default_rng(seed)
    capture = capture_of(min(k, size), (1.0, 2.0), max_nats)
    logits = np.stack([logits_of(kind, size, rng) for kind in kinds])
    gold = rng.integers(0, size, len(kinds))
    dense = reference_distributions(logits, gold, capture.k, capture.temperatures)
    exact = TeacherArrays(
        **{n: np.asarray(getattr(dense, n))[:, None] for n in array_names(TeacherArrays)}
    )
    order = order_of(exact, size)
    stored = encode_teacher(exact, capture, order)
    found = through_files(stored, capture, order, Layout(1, 2, 4, size), len(kinds))

    kept = np.arange(capture.k) < exact.n_valid[..., None]
    np.testing.assert_array_equal(found.n_valid, exact.n_valid)
    np.testing.assert_array_equal(found.ids[kept], exact.ids[kept])
    np.testing.assert_array_equal(found.gold_rank, exact.gold_rank)
    assert np.isneginf(found.logprobs[~kept]).all()
    mass = np.exp(found.logprobs.astype(float)).sum(-1) + np.exp(found.tail[..., 0].astype(float))
    np.testing.assert_allclose(mass, 1.0, atol=1e-5 if max_nats else 1e-4)
    check_within_bounds(found, exact, kept, capture)


def check_within_bounds(found, exact, kept, capture):
    tail = exact.tail[..., 0].astype(float)
    # The head is rescaled to what the rounded tail leaves of the mass.
    rounding = 0.0 if capture.exact else HALF
    head = np.log(-np.expm1(np.minimum(tail, -(2.0**-24))))
    moved = np.abs(np.log(-np.expm1(np.minimum(tail * (1 - rounding), -(2.0**-24)))) - head)
    drift = np.maximum(
        moved, np.abs(np.log(-np.expm1(np.minimum(tail * (1 + rounding), -(2.0**-24)))) - head)
    )
    written = np.where(kept, exact.logprobs, 0.0).astype(float)
    read = np.where(kept, found.logprobs, 0.0).astype(float)
    allowed = capture.step + drift[..., None] + 2e-5 + 1e-6 * np.abs(written)
    assert (np.abs(read - written) <= allowed)[written > -700.0].all()
    scalars = 1e-6 if capture.exact else HALF
    np.testing.assert_allclose(found.tail, exact.tail, rtol=scalars, atol=1e-7)
    np.testing.assert_allclose(found.entropy, exact.entropy, rtol=scalars, atol=1e-7)
    grid = 1e-6 if capture.exact else 2.0**-11
    np.testing.assert_allclose(found.logsumexp, exact.logsumexp, rtol=1e-6, atol=grid)
    np.testing.assert_allclose(found.gold_logprob, exact.gold_logprob, rtol=1e-6, atol=grid)
