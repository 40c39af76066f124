from __future__ import annotations

import numpy as np
import pytest

from ckd_cache.format.encode import decode_target, decode_teacher, encode_target, encode_teacher
from ckd_cache.format.spec import target_specs, teacher_specs
from ckd_cache.format.stats import teacher_stats
from ckd_cache.types import TargetArrays, TeacherArrays


def changed(arrays, **values):
    members = {name: arrays[name] for name in arrays.keys()}  # noqa: SIM118
    return type(arrays)(**{**members, **values})


@pytest.mark.parametrize("name", ["a", "b"])
def test_stored_arrays_fit_their_specifications(small, name):
    capture = small.CAPTURES[name]
    stored = encode_teacher(small.teacher_arrays(name, 0), capture, small.ORDER)
    specs = teacher_specs(capture, 50)
    assert list(stored) == [spec.name for spec in specs]
    for spec in specs:
        assert stored[spec.name].dtype.name == spec.dtype, spec.name
        assert stored[spec.name].shape == spec.shape(10, 3), spec.name
    stored = encode_target(small.target_arrays(0), small.TARGET, small.ORDER)
    for spec in target_specs(small.TARGET, 50, 2):
        assert stored[spec.name].dtype.name == spec.dtype, spec.name
        assert stored[spec.name].shape == spec.shape(10, 3), spec.name


@pytest.mark.parametrize("name", ["a", "b"])
def test_unused_slots_and_ranks_are_zero_on_disk(small, name):
    arrays = small.teacher_arrays(name, 0)
    unused = arrays.n_valid == 0
    beyond = np.arange(4) >= arrays.n_valid[..., None]
    assert (beyond & ~unused[..., None]).any()
    stored = encode_teacher(arrays, small.CAPTURES[name], small.ORDER)
    for field, values in stored.items():
        assert not values[unused].any(), field
    assert not stored["ids"][beyond].any()
    assert not stored["logprobs"][beyond].any()
    stored = encode_target(small.target_arrays(0), small.TARGET, small.ORDER)
    for field, values in stored.items():
        assert not values[unused].any(), field


def test_exact_teachers_come_back_as_float32(small):
    arrays, capture = small.teacher_arrays("b", 0), small.CAPTURES["b"]
    decoded = decode_teacher(encode_teacher(arrays, capture, small.ORDER), capture, small.ORDER)
    for field in arrays.keys():  # noqa: SIM118
        expected = np.asarray(arrays[field])
        if field in ("ids", "logprobs"):
            kept = np.arange(4) < arrays.n_valid[..., None]
            fill = 0 if field == "ids" else np.where(arrays.n_valid > 0, -np.inf, np.nan)[..., None]
            expected = np.where(kept, expected, fill)
        np.testing.assert_array_equal(decoded[field], expected.astype(decoded[field].dtype), field)


def test_compact_teachers_come_back_within_a_step(small):
    arrays, capture = small.teacher_arrays("a", 0), small.CAPTURES["a"]
    decoded = decode_teacher(encode_teacher(arrays, capture, small.ORDER), capture, small.ORDER)
    kept = np.arange(4) < arrays.n_valid[..., None]
    used = arrays.n_valid > 0
    assert np.abs(decoded.logprobs[kept] - arrays.logprobs[kept]).max() <= capture.step * 1.01
    np.testing.assert_array_equal(decoded.ids[kept], arrays.ids[kept])
    mass = np.where(kept, np.exp(decoded.logprobs.astype(np.float64)), 0).sum(-1)
    head = -np.expm1(decoded.tail[..., 0].astype(np.float64))
    np.testing.assert_allclose(mass[used], head[used], rtol=1e-6)
    np.testing.assert_allclose(decoded.logsumexp[used], arrays.logsumexp[used], atol=2**-11 * 1.01)
    np.testing.assert_array_equal(decoded.gold_rank, arrays.gold_rank)


def test_a_tail_never_leaves_the_head_without_mass(small):
    arrays, capture = small.teacher_arrays("a", 0), small.CAPTURES["a"]
    used = arrays.n_valid > 0
    tail = np.where(used[..., None], -1e-9, np.nan)
    decoded = decode_teacher(
        encode_teacher(changed(arrays, tail=tail), capture, small.ORDER), capture, small.ORDER
    )
    assert (decoded.tail[used] == -(2.0**-24)).all()
    assert np.isfinite(decoded.logprobs[used][:, 0]).all()
    outside = np.where(used[..., None], -np.inf, np.nan)
    decoded = decode_teacher(
        encode_teacher(changed(arrays, tail=outside), capture, small.ORDER), capture, small.ORDER
    )
    assert np.isneginf(decoded.tail[used]).all()


def test_gold_outside_the_model_stays_impossible(small):
    arrays, capture = small.teacher_arrays("a", 0), small.CAPTURES["a"]
    gold = np.where(arrays.n_valid > 0, -np.inf, np.nan)
    stored = encode_teacher(changed(arrays, gold_logprob=gold), capture, small.ORDER)
    decoded = decode_teacher(stored, capture, small.ORDER)
    np.testing.assert_array_equal(decoded.gold_logprob, gold.astype(np.float32))


