"""Cached top-k distributions of teachers, weighed slot by slot, for any number of students.

    import ckd_cache

    cache = ckd_cache.open("runs/quick.ckd")
    cache.teachers["a"].read(0, 64).logprobs   # (64, M, k) float32
    cache.targets["gold"].dask().weights       # the same lazily, one block a shard

Importing this package imports nothing heavy; names arrive when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from ckd_cache.errors import CkdCacheError

if TYPE_CHECKING:
    from ckd_cache.inspection.cache import Cache, Distributions, open  # noqa: A004
    from ckd_cache.types import Examples, TargetArrays, TeacherArrays

__all__ = [
    "Cache",
    "CkdCacheError",
    "Distributions",
    "Examples",
    "TargetArrays",
    "TeacherArrays",
    "__version__",
    "open",
]

__version__: Final = "0.1.0"

_HOMES: Final = {
    "Cache": "ckd_cache.inspection.cache",
    "Distributions": "ckd_cache.inspection.cache",
    "Examples": "ckd_cache.types",
    "TargetArrays": "ckd_cache.types",
    "TeacherArrays": "ckd_cache.types",
    "open": "ckd_cache.inspection.cache",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
