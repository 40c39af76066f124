"""Text of several kinds that nobody wrote, and teachers that are experts of one kind each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ckd_cache.merge.evidence import Evidence
from ckd_cache.merge.fit_sample import FitBatch, evidence_rows
from ckd_cache.merge.rule import TargetRule
from ckd_cache.types import Array

TEMPERATURES = (0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0)
NAMES = ("b", "c", "a")
_SIZE = 24
_SLOTS = 9


def rule_of(weighting: str, **changes: Any) -> TargetRule:
    fields: dict[str, Any] = {"tau": 1.0, "temperature": 1.0, "top_k": 8, "teachers": NAMES}
    return TargetRule(weighting, **(fields | changes))


@dataclass(frozen=True)
class Dense:
    """Logits (N, V) of teachers, and gold (N,)."""

    logits: list[Array]
    gold: Array


def batch_of(dense: Dense, document: Array, example: Array, seen: Array | None = None) -> FitBatch:
    """What a cache keeps of dense logits, at ``TEMPERATURES``."""
    n = len(dense.gold)
    rows = np.arange(n)
    lse = np.stack(
        [np.log(np.exp(z[..., None] / TEMPERATURES).sum(axis=1)) for z in dense.logits], axis=1
    )
    entropy = np.stack([_entropies(z) for z in dense.logits], axis=1)
    one = TEMPERATURES.index(1.0)
    gold = np.stack([z[rows, dense.gold] for z in dense.logits], axis=1) - lse[:, :, one]
    seen = np.zeros(n, np.int64) if seen is None else seen
    evidence = Evidence(
        gold_logprob=gold,
        max_logprob=np.stack([z.max(axis=1) for z in dense.logits], axis=1) - lse[:, :, one],
        entropy=entropy[:, :, one],
        correct=np.stack([z.argmax(axis=1) == dense.gold for z in dense.logits], axis=1),
        present=np.ones(gold.shape, np.bool_),
        unit_logprob=gold,
        example=example,
        slot=rows,
        unit=rows,
        document=document,
        kind=np.zeros(n, np.int64),
        masked=seen == 0,
    )
    return FitBatch(evidence, lse, entropy, seen)


def experts(seed: int, documents: int, per_document: int = 3) -> FitBatch:
    """Three kinds of text; teacher t knows kind t, and is vague and mistaken about the others."""
    rng = np.random.default_rng(seed)
    n = documents * per_document * _SLOTS
    document = np.repeat(np.arange(documents), per_document * _SLOTS)
    example = np.repeat(np.arange(documents * per_document), _SLOTS)
    kind = rng.integers(0, len(NAMES), documents)[document]
    truth = rng.normal(scale=rng.choice([1.0, 3.0], (n, 1)), size=(n, _SIZE))
    logits = []
    for t in range(len(NAMES)):
        knows = (kind == t)[:, None]
        guess = 0.4 * truth + rng.normal(scale=1.2, size=truth.shape)
        logits.append(np.where(knows, truth + rng.normal(scale=0.3, size=truth.shape), guess))
    return batch_of(Dense(logits, drawn(rng, truth)), document, example)


def drawn(rng: np.random.Generator, logits: Array) -> Array:
    """One id of each row, as probable as softmax says."""
    found: Array = np.argmax(logits + rng.gumbel(size=logits.shape), axis=1)
    return found


def rows_of(batch: FitBatch, rows: Array) -> FitBatch:
    return FitBatch(
        evidence_rows(batch.evidence, rows),
        batch.logsumexp[rows],
        batch.entropy[rows],
        batch.seen[rows],
    )


def mean_loglik(evidence: Evidence, weights: Array) -> float:
    """Mean log-likelihood of gold under a mixture, nats."""
    return float(np.log((weights * np.exp(evidence.gold_logprob)).sum(axis=1)).mean())


def _entropies(logits: Array) -> Array:
    columns = []
    for temperature in TEMPERATURES:
        powers = np.exp(logits / temperature)
        p = powers / powers.sum(axis=1, keepdims=True)
        columns.append(-(p * np.log(p)).sum(axis=1))
    return np.stack(columns, axis=1)
