"""Figures of a target: each against loops over the arrays as the cache gives them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import ckd_cache
from ckd_cache.errors import IncompleteCacheError
from ckd_cache.inspection.target_figures import target_figures

SEGMENTS, FIT_SEGMENT = 7, 4
"""Of the cache ``tiny``; its one segment of the split ``fit``."""


@dataclass
class Slot:
    """One used slot, in plain numbers."""

    segment: int
    seen: str
    gold: int
    weights: list[float]
    teachers: dict[str, Any]
    target: Any


def read_slots(path: Any) -> list[Slot]:
    """All used slots of the cache ``tiny`` with its target ``gold``."""
    cache = ckd_cache.open(path)
    examples = cache.examples.read(0, len(cache.examples))
    arrays = {name: one.read(0, len(one)) for name, one in cache.teachers.items()}
    target = cache.targets["gold"].read(0, len(cache.examples))
    return list(_slots(examples, arrays, target))


def _slots(examples: Any, arrays: Any, target: Any) -> Iterator[Slot]:
    for example, slot in np.argwhere(examples.slot_mask):
        gold = int(examples.gold_ids[example, slot])
        shown = int(examples.input_ids[example, examples.slot_positions[example, slot]])
        yield Slot(
            segment=int(example) % SEGMENTS,
            seen="masked" if shown == 4 else "kept" if shown == gold else "random",
            gold=gold,
            weights=[float(one) for one in target.weights[example, slot]],
            teachers={name: one_slot(one, example, slot) for name, one in arrays.items()},
            target=one_slot(target, example, slot),
        )


def one_slot(arrays: Any, example: int, slot: int) -> dict[str, Any]:
    return {name: arrays[name][example, slot].astype(np.float64) for name in arrays.keys()}  # noqa: SIM118


def kept(one: dict[str, Any]) -> dict[int, float]:
    """Probabilities of kept ids at temperature 1, with the tail exactly 1 together."""
    count = int(one["n_valid"])
    raw = np.exp(one["logprobs"][:count])
    raw *= (1.0 - np.exp(one["tail"][0])) / raw.sum()
    return {int(token): float(p) for token, p in zip(one["ids"], raw, strict=False)}


@pytest.fixture(scope="module")
def slots(tiny: Any) -> list[Slot]:
    return read_slots(tiny.path)


@pytest.fixture(scope="module")
def figures(tiny: Any) -> Any:
    return target_figures(tiny.path, "text", "gold")


def test_they_are_strict_json(figures: Any) -> None:
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_every_slot_counts_once_in_each_figure(figures: Any, slots: list[Slot]) -> None:
    weights, number = figures["weights"], len(slots)
    assert figures["sample"] == {
        "slots": number, "of_slots": number, "chunks": 8, "of_chunks": 8, "every": 1,
    }  # fmt: skip
    assert sum(one["slots"] for one in weights["by_kind"]) == number
    assert sum(one["slots"] for one in weights["by_position"]) == number
    for one in weights["by_confidence"]["teachers"].values():
        assert sum(one["slots"]) == number
    outside = sum(slot.segment != FIT_SEGMENT for slot in slots)
    for stage in ("captured", "calibrated", "mixed"):
        curves = [one for one in figures["calibration"]["curves"] if one["stage"] == stage]
        for name in {one["of"] for one in curves}:
            own = [one for one in curves if one["of"] == name]
            assert sum(one["slots"] for one in own) == outside
            assert sum(each["slots"] for one in own for each in one["bins"]) == outside


def test_weights_by_the_confidence_of_the_teacher(figures: Any, slots: list[Slot]) -> None:
    for column, name in enumerate("ab"):
        found: dict[int, list[float]] = defaultdict(list)
        for slot in slots:
            confidence = float(np.exp(slot.teachers[name]["logprobs"][0]))
            found[min(int(10 * confidence), 9)].append(slot.weights[column])
        own = figures["weights"]["by_confidence"]["teachers"][name]
        assert own["slots"] == [len(found[number]) for number in range(10)]
        for number, mean in enumerate(own["mean_weight"]):
            assert mean == (pytest.approx(np.mean(found[number])) if found[number] else None)


def test_weights_by_kind_and_place(figures: Any, slots: list[Slot]) -> None:
    weights = figures["weights"]
    mean = np.mean([slot.weights for slot in slots], axis=0)
    assert [weights["mean"][name] for name in "ab"] == pytest.approx(mean.tolist())
    (fiction,) = weights["by_kind"]
    assert fiction["genre"] == "fiction"
    assert [fiction["mean_weight"][name] for name in "ab"] == pytest.approx(mean.tolist())
    by_segment: dict[int, list[list[float]]] = defaultdict(list)
    for slot in slots:
        by_segment[slot.segment].append(slot.weights)
    # Seven segments make seven ranges; the first one has no slot. Both views are together.
    places = weights["by_position"]
    assert [one["first_segment"] for one in places] == sorted(by_segment)
    for one in places:
        assert one["first_segment"] == one["last_segment"]
        own = by_segment[one["first_segment"]]
        assert one["slots"] == len(own)
        assert [one["mean_weight"][name] for name in "ab"] == pytest.approx(
            np.mean(own, axis=0).tolist()
        )


def test_agreement_of_teachers(figures: Any, slots: list[Slot]) -> None:
    same, distance, doubt = 0, [], []
    for slot in slots:
        a, b = (kept(slot.teachers[name]) for name in "ab")
        rest = [float(np.exp(slot.teachers[name]["tail"][0])) for name in "ab"]
        same += next(iter(a)) == next(iter(b))
        apart = sum(abs(a.get(token, 0.0) - b.get(token, 0.0)) for token in {*a, *b})
        distance.append((apart + abs(rest[0] - rest[1])) / 2)
        hidden = (len(set(b) - set(a)) * min(a.values()), len(set(a) - set(b)) * min(b.values()))
        doubt.append(sum(min(r, h) for r, h in zip(rest, hidden, strict=True)))
    (pair,) = figures["agreement"]
    assert pair["teachers"] == ["a", "b"]
    assert pair["same_top1"] == pytest.approx(same / len(slots))
    assert pair["total_variation"] == pytest.approx(np.mean(distance))
    assert pair["uncertain"] == pytest.approx(np.mean(doubt))


@pytest.mark.parametrize("seen", ["masked", "random", "kept"])
@pytest.mark.parametrize("stage", ["captured", "calibrated", "mixed"])
def test_calibration(figures: Any, slots: list[Slot], seen: str, stage: str) -> None:
    wanted = [slot for slot in slots if slot.seen == seen and slot.segment != FIT_SEGMENT]
    curves = [
        one
        for one in figures["calibration"]["curves"]
        if (one["seen"], one["stage"]) == (seen, stage)
    ]
    assert [one["of"] for one in curves] == (["gold"] if stage == "mixed" else ["a", "b"])
    for curve in curves:
        said = [_said(slot, curve) for slot in wanted]
        assert curve["slots"] == len(said)
        bins: dict[int, list[Any]] = defaultdict(list)
        for confidence, right, _ in said:
            bins[min(int(15 * confidence), 14)].append((confidence, right))
        error = sum(abs(sum(r - c for c, r in own)) for own in bins.values()) / len(said)
        assert curve["expected_calibration_error"] == pytest.approx(error, rel=1e-5)
        assert curve["accuracy"] == pytest.approx(np.mean([right for _, right, _ in said]))
        if stage == "mixed":
            assert curve["nll"] is None, "a rule that looks at gold has no merit to show"
        else:
            nats = np.mean([nats for _, _, nats in said])
            assert curve["nll"] == pytest.approx(nats, rel=1e-5)


def _said(slot: Slot, curve: Any) -> tuple[float, bool, float]:
    """Confidence, whether it is right, and nats of gold at the curve's temperature."""
    if curve["stage"] == "mixed":
        one = slot.target
        return float(np.exp(one["logprobs"][0])), int(one["ids"][0]) == slot.gold, np.nan
    one, heat = slot.teachers[curve["of"]], curve["temperature"]
    lse = dict(zip((1.0, 2.0), one["logsumexp"], strict=True))
    top, gold = (
        (float(logprob) + lse[1.0]) / heat - lse[heat]
        for logprob in (one["logprobs"][0], one["gold_logprob"])
    )
    return float(np.exp(top)), int(one["ids"][0]) == slot.gold, -gold


