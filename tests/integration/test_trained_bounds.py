"""Bounds on mixtures of trained teachers: the quickstart's, on docstrings, over the whole support.

Random weights give every id about 1 / V, where no bound can fail; trained ones are peaked.
"""

from __future__ import annotations

import json
import string
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.property.mixture_cases import View, cut, dense, seen_as
from tests.property.mixture_reference import check_bound, distance
from transformers import AutoModelForMaskedLM, AutoTokenizer

from ckd_cache.merge.softmax import softmax_weights
from ckd_cache.numerics.bounds import rounding_at, uncertain
from ckd_cache.numerics.geometric import mix_geometric, uncertain_geometric
from ckd_cache.numerics.mixture import Mixture, mix
from ckd_cache.numerics.topk import SlotDistributions, reference_distributions

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


def _mixed(slots: Slots, policy: str, k: int, step: float, weighting: str):
    teachers, gold = slots.dense, slots.gold
    weights = _weights(teachers, gold, weighting)
    view = View(step=step, gathered=policy in {"exact", "geometric"})
    components = seen_as(slots.logits, [cut(one, k) for one in slots.exact], view)
    roundings = [view.rounding] * 2
    if policy == "geometric":
        found = mix_geometric(components, weights, gold, k)
        mixture: Mixture = found.mixture
        bound = uncertain_geometric(components, weights, found, roundings, EXACT)
    else:
        mixture = mix(components, weights, gold, k, policy, teachers[0].shape[1])
        bound = uncertain(components, weights, mixture, roundings, EXACT)
    return distance(mixture, _truth(policy, teachers, weights)), bound


@pytest.mark.parametrize("step", [0.0, 0.049], ids=["exact", "rounded"])
@pytest.mark.parametrize("k", [8, 32, 64])
@pytest.mark.parametrize("policy", ["bucket", "spread", "exact", "geometric"])
def test_the_bound_holds_on_every_slot(slots, policy, k, step):
    for weighting in ("gold", "uniform"):
        found, bound = _mixed(slots, policy, k, step, weighting)
        check_bound(found, bound)
        if policy == "exact" and not step:
            assert bound.max() == 0.0


@pytest.mark.parametrize("policy", ["bucket", "spread", "geometric"])
def test_half_of_the_bound_does_not_hold_on_every_slot(slots, policy):
    found, bound = _mixed(slots, policy, 32, 0.0, "uniform")
    assert bound.mean() > 0.005, "teachers of random weights would prove nothing"
    with pytest.raises(AssertionError, match="above"):
        check_bound(found, 0.5 * bound)
