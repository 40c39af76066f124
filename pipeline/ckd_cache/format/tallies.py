"""What adds up over the shards of a part, and whether the manifest says the same."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from ckd_cache.format.arrow_io import DocumentRow, SegmentRows
from ckd_cache.format.spec import SPLIT_NAMES
from ckd_cache.types import JsonObject, JsonValue

__all__ = [
    "difference",
    "documents_tally",
    "segments_tally",
]

_RELATIVE, _ABSOLUTE = 1e-11, 1e-9
"""Sums of float64 in another order, or with the exp of another processor, differ by less."""
_LATER = {"uncertain_counts"}
"""Figures that format version 1 did not have: a part may lack them."""


def difference(recorded: Mapping[str, JsonValue], found: Mapping[str, JsonValue]) -> str | None:
    """What the manifest says otherwise than what was read, or None.

    Args:
        recorded: figures in the manifest; it may have others that cannot be counted again.
        found: figures of what was read.
    """
    for name, here in sorted(found.items()):
        if name in _LATER and name not in recorded:
            continue
        there = recorded.get(name)
        if isinstance(there, Mapping) and isinstance(here, Mapping):
            # A count that one side does not name is 0, such as a genre without documents.
            below = difference(
                {**dict.fromkeys(here, 0), **there}, {**dict.fromkeys(there, 0), **here}
            )
            if below is not None:
                return f"{name}.{below}"
        elif not _equal(there, here):
            return f"{name} is {here} in the files, {there} in the manifest"
    return None


def segments_tally(rows: SegmentRows) -> JsonObject:
    """Counts of some segments."""
    splits = np.bincount(rows.splits, minlength=len(SPLIT_NAMES)).tolist()
    return {
        "segments": len(rows),
        "tokens": sum(len(ids) for ids in rows.input_ids),
        "splits": dict(zip(SPLIT_NAMES, splits, strict=True)),
    }


def documents_tally(rows: Sequence[DocumentRow]) -> JsonObject:
    """Counts of some documents."""
    genres = Counter(row.genre for row in rows)
    return {"documents": len(rows), "genres": dict(genres)}


def _equal(there: JsonValue, here: JsonValue) -> bool:
    if isinstance(there, int | float) and isinstance(here, int | float):
        return math.isclose(there, here, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
    return bool(there == here)
