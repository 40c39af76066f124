"""What is gathered and written is never called damage; what a changed number says is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.format.test_verify_bounds import made

from ckd_cache.format.distribution_checks import check_gathered
from ckd_cache.format.encode import decode_teacher, encode_teacher, order_of
from ckd_cache.format.gathers import decode_gather, encode_gather, gather_width
from ckd_cache.format.spec import capture_of
from ckd_cache.format.stats import add_stats, gather_stats
from ckd_cache.numerics.gathering import gathered_ids
from ckd_cache.types import GatherArrays, array_names


def gathered(seed, size, k, scale, max_nats, holes):
    """A teacher as it is read back, what is stored of it for a group of two, and that decoded."""
    capture = capture_of(k, (1.0,), max_nats)
    arrays, _ = made(seed, size, k, (1.0,), scale, holes)
    other, _ = made(seed + 1, size, k, (1.0,), scale, holes)
    everything, _ = made(seed, size, size, (1.0,), scale, holes)
    order = order_of(arrays, size)
    own = decode_teacher(encode_teacher(arrays, capture, order), capture, order)
    width = gather_width("a", {"a": k, "b": k}, size)
    ids, n_valid = gathered_ids(own.ids, own.n_valid, [(other.ids, other.n_valid)], width)
    dense = np.full((*own.n_valid.shape, size), -np.inf)
    kept = np.arange(everything.ids.shape[-1]) < everything.n_valid[..., None]
    at = np.nonzero(kept)
    dense[at[0], at[1], everything.ids[kept]] = everything.logprobs[kept]
    logprobs = np.take_along_axis(dense, np.maximum(ids, 0), axis=-1)
    stored = encode_gather(logprobs, n_valid, capture.step)["logprobs"]
    return own, stored, arrays_of(stored, ids, n_valid, capture), capture


def arrays_of(stored, ids, n_valid, capture):
    return GatherArrays(ids, decode_gather(stored, n_valid, capture.step), n_valid)


@given(
    seed=st.integers(0, 2**32),
    size=st.integers(2, 200),
    share=st.floats(0.01, 1.0),
    scale=st.sampled_from([0.0, 1e-4, 1.0, 8.0, 60.0, 400.0]),
    max_nats=st.sampled_from([0.0, 1e-6, 1e-4, 1e-2, 1.0]),
    holes=st.booleans(),
)
def test_nothing_that_is_written_is_called_damage(seed, size, share, scale, max_nats, holes):
    k = max(1, int(size * share))
    own, stored, arrays, capture = gathered(seed, size, k, scale, max_nats, holes)
    assert list(check_gathered(stored, arrays, own, capture)) == []


def problems(own, stored, arrays, capture):
    again = arrays_of(stored, arrays.ids, arrays.n_valid, capture)
    return [one.problem for one in check_gathered(stored, again, own, capture)]


def test_changed_numbers_are_damage():
    for max_nats in (0.0, 1e-4):
        own, stored, arrays, capture = gathered(3, 60, 5, 2.0, max_nats, holes=False)
        example, slot = np.argwhere(arrays.n_valid > 2)[0]
        likelier = stored.copy()
        likelier[example, slot, 0] = 0
        assert problems(own, likelier, arrays, capture) == ["logprobs", "mass"]
        beyond = stored.copy()
        beyond[0, 0, -1] = 1
        fewer = replace(arrays, n_valid=np.minimum(arrays.n_valid, stored.shape[-1] - 1))
        assert problems(own, beyond, fewer, capture)[0] == "used slots"


def test_more_than_the_tail_is_damage():
    own, stored, arrays, capture = gathered(5, 200, 20, 1.0, 0.0, holes=False)
    at = arrays.n_valid > 0
    last = np.take_along_axis(own.logprobs, own.n_valid[..., None] - 1, axis=-1)
    most = np.where(arrays.ids >= 0, last, 0).astype(np.float32)
    small = replace(own, tail=np.where(at[..., None], np.log(np.float32(1e-3)), own.tail))
    assert problems(small, most, arrays, capture) == ["mass"]
    assert problems(own, stored, arrays, capture) == []


def test_figures_add_over_shards():
    own, _, arrays, _ = gathered(3, 60, 5, 2.0, 0.0, holes=True)
    used = own.n_valid > 0
    whole = gather_stats(arrays, used)
    pieces = []
    for at in (slice(0, 1), slice(1, 2)):
        piece = GatherArrays(**{name: arrays[name][at] for name in array_names(GatherArrays)})
        pieces.append(gather_stats(piece, used[at]))
    assert add_stats(pieces) == {**whole, "mass_sum": whole["mass_sum"]}
    there = arrays.ids >= 0
    assert whole["gathered_sum"] == there.sum()
    assert whole["zero_sum"] == np.isneginf(arrays.logprobs[there]).sum() > 0
    assert whole["slots"] == 6
