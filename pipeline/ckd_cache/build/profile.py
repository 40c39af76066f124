"""The execution profile: what the promise of equal bytes depends on besides the identity.

It is provenance. A resumed build takes the profile that its shards were begun with.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib.metadata import version

from ckd_cache.types import JsonObject, JsonValue

__all__ = ["CORPUS_LIBRARIES", "MODEL_LIBRARIES", "library_versions", "profile_changes", "threads"]

CORPUS_LIBRARIES = ("numpy", "pyarrow", "tokenizers", "transformers")
MODEL_LIBRARIES = ("numpy", "torch", "transformers", "zarr")
_CHOSEN = ("batch_tokens", "threads")


def library_versions(names: tuple[str, ...]) -> JsonObject:
    """Versions of Python and of the named distributions, without local suffixes."""
    found: JsonObject = {name: version(name).partition("+")[0] for name in names}
    return {"python": platform.python_version(), **found}


def threads(wanted: int | None) -> int:
    """Threads to compute with: what the recipe says, else every core this process may use."""
    if wanted is not None:
        return wanted
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def profile_changes(
    stored: JsonObject, current: JsonObject
) -> Iterator[tuple[str, JsonValue, JsonValue]]:
    """Entries of a stored profile that this run cannot take over, as (name, stored, current)."""
    for name in sorted({*stored, *current} - set(_CHOSEN)):
        if stored.get(name) != current.get(name):
            yield name, stored.get(name), current.get(name)