def test_temperature_1_need_not_come_first(small):
    arrays, capture = small.teacher_arrays("a", 0), small.CAPTURES["a"]
    turned = type(capture)(capture.k, (2.0, 1.0), capture.max_nats, capture.step)
    flipped = changed(
        arrays,
        tail=arrays.tail[..., ::-1],
        logsumexp=arrays.logsumexp[..., ::-1],
        entropy=arrays.entropy[..., ::-1],
    )
    decoded = decode_teacher(encode_teacher(flipped, turned, small.ORDER), turned, small.ORDER)
    expected = decode_teacher(encode_teacher(arrays, capture, small.ORDER), capture, small.ORDER)
    np.testing.assert_array_equal(decoded.logprobs, expected.logprobs)
    assert teacher_stats(decoded, (2.0, 1.0)) == teacher_stats(expected)


def test_targets_come_back(small):
    arrays = small.target_arrays(0)
    decoded = decode_target(
        encode_target(arrays, small.TARGET, small.ORDER), small.TARGET, small.ORDER
    )
    used = arrays.n_valid > 0
    np.testing.assert_allclose(decoded.weights[used], arrays.weights[used], atol=1e-5)
    np.testing.assert_allclose(decoded.weights[used].sum(-1), 1.0, rtol=1e-6)
    assert (decoded.uncertain[used] >= arrays.uncertain[used]).all()
    assert (decoded.uncertain[used] <= arrays.uncertain[used] * 1.001).all()
    assert np.isnan(decoded.uncertain[~used]).all()


def test_bounds_are_rounded_up_when_exact_too(small):
    capture = type(small.TARGET)(5, (1.0,), 0.0, 0.0)
    arrays = changed(small.target_arrays(0), uncertain=np.full((10, 3), 0.7))
    decoded = decode_target(encode_target(arrays, capture, small.ORDER), capture, small.ORDER)
    used = arrays.n_valid > 0
    assert (decoded.uncertain[used].astype(np.float64) >= 0.7).all()
    np.testing.assert_array_equal(decoded.weights[used], arrays.weights[used])


@pytest.mark.parametrize("bad", [-1, 50])
def test_ids_outside_the_support_are_refused(small, bad):
    arrays = small.teacher_arrays("a", 0)
    ids = np.where(np.arange(4) == 0, bad, arrays.ids)
    with pytest.raises(ValueError, match="do not fit a support of 50"):
        encode_teacher(changed(arrays, ids=ids), small.CAPTURES["a"], small.ORDER)


@pytest.mark.parametrize(("field", "value"), [("ids", 50), ("n_valid", 5)])
def test_stored_numbers_that_cannot_be_are_refused(small, field, value):
    capture = small.CAPTURES["a"]
    stored = encode_teacher(small.teacher_arrays("a", 0), capture, small.ORDER)
    stored[field] = np.full_like(stored[field], value)
    with pytest.raises(ValueError, match=str(value)):
        decode_teacher(stored, capture, small.ORDER)


def test_nothing_at_all_encodes_and_decodes(small):
    for name, capture in small.CAPTURES.items():
        arrays = small.teacher_arrays(name, 0)
        none = TeacherArrays(**{key: arrays[key][:0] for key in arrays.keys()})  # noqa: SIM118
        assert (
            len(decode_teacher(encode_teacher(none, capture, small.ORDER), capture, small.ORDER))
            == 0
        )
    target = small.target_arrays(0)
    nothing = TargetArrays(**{key: target[key][:0] for key in target.keys()})  # noqa: SIM118
    encode_target(nothing, small.TARGET, small.ORDER)


def test_statistics_add_over_shards_and_are_right(small):
    arrays, capture = small.teacher_arrays("a", 0), small.CAPTURES["a"]
    decoded = decode_teacher(encode_teacher(arrays, capture, small.ORDER), capture, small.ORDER)
    gold = np.where(
        np.arange(3) == 0, np.where(decoded.n_valid > 0, -np.inf, np.nan), decoded.gold_logprob
    )
    decoded = changed(decoded, gold_logprob=gold.astype(np.float32))
    whole = teacher_stats(decoded)
    used = [(e, s) for e in range(10) for s in range(3) if decoded.n_valid[e, s] > 0]
    finite = [x for x in used if np.isfinite(decoded.gold_logprob[x])]
    assert whole == {
        "slots": len(used),
        "entropy_sum": pytest.approx(sum(float(decoded.entropy[x][0]) for x in used)),
        "gold_logprob_sum": pytest.approx(sum(float(decoded.gold_logprob[x]) for x in finite)),
        "gold_zero": len(used) - len(finite),
        "top1_hits": sum(decoded.gold_rank[x] == 0 for x in used),
        "tail_mass_sum": pytest.approx(sum(float(np.exp(decoded.tail[x][0])) for x in used)),
        "valid_sum": int(decoded.n_valid.sum()),
    }
    assert whole["gold_zero"] > 0
    cuts = [teacher_stats(type(decoded)(**small.part_of(decoded, i, i + 5))) for i in (0, 5)]
    for name, value in whole.items():
        assert cuts[0][name] + cuts[1][name] == pytest.approx(value), name
