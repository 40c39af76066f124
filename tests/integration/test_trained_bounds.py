"""Bounds on mixtures of trained teachers: the quickstart's, on docstrings, over the whole support.

Random weights give every id about 1 / V, where no bound can fail; trained ones are peaked.
"""

from __future__ import annotations

import json
import string
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.property.mixture_cases import View, cut, dense, seen_as
from tests.property.mixture_reference import check_bound, distance
from transformers import AutoModelForMaskedLM, AutoTokenizer

from ckd_cache.format.encode import decode_target, encode_target
from ckd_cache.format.spec import Capture
from ckd_cache.merge.softmax import softmax_weights
from ckd_cache.numerics.bounds import Rounding, head_term, rounding_at, tail_term, uncertain
from ckd_cache.numerics.geometric import mix_geometric, uncertain_geometric
from ckd_cache.numerics.mixture import Mixture, mix
from ckd_cache.numerics.quantise import float_up
from ckd_cache.numerics.topk import SlotDistributions, reference_distributions
from ckd_cache.types import TargetArrays

TEACHERS = Path(__file__).parents[2] / "workflows" / "quickstart" / "teachers"
EXACT = rounding_at(0.0, 1.0)


@dataclass(frozen=True)
class Slots:
    """Both teachers at some masked tokens, and what was there."""

    logits: list[np.ndarray]
    dense: list[np.ndarray]
    exact: list[SlotDistributions]
    gold: np.ndarray


@pytest.fixture(scope="module")
def slots() -> Slots:
    """Some text of the standard library, masked."""
    tokenizer = AutoTokenizer.from_pretrained(TEACHERS / "prose")
    text = " ".join(filter(None, (json.__doc__, json.dumps.__doc__, string.Formatter.__doc__)))
    text += " " + str(json.load.__doc__) + " " + str(string.capwords.__doc__)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    rows = np.array(ids[: len(ids) // 64 * 64]).reshape(-1, 64)
    masked = np.random.default_rng(0).random(rows.shape) < 0.3
    inputs = torch.tensor(np.where(masked, tokenizer.mask_token_id, rows))
    logits = []
    for name in ("prose", "tech"):
        model = AutoModelForMaskedLM.from_pretrained(TEACHERS / name).eval()
        with torch.no_grad():
            found = model(input_ids=inputs).logits[torch.tensor(masked)]
        logits.append(found[:, : len(tokenizer)].numpy().astype(np.float64))
    assert len(logits[0]) > 150
    gold = rows[masked]
    exact = [reference_distributions(one, gold, 64, (1.0, 1.0)) for one in logits]
    return Slots(logits, [dense(one) for one in logits], exact, gold)


def _weights(teachers: list[np.ndarray], gold: np.ndarray, weighting: str) -> np.ndarray:
    golds = np.stack([np.log(p[np.arange(len(gold)), gold]) for p in teachers], axis=1)
    tau = 1.0 if weighting == "gold" else np.inf
    return softmax_weights(golds, tau, np.ones(golds.shape, np.bool_))


def _truth(policy: str, teachers: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    first, second = weights.T[:, :, None]
    if policy != "geometric":
        return first * teachers[0] + second * teachers[1]
    product = teachers[0] ** first * teachers[1] ** second
    return product / product.sum(axis=1, keepdims=True)


def _mixed(
    slots: Slots, policy: str, k: int, step: float, weighting: str, stored: Rounding = EXACT
) -> tuple[np.ndarray, np.ndarray, Mixture]:
    """How far every slot is from the truth, the bound on that, and the mixture.

    Where a target is rounded, it is seen as a reader of a cache sees it.
    """
    teachers, gold = slots.dense, slots.gold
    weights = _weights(teachers, gold, weighting)
    view = View(step=step, gathered=policy in {"exact", "geometric"})
    components = seen_as(slots.logits, [cut(one, k) for one in slots.exact], view)
    roundings = [view.rounding] * 2
    if policy == "geometric":
        found = mix_geometric(components, weights, gold, k)
        mixture: Mixture = found.mixture
        bound = uncertain_geometric(components, weights, found, roundings, stored)
    else:
        mixture = mix(components, weights, gold, k, policy, teachers[0].shape[1])
        bound = uncertain(components, weights, mixture, roundings, stored)
    if stored.step:
        mixture, bound = _written_and_read(
            mixture, bound, weights, stored.step, len(teachers[0][0])
        )
    return distance(mixture, _truth(policy, teachers, weights)), bound, mixture


def _written_and_read(
    mixture: Mixture, bound: np.ndarray, weights: np.ndarray, step: float, size: int
) -> tuple[Mixture, np.ndarray]:
    """The same as a target of one example that went through the format."""
    capture = Capture(mixture.ids.shape[1], (1.0,), step**2 / 24.0, step)
    tail = np.log(mixture.tail).astype(np.float32)
    target = TargetArrays(
        ids=mixture.ids[None].astype(np.int32),
        logprobs=mixture.logprobs[None],
        n_valid=mixture.n_valid[None].astype(np.int32),
        tail=tail[None],
        weights=weights[None].astype(np.float32),
        uncertain=float_up(bound)[None],
        gold_logprob=np.zeros_like(tail)[None],
    )
    order = np.arange(size)
    read = decode_target(encode_target(target, capture, order), capture, order)
    seen = replace(
        mixture,
        ids=read.ids[0].astype(np.int64),
        logprobs=read.logprobs[0],
        n_valid=read.n_valid[0].astype(np.int64),
        tail=np.exp(read.tail[0].astype(np.float64)),
    )
    return seen, read.uncertain[0].astype(np.float64)


@pytest.mark.parametrize("step", [0.0, 0.049], ids=["exact", "rounded"])
@pytest.mark.parametrize("k", [8, 32, 64])
@pytest.mark.parametrize("policy", ["bucket", "spread", "exact", "geometric"])
def test_the_bound_holds_on_every_slot(slots, policy, k, step):
    for weighting in ("gold", "uniform"):
        found, bound, _ = _mixed(slots, policy, k, step, weighting)
        check_bound(found, bound)
        if policy == "exact" and not step:
            assert bound.max() == 0.0


@pytest.mark.parametrize("policy", ["bucket", "spread", "geometric"])
def test_half_of_the_bound_does_not_hold_on_every_slot(slots, policy):
    found, bound, _ = _mixed(slots, policy, 32, 0.0, "uniform")
    assert bound.mean() > 0.005, "teachers of random weights would prove nothing"
    with pytest.raises(AssertionError, match="above"):
        check_bound(found, 0.5 * bound)


@pytest.mark.parametrize("step", [0.049, 0.5], ids=["fine", "coarse"])
@pytest.mark.parametrize("policy", ["bucket", "spread", "exact", "geometric"])
def test_the_bound_holds_for_targets_as_they_are_read(slots, policy, step):
    for weighting in ("gold", "uniform"):
        found, bound, _ = _mixed(slots, policy, 32, step, weighting, rounding_at(step, 1.0))
        check_bound(found, bound)


def test_the_rounding_of_a_target_counts(slots):
    stored = rounding_at(0.5, 1.0)
    found, bound, mixture = _mixed(slots, "exact", 32, 0.0, "uniform", stored)
    check_bound(found, bound)
    own = head_term(1.0 - mixture.tail, stored) + tail_term(mixture.tail, stored)
    with pytest.raises(AssertionError, match="above"):
        check_bound(found, bound - own)
