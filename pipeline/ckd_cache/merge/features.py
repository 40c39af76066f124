"""What the rule ``gate`` sees of each teacher at a slot; nothing here looks at gold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ckd_cache.merge.evidence import Evidence
from ckd_cache.merge.segments import segment_means
from ckd_cache.numerics.mixture import ordered_sum

__all__ = ["FEATURES", "features"]


def features(evidence: Evidence, names: Sequence[str]) -> NDArray[np.float64]:
    """Label-free features of every teacher.

    Args:
        evidence: S teachers at N slots of whole examples.
        names: F keys of ``FEATURES``.

    Returns:
        (F, N, S) float64. Figures of a slot are NaN where the teacher is not present; those of a
        segment are means over its slots where all teachers are present, and 0 for all teachers
        where it has no such slot.
    """
    return np.stack([FEATURES[name](evidence) for name in names])


def _slot_entropy(evidence: Evidence) -> NDArray[np.float64]:
    return -evidence.entropy


def _slot_max(evidence: Evidence) -> NDArray[np.float64]:
    return evidence.max_logprob


def _segment_entropy(evidence: Evidence) -> NDArray[np.float64]:
    return _over_segment(evidence, -evidence.entropy)


def _segment_max(evidence: Evidence) -> NDArray[np.float64]:
    return _over_segment(evidence, evidence.max_logprob)


def _segment_lead(evidence: Evidence) -> NDArray[np.float64]:
    """Tanh of how far the segment's mean entropy is below the mean of the other teachers.

    A lead counts less than in proportion: beyond a nat or two more of it says nothing more.
    """
    means = _over_segment(evidence, evidence.entropy)
    others = max(evidence.teachers - 1, 1)
    behind = ordered_sum(means)[:, None] - evidence.teachers * means
    result: NDArray[np.float64] = np.tanh(behind / others)
    return result


def _over_segment(evidence: Evidence, values: NDArray[np.float64]) -> NDArray[np.float64]:
    # Teachers that are absent at some words would else be compared on different words.
    whole = np.logical_and.reduce(evidence.present, axis=1)
    return segment_means(values, whole, evidence.example)


FEATURES: Mapping[str, Callable[[Evidence], NDArray[np.float64]]] = MappingProxyType(
    {
        "entropy": _slot_entropy,
        "max_logprob": _slot_max,
        "segment_entropy": _segment_entropy,
        "segment_max_logprob": _segment_max,
        "segment_lead": _segment_lead,
    }
)
