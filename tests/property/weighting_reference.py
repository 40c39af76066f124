"""Every rule of prediction weights, straight from its formula: loops, and decimals of 60 digits.

Slow, and independent of the code it is compared with: nothing is vectorised, stabilised or shared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, localcontext

import numpy as np

from ckd_cache.merge.evidence import Evidence
from ckd_cache.merge.rule import TargetRule

Confidence = dict[int, Decimal]
"""By teacher present."""
LOST = Decimal("-Infinity")


def reference_weights(evidence: Evidence, rule: TargetRule) -> list[list[float]]:
    """N rows of S weights."""
    with localcontext(prec=60):
        if rule.weighting == "random":
            return _floats(_random(evidence, rule), evidence.teachers)
        rows = [_weights(evidence, rule, i) for i in range(len(evidence))]
        return _floats(rows, evidence.teachers)


def _weights(e: Evidence, rule: TargetRule, i: int) -> dict[int, Decimal]:
    here = [t for t in range(e.teachers) if e.present[i, t]]
    confidence = CONFIDENCES[rule.weighting](e, i, here)
    hard = rule.weighting in ("uniform", "fixed", "correctness", "gold_sharpened_uniform")
    tau = Decimal(1) if hard else Decimal(rule.tau)
    prior = {t: Decimal(1) for t in here}
    if rule.weighting == "fixed":
        prior = {t: Decimal(rule.weights[t]) for t in here}
    if rule.prior == "fitted":
        assert rule.fit is not None
        assert rule.fit.weights is not None
        prior = {t: Decimal(rule.fit.weights[rule.teachers[t]]) for t in here}
    return _softmax(confidence, tau, prior)


def _softmax(confidence: Confidence, tau: Decimal, prior: Confidence) -> dict[int, Decimal]:
    if not any(prior.values()):
        prior = dict.fromkeys(prior, Decimal(1))
    best = max(c for t, c in confidence.items() if prior[t])
    shares = {}
    for t, c in confidence.items():
        if c == best or not prior[t]:
            shares[t] = prior[t]
        elif tau == 0 or c == LOST:
            shares[t] = Decimal(0)
        else:
            shares[t] = prior[t] * ((c - best) / tau).exp()
    total = sum(shares.values())
    return {t: share / total for t, share in shares.items()}


def _none(e: Evidence, i: int, here: list[int]) -> Confidence:
    return dict.fromkeys(here, Decimal(0))


def _gold(e: Evidence, i: int, here: list[int]) -> Confidence:
    return {t: Decimal(float(e.gold_logprob[i, t])) for t in here}


def _max_prob(e: Evidence, i: int, here: list[int]) -> Confidence:
    return {t: Decimal(float(e.max_logprob[i, t])) for t in here}


def _entropy(e: Evidence, i: int, here: list[int]) -> Confidence:
    return {t: -Decimal(float(e.entropy[i, t])) for t in here}


def _entropy_linear(e: Evidence, i: int, here: list[int]) -> Confidence:
    entropies = {t: Decimal(float(e.entropy[i, t])) for t in here}
    total = sum(entropies.values())
    if len(here) == 1 or total == 0:
        return _none(e, i, here)
    return {t: ((1 - entropies[t] / total) / (len(here) - 1)).ln() for t in here}


def _ca_mkd(e: Evidence, i: int, here: list[int]) -> Confidence:
    if len(here) == 1:
        return _none(e, i, here)
    losses = {t: -Decimal(float(e.gold_logprob[i, t])) for t in here}
    infinite = [t for t in here if losses[t].is_infinite()]
    powers = {t: losses[t].exp() for t in here}
    if infinite:
        powers = {t: Decimal(int(t in infinite)) for t in here}
    total = sum(powers.values())
    return {t: ((1 - powers[t] / total) / (len(here) - 1)).ln() for t in here}


def _correctness(e: Evidence, i: int, here: list[int]) -> Confidence:
    return {t: Decimal(0) if e.correct[i, t] else LOST for t in here}


def _segment(e: Evidence, i: int) -> list[int]:
    return [j for j in range(len(e)) if e.example[j] == e.example[i]]


def _mean_ce(e: Evidence, i: int, here: list[int]) -> Confidence | None:
    common = [j for j in _segment(e, i) if not any(np.isnan(e.unit_logprob[j]))]
    if not common:
        return None
    return {
        t: -sum((Decimal(float(e.unit_logprob[j, t])) for j in common), Decimal(0)) / len(common)
        for t in here
    }


def _min_ce(e: Evidence, i: int, here: list[int]) -> Confidence:
    losses = _mean_ce(e, i, here)
    return _none(e, i, here) if losses is None else {t: -losses[t] for t in here}


def _avg_ce(e: Evidence, i: int, here: list[int]) -> Confidence:
    losses = _mean_ce(e, i, here)
    return _none(e, i, here) if losses is None else {t: (-losses[t]).exp() for t in here}


def _segment_entropy(e: Evidence, i: int, here: list[int]) -> Confidence:
    common = [j for j in _segment(e, i) if all(e.present[j])]
    if not common:
        return _none(e, i, here)
    return {
        t: -sum((Decimal(float(e.entropy[j, t])) for j in common), Decimal(0)) / len(common)
        for t in here
    }


def _segment_loo(e: Evidence, i: int, here: list[int]) -> Confidence:
    found = _none(e, i, here)
    for j in _segment(e, i):
        own = e.unit[j] == e.unit[i] or e.document[j] != e.document[i]
        if not own and not any(np.isnan(e.unit_logprob[j])):
            for t in here:
                found[t] += Decimal(float(e.unit_logprob[j, t]))
    return found


def _random(e: Evidence, rule: TargetRule) -> list[dict[int, Decimal]]:
    rows = []
    for i in range(len(e)):
        here = [t for t in range(e.teachers) if e.present[i, t]]
        prior = {t: Decimal(1) for t in here}
        rows.append(_softmax(_gold(e, i, here), Decimal(rule.tau), prior))
    if rule.shuffle == "teachers":
        return [_permuted(e, rule, i, row) for i, row in enumerate(rows)]
    found = []
    for i in range(len(e)):
        alike = [
            j
            for j in range(len(e))
            if e.kind[j] == e.kind[i] and list(e.present[j]) == list(e.present[i])
        ]
        by_word = sorted(alike, key=lambda j: _words(e, rule, j, 2)[0])
        found.append(rows[by_word[alike.index(i)]])
    return found


def _permuted(
    e: Evidence, rule: TargetRule, i: int, row: Mapping[int, Decimal]
) -> dict[int, Decimal]:
    names = sorted(rule.teachers)
    word = dict(zip(names, _words(e, rule, i, 1), strict=False))
    takers = sorted(row, key=lambda t: rule.teachers[t])
    givers = sorted(row, key=lambda t: word[rule.teachers[t]])
    return {taker: row[giver] for taker, giver in zip(takers, givers, strict=True)}


def _words(e: Evidence, rule: TargetRule, i: int, purpose: int) -> Sequence[int]:
    counter = np.array([0, e.example[i], e.slot[i], purpose], dtype=np.uint64)
    key = np.array([rule.seed, 0], dtype=np.uint64)
    raw: list[int] = np.random.Philox(key=key, counter=counter).random_raw(e.teachers).tolist()
    return raw


def _floats(rows: Sequence[Mapping[int, Decimal]], teachers: int) -> list[list[float]]:
    return [[float(row.get(t, Decimal(0))) for t in range(teachers)] for row in rows]


CONFIDENCES: Mapping[str, Callable[[Evidence, int, list[int]], Confidence]] = {
    "uniform": _none,
    "fixed": _none,
    "gold_sharpened_uniform": _none,
    "gold": _gold,
    "max_prob": _max_prob,
    "entropy": _entropy,
    "entropy_linear": _entropy_linear,
    "ca_mkd": _ca_mkd,
    "correctness": _correctness,
    "min_ce": _min_ce,
    "avg_ce": _avg_ce,
    "segment_entropy": _segment_entropy,
    "segment_loo": _segment_loo,
}
