"""What the manifest says a fit was made on, and how well it came out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ckd_cache.merge.calibration import SEEN, NllSums
from ckd_cache.merge.fit_sample import FitSample
from ckd_cache.merge.fitted import ConstantWeights, Likelihoods
from ckd_cache.merge.gate import Parameters
from ckd_cache.merge.gate_choice import GRID, HeldOut
from ckd_cache.types import JsonObject, JsonValue
from ckd_cache.wording import counted

__all__ = ["calibration_record", "gate_record", "sample_record", "weights_record"]

_FEW_SLOTS = 1_000
_FEW_DOCUMENTS = 20


def sample_record(sample: FitSample) -> JsonObject:
    """The slots that were kept of the split, with a note where they are few."""
    kept = sample.batch
    slots = 0 if kept is None else len(kept)
    documents = 0 if kept is None else len(np.unique(kept.evidence.document))
    notes = []
    if slots < _FEW_SLOTS or documents < _FEW_DOCUMENTS:
        notes.append(
            f"{counted(slots, 'slot')} of {counted(documents, 'document')} are few to learn from: "
            f"give split `fit` {_FEW_DOCUMENTS} documents and {_FEW_SLOTS:,} slots or more"
        )
    return {
        "slots": slots,
        "documents": documents,
        "slots_of_split": sample.slots,
        "examples_of_split": sample.examples,
        "every": sample.every,
        "notes": notes,
    }


def weights_record(
    gold: Likelihoods, found: ConstantWeights, names: Sequence[str], tolerance: float
) -> JsonObject:
    """How constant weights were fitted, and the certificate of how good they are."""
    notes = []
    if found.gap >= tolerance:
        notes.append(
            f"stopped after {found.iterations:,} iterations: other constant weights may be better "
            f"by up to {found.gap:.2g} nats a slot"
        )
    return {
        "slots": len(gold),
        "absent": gold.absent,
        "impossible": gold.impossible,
        "weights": dict(zip(names, found.weights.tolist(), strict=True)),
        "iterations": found.iterations,
        "gap": found.gap,
        "mean_loglik": found.mean_loglik,
        "notes": notes,
    }


def gate_record(documents: int, held_out: HeldOut, found: Parameters) -> JsonObject:
    """How a gate was chosen and fitted."""
    notes = []
    if held_out.folds == 0:
        notes.append(
            "all slots come from one document, so nothing could be held out, and the strongest "
            "penalty was taken: give split `fit` more documents"
        )
    elif held_out.gain < 2.0 * held_out.gain_error:
        notes.append(
            f"on held-out documents the gate was better than constant weights by "
            f"{held_out.gain:.4f} nats a slot with a standard error of {held_out.gain_error:.4f}: "
            "that may be chance, and weighting `fitted` does with less"
        )
    return {
        "documents": documents,
        "held_out_slots": held_out.slots,
        "folds": held_out.folds,
        "held_out": [
            {"l2": l2, "mean_loglik": _number(value)}
            for l2, value in zip(GRID, held_out.gates, strict=False)
        ],
        "held_out_constant": _number(held_out.constant),
        "held_out_gain": _number(held_out.gain),
        "held_out_gain_error": _number(held_out.gain_error),
        "l2": held_out.l2,
        "mean_loglik": found.mean_loglik,
        "iterations": found.iterations,
        "gradient": found.gradient,
        "notes": notes,
    }


def calibration_record(
    sums: NllSums, temperatures: Sequence[float], chosen: Mapping[str, float]
) -> JsonObject:
    """What one teacher's temperatures were chosen from, kinds of slots apart."""
    ends = (min(temperatures), max(temperatures))
    notes = [
        f"the best temperature for {kind} slots, {best}, is the last of the grid: capture "
        f"temperatures beyond it, e.g. {best * (1.25 if best == ends[1] else 0.8):.3g}"
        for kind, best in chosen.items()
        if best in ends and best != 1.0
    ]
    return {
        "temperatures": list(temperatures),
        "slots": dict(zip(SEEN, sums.slots.tolist(), strict=True)),
        "impossible": sums.left_out,
        "nll": {
            seen: [_number(total / slots) for total in row.tolist()] if slots else None
            for seen, row, slots in zip(SEEN, sums.nll, sums.slots.tolist(), strict=True)
        },
        "chosen": dict(chosen),
        "notes": notes,
    }


def _number(value: float) -> JsonValue:
    # JSON has no infinity.
    return value if math.isfinite(value) else None
