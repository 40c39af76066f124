"""Uncertain mass of a target, from figures that add over shards."""

from __future__ import annotations

from collections.abc import Mapping

from ckd_cache.format.stats import quantile_from_counts
from ckd_cache.types import JsonObject, JsonValue

__all__ = ["cells_sentence", "coverage_figures", "uncertain_figures"]

_CELLS = "the cells {each kept id of the target, everything else}"


def uncertain_figures(stats: Mapping[str, JsonValue]) -> JsonObject:
    """Mean, 99th percentile and maximum of ``uncertain``; None where they are not known.

    The percentile is the upper edge of its bin: never too small, at most a sixteenth too large.

    Args:
        stats: sums over slots as ``target_stats`` gives them, of parts or of what was read.
    """
    slots = stats.get("slots", 0)
    counts = stats.get("uncertain_counts", {})
    # Parts of format version 1 have no counts: those of the other parts are no whole.
    counted = slots > 0 and sum(counts.values()) == slots
    largest = float(stats.get("uncertain_max", 0.0))
    return {
        "mean": stats["uncertain_sum"] / slots if slots else None,
        "p99": min(quantile_from_counts(counts, 0.99), largest) if counted else None,
        "max": largest if slots else None,
    }


def coverage_figures(stats: Mapping[str, JsonValue]) -> JsonObject:
    """Of teachers with another tokenizer, where they have a distribution; empty without such.

    Args:
        stats: sums over slots.

    Returns:
        By teacher: ``slots``, the share of slots where it has a distribution, and ``mass``, the
        mean mass that is carried into the set's support there.
    """
    coverage = stats.get("coverage") or {}
    slots, carried = stats.get("slots", 0), coverage.get("carried", {})
    return {
        name: {
            "slots": present / slots if slots else None,
            "mass": carried[name] / present if present and name in carried else None,
        }
        for name, present in coverage.get("present", {}).items()
    }


def cells_sentence(missing: str, mixture: str, *, quantised: bool) -> str:
    """What ``uncertain`` bounds, on which cells, and what it leaves out.

    Args:
        missing: what the target does with ids that a teacher does not keep.
        mixture: of the target.
        quantised: whether rounding to the grids of the disk is part of it.
    """
    what = (
        f"Bound on the total variation between the stored target and the mixture of the whole "
        f"teachers, slot by slot, on {_CELLS}"
    )
    rounding = (
        "rounding of teachers and target to their grids is included"
        if quantised
        else "nothing was rounded to a grid"
    )
    if mixture == "geometric":
        return f"{what}; {rounding}. It is a loose bound, as geometric mixtures have no tight one."
    if missing == "exact":
        known = "every teacher's probability of every kept id is known, so it is rounding alone"
        return f"{what}; {known}." if quantised else f"{what}; {known}, and there was none."
    return f"{what}; {rounding}. How the rest is spread over its ids it does not say."