def test_temperatures_are_the_best_ones_of_the_split_fit(figures: Any, slots: list[Slot]) -> None:
    calibration = figures["calibration"]
    assert calibration["chosen_by"] == "fit split"
    inside = [slot for slot in slots if slot.segment == FIT_SEGMENT]
    for name in "ab":
        nats = {
            heat: sum(
                _said(slot, {"stage": "captured", "of": name, "temperature": heat})[2]
                for slot in inside
            )
            for heat in (1.0, 2.0)
        }
        # So few slots choose one temperature for all types.
        best = min(nats, key=lambda heat: nats[heat])
        assert calibration["temperatures"][name] == {"masked": best, "shown": best}


def test_uncertain_mass_is_that_of_all_slots(figures: Any, slots: list[Slot]) -> None:
    found = figures["uncertain"]
    doubts = sorted(float(slot.target["uncertain"]) for slot in slots)
    assert found["over"] == "all slots"
    assert found["mean"] == pytest.approx(np.mean(doubts))
    assert found["max"] == doubts[-1]
    exact = doubts[int(np.ceil(0.99 * len(doubts))) - 1]
    assert exact <= found["p99"] <= exact * 17 / 16
    assert "{each kept id of the target, everything else}" in found["cells"]


def test_every_so_many_chunks_are_read_where_slots_are_too_many(tiny: Any) -> None:
    whole = target_figures(tiny.path, "text", "gold", 10**6)
    few = target_figures(tiny.path, "text", "gold", 8)
    assert few["sample"]["every"] == 3
    assert (few["sample"]["chunks"], few["sample"]["of_chunks"]) == (3, 8)
    assert 0 < few["sample"]["slots"] < whole["sample"]["slots"]
    assert few["uncertain"] == whole["uncertain"], "it comes from the manifest"
    assert few["weights"] != whole["weights"]


def test_an_unknown_target_is_said_with_those_there_are(tiny: Any) -> None:
    with pytest.raises(IncompleteCacheError, match=r"No target 'sharp' .*'gold', 'other'"):
        target_figures(tiny.path, "text", "sharp")
    with pytest.raises(IncompleteCacheError, match="no set 'gloss'"):
        target_figures(tiny.path, "gloss", "gold")
