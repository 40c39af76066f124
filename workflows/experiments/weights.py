"""Held-out log-likelihood of gold under every rule of prediction weights, by kind of text.

    python workflows/experiments/weights.py runs/experiments/weights.ckd [--json weights.json]

Reads the scalars of a cache: rules that learn do so on its split ``fit``, and everything is
measured on its split ``test``. A slot's figure is -log of the probability that the mixture gives
to gold, from the scalars alone, so no top-k plays a part in it. Intervals are those of a bootstrap
that draws whole documents, since slots of one document resemble each other.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ckd_cache.format.reader import open_cache
from ckd_cache.format.spec import SPLIT_NAMES
from ckd_cache.merge.evidence import Evidence
from ckd_cache.merge.learning import learn_from_cache
from ckd_cache.merge.reading import read_voices
from ckd_cache.merge.rule import TargetRule, needs_fit
from ckd_cache.merge.source import MergeSource, chunk_ranges, merge_source
from ckd_cache.merge.weighing import weights_of

LABEL_FREE: tuple[tuple[str, Mapping[str, object]], ...] = (
    ("uniform", {"weighting": "uniform"}),
    ("max_prob", {"weighting": "max_prob"}),
    ("entropy", {"weighting": "entropy"}),
    ("entropy, tau 0.5", {"weighting": "entropy", "tau": 0.5}),
    ("entropy_linear", {"weighting": "entropy_linear"}),
    ("segment_entropy", {"weighting": "segment_entropy"}),
    ("segment_entropy, tau 0.5", {"weighting": "segment_entropy", "tau": 0.5}),
    ("fitted", {"weighting": "fitted"}),
    ("gate", {"weighting": "gate"}),
    ("entropy, calibrated", {"weighting": "entropy", "calibrate": "weights"}),
    ("segment_entropy, calibrated", {"weighting": "segment_entropy", "calibrate": "weights"}),
    ("gate, calibrated", {"weighting": "gate", "calibrate": "weights"}),
)
"""Rules whose weights look at no label when they are used, and how they are set."""
LABEL_USING: tuple[tuple[str, Mapping[str, object]], ...] = (
    ("gold", {"weighting": "gold"}),
    ("gold, fitted prior", {"weighting": "gold", "prior": "fitted"}),
    ("ca_mkd", {"weighting": "ca_mkd"}),
    ("correctness", {"weighting": "correctness"}),
    ("min_ce", {"weighting": "min_ce", "tau": 0.0}),
    ("avg_ce", {"weighting": "avg_ce"}),
    ("segment_loo", {"weighting": "segment_loo"}),
    ("random, teachers", {"weighting": "random", "shuffle": "teachers"}),
    ("random, slots", {"weighting": "random", "shuffle": "slots"}),
)
"""Rules that look at labels: of the slot itself or, the segment ones, of its neighbours too."""
CONTRASTS = (
    ("gate", "segment_entropy"),
    ("gate", "segment_entropy, tau 0.5"),
    ("gate", "uniform"),
    ("segment_entropy", "uniform"),
    ("fitted", "uniform"),
)
RESAMPLES = 2000
SEED = 20260101


@dataclass(frozen=True)
class Measured:
    """Slots of the split ``test``.

    Attributes:
        nats: by name of rule, teacher or oracle, (N,) -log of the probability of gold.
        kind: (N,) number of the kind of text.
        document: (N,) number of the document, which the bootstrap draws whole.
    """

    nats: dict[str, NDArray[np.float64]]
    kind: NDArray[np.int64]
    document: NDArray[np.int64]


def main() -> None:
    """Measure, print tables, write JSON if asked."""
    arguments = _arguments()
    cache = open_cache(arguments.cache)
    record = cache.set("text").record
    source = merge_source(cache, "text", tuple(sorted(record.teachers)))
    kinds = sorted({genre for one in record.increments for genre in one.genres})
    rules = dict(_rules(source))
    measured = measure(source, rules)
    figures = summarise(measured, kinds)
    for line in tables(figures, kinds, source.names):
        print(line)
    if arguments.json is not None:
        learned = {name: dict(rule.fit.on) for name, rule in rules.items() if rule.fit is not None}
        text = json.dumps({**figures, "fits": learned}, indent=1, sort_keys=True)
        arguments.json.write_text(f"{text}\n", encoding="utf-8")


def measure(source: MergeSource, rules: Mapping[str, TargetRule]) -> Measured:
    """Every rule, every teacher and the oracle at the slots of the split ``test``."""
    nats: dict[str, list[NDArray[np.float64]]] = {}
    kinds, documents = [], []
    for evidence, weights in _held_out(source, rules):
        logprobs = evidence.gold_logprob
        for name, own in weights.items():
            nats.setdefault(name, []).append(-_log_mixture(logprobs, own))
        for column, name in enumerate(source.names):
            nats.setdefault(f"teacher {name}", []).append(-logprobs[:, column])
        nats.setdefault("best teacher of every slot", []).append(-logprobs.max(axis=1))
        kinds.append(evidence.kind)
        documents.append(evidence.document)
    return Measured(
        {name: np.concatenate(parts) for name, parts in nats.items()},
        np.concatenate(kinds),
        np.unique(np.concatenate(documents), return_inverse=True)[1],
    )


def summarise(measured: Measured, kinds: Sequence[str]) -> dict[str, dict[str, object]]:
    """Means by kind and over kinds, and paired differences with their intervals."""
    groups = {kind: measured.kind == number for number, kind in enumerate(kinds)}
    groups = {kind: chosen for kind, chosen in groups.items() if chosen.any()}
    groups["all"] = np.ones(measured.kind.shape, np.bool_)
    means = {
        name: {group: float(nats[chosen].mean()) for group, chosen in groups.items()}
        for name, nats in measured.nats.items()
    }
    contrasts = {
        f"{a} - {b}": {
            group: _difference(measured, a, b, chosen) for group, chosen in groups.items()
        }
        for a, b in _contrasts(measured)
    }
    sizes = {
        group: {
            "slots": int(chosen.sum()),
            "documents": int(np.unique(measured.document[chosen]).size),
        }
        for group, chosen in groups.items()
    }
    return {"means": dict(means), "differences": dict(contrasts), "sizes": dict(sizes)}


def tables(
    figures: Mapping[str, Mapping[str, object]], kinds: Sequence[str], teachers: Sequence[str]
) -> Iterator[str]:
    """The figures as tables of Markdown."""
    means: Mapping[str, Mapping[str, float]] = figures["means"]  # type: ignore[assignment]
    sizes: Mapping[str, Mapping[str, int]] = figures["sizes"]  # type: ignore[assignment]
    differences: Mapping[str, Mapping[str, list[float]]] = figures["differences"]  # type: ignore[assignment]
    groups = [group for group in (*kinds, "all") if group in sizes]
    singles = [f"teacher {name}" for name in teachers]
    parts = {
        "nats a slot, teachers alone": singles,
        "label-free rules": [name for name, _ in LABEL_FREE],
        "rules that look at labels": [
            *(name for name, _ in LABEL_USING),
            "best teacher of every slot",
        ],
    }
    yield f"| | {' | '.join(groups)} |"
    yield f"| --- |{' --- |' * len(groups)}"
    yield f"| slots | {' | '.join(format(sizes[one]['slots'], ',') for one in groups)} |"
    yield f"| documents | {' | '.join(format(sizes[one]['documents'], ',') for one in groups)} |"
    for title, names in parts.items():
        yield ""
        yield f"| {title} | {' | '.join(groups)} |"
        yield f"| --- |{' --- |' * len(groups)}"
        for name in names:
            cells = [f"{means[name][group]:.3f}" for group in groups]
            yield f"| {name} | {' | '.join(cells)} |"
    yield ""
    yield f"| difference, 95 % interval | {' | '.join(groups)} |"
    yield f"| --- |{' --- |' * len(groups)}"
    for name, by_group in differences.items():
        cells = ["{:+.3f} [{:+.3f}, {:+.3f}]".format(*by_group[group]) for group in groups]
        yield f"| {name} | {' | '.join(cells)} |"


def _rules(source: MergeSource) -> Iterator[tuple[str, TargetRule]]:
    for name, settings in (*LABEL_FREE, *LABEL_USING):
        fields = {"tau": 1.0, **settings}
        rule = TargetRule(temperature=1.0, top_k=1, teachers=source.names, **fields)  # type: ignore[arg-type]
        if needs_fit(rule):
            rule = replace(rule, fit=learn_from_cache(source, rule))
        yield name, rule


def _held_out(
    source: MergeSource, rules: Mapping[str, TargetRule]
) -> Iterator[tuple[Evidence, dict[str, NDArray[np.float64]]]]:
    """Evidence and weights by rule at the slots of the split ``test``, a chunk at a time.

    Weights are computed for all slots of a chunk: rules that look at a segment see it whole.
    """
    number = SPLIT_NAMES.index("test")
    shuffled = replace(rules["random, slots"])
    for start, stop in chunk_ranges(source.reader, 0, source.reader.n_examples):
        chosen = source.reader.examples.splits(start, stop) == number
        if not chosen.any():
            continue
        slots, voices = read_voices(source, shuffled, start, stop, documents=True)
        inside = np.flatnonzero(chosen[slots.at[0]])
        slots, voices = slots.only(inside), [voice.only(inside) for voice in voices]
        plain = weights_of(slots, voices, rules["uniform"])[1]
        yield plain, {name: weights_of(slots, voices, rule)[0] for name, rule in rules.items()}


def _log_mixture(
    logprobs: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    top = logprobs.max(axis=1, keepdims=True)
    mixed = (weights * np.exp(logprobs - top)).sum(axis=1)
    found: NDArray[np.float64] = np.log(mixed) + top[:, 0]
    return found


def _contrasts(measured: Measured) -> Iterator[tuple[str, str]]:
    yield from CONTRASTS
    singles = [name for name in measured.nats if name.startswith("teacher ")]
    best = min(singles, key=lambda name: float(measured.nats[name].mean()))
    yield "uniform", best
    yield "gate", best


def _difference(measured: Measured, a: str, b: str, chosen: NDArray[np.bool_]) -> list[float]:
    """Mean of a - b, with the 2.5th and 97.5th percentile of a bootstrap over documents."""
    gap = (measured.nats[a] - measured.nats[b])[chosen]
    _, document = np.unique(measured.document[chosen], return_inverse=True)
    sums, counts = np.bincount(document, gap), np.bincount(document)
    drawn = np.random.default_rng(SEED).integers(0, sums.size, (RESAMPLES, sums.size))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return [float(gap.mean()), float(low), float(high)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", type=Path)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
