"""A cache as Python sees it: sets, examples, teachers and targets, read or lazy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from ckd_cache.errors import IncompleteCacheError
from ckd_cache.format.manifest import Manifest
from ckd_cache.format.reader import CacheReader, SetReader, open_cache
from ckd_cache.types import Examples, TargetArrays, TeacherArrays

if TYPE_CHECKING:
    from ckd_cache.inspection.lazy import LazyExamples, LazyTarget, LazyTeacher

__all__ = ["DEFAULT_SET", "Cache", "CachedSet", "Distributions", "open"]

DEFAULT_SET = "text"

Read = TypeVar("Read", Examples, TeacherArrays, TargetArrays)
Lazy = TypeVar("Lazy", "LazyExamples", "LazyTeacher", "LazyTarget")
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, repr=False)
class Distributions(Generic[Read, Lazy]):
    """What a cache holds of one name over all examples of a set.

    Attributes:
        name: the name of the teacher or target; ``examples`` for the examples themselves.
    """

    name: str
    _what: str
    _examples: int
    _read: Callable[[int, int], Read]
    _dask: Callable[[], Lazy]

    def read(self, start: int, stop: int) -> Read:
        """Decoded numpy arrays of the examples ``start`` … ``stop`` - 1.

        Raises:
            CkdCacheError: the range leaves the set.
            DamagedCacheError: bytes are missing or are not those that were written.
        """
        return self._read(start, stop)

    def dask(self) -> Lazy:
        """The same arrays over the whole set, lazily; one block a shard."""
        return self._dask()

    def __len__(self) -> int:
        """Number of examples."""
        return self._examples

    def __repr__(self) -> str:
        """What it is, in a line."""
        return f"<{self._what}, {self._examples:,} examples>"


class _Named(Mapping[str, Item]):
    """A mapping whose KeyError is an error that lists what there is."""

    def __init__(self, kind: str, where: str, items: Mapping[str, Item]) -> None:
        self._kind, self._where, self._items = kind, where, dict(items)

    def __getitem__(self, name: str) -> Item:
        if name not in self._items:
            known = ", ".join(map(repr, self._items)) or "none"
            message = f"No {self._kind} {name!r} in {self._where}; there is {known}."
            raise UnknownNameError(message)
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __repr__(self) -> str:
        return f"{{{', '.join(f'{name!r}: {item!r}' for name, item in self._items.items())}}}"


class UnknownNameError(IncompleteCacheError, KeyError):
    """A set, teacher or target that is not in the cache; also a KeyError, as mappings raise."""

    __str__ = Exception.__str__


@dataclass(frozen=True, slots=True, repr=False)
class CachedSet:
    """One set of a cache.

    Attributes:
        name: the name of the set.
        examples: what every model sees.
        teachers: distributions by the name of their teacher.
        targets: merged distributions by name.
    """

    name: str
    examples: Distributions[Examples, LazyExamples]
    teachers: Mapping[str, Distributions[TeacherArrays, LazyTeacher]]
    targets: Mapping[str, Distributions[TargetArrays, LazyTarget]]

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.examples)

    def __repr__(self) -> str:
        """What it holds, in a line."""
        return f"<set {self.name!r}: {_contents(self)}>"


@dataclass(frozen=True, slots=True, repr=False)
class Cache:
    """An opened cache. It stays at the generation that it was opened at.

    Attributes:
        path: the folder.
        sets: its sets by name; ``cache["text"]`` is ``cache.sets["text"]``.
    """

    path: Path
    sets: Mapping[str, CachedSet]
    _reader: CacheReader

    @property
    def manifest(self) -> Manifest:
        """What the cache says of itself."""
        return self._reader.manifest

    @property
    def examples(self) -> Distributions[Examples, LazyExamples]:
        """Examples of the set ``text``."""
        return self[DEFAULT_SET].examples

    @property
    def teachers(self) -> Mapping[str, Distributions[TeacherArrays, LazyTeacher]]:
        """Teachers of the set ``text``."""
        return self[DEFAULT_SET].teachers

    @property
    def targets(self) -> Mapping[str, Distributions[TargetArrays, LazyTarget]]:
        """Targets of the set ``text``."""
        return self[DEFAULT_SET].targets

    def __getitem__(self, name: str) -> CachedSet:
        """The set called ``name``.

        Raises:
            IncompleteCacheError: there is none; the message lists those there are.
        """
        return self.sets[name]

    def __repr__(self) -> str:
        """What it holds, in a line a set."""
        state = "" if self.manifest.complete else ", incomplete"
        lines = [f"<cache {str(self.path)!r}{state}>"]
        lines += [f"  {name}: {_contents(part)}" for name, part in self.sets.items()]
        return "\n".join(lines)


def open(path: str | PathLike[str]) -> Cache:  # noqa: A001
    """Open a cache for reading; fast whatever its size.

    Raises:
        CacheNotFoundError: there is no cache at ``path``.
        FormatVersionError: a newer version wrote it.
        DamagedCacheError: its manifest is not what was written.
    """
    folder = Path(path).absolute()
    reader = open_cache(folder)
    sets = {name: _cached_set(reader, part) for name, part in reader.sets.items()}
    return Cache(folder, _Named("set", str(folder), sets), reader)


def _cached_set(cache: CacheReader, reader: SetReader) -> CachedSet:
    where = f"set {reader.name!r} of {cache.path}"
    count = reader.n_examples
    teachers = {
        name: Distributions(
            name, f"teacher {name!r}", count, part.read, partial(_lazy_teacher, cache, reader, name)
        )
        for name, part in reader.teachers.items()
    }
    targets = {
        name: Distributions(
            name, f"target {name!r}", count, part.read, partial(_lazy_target, cache, reader, name)
        )
        for name, part in reader.targets.items()
    }
    examples = Distributions(
        "examples",
        f"examples of set {reader.name!r}",
        count,
        reader.examples.read,
        partial(_lazy_examples, cache, reader),
    )
    return CachedSet(
        reader.name, examples, _Named("teacher", where, teachers), _Named("target", where, targets)
    )


def _lazy_examples(cache: CacheReader, reader: SetReader) -> LazyExamples:
    from ckd_cache.inspection.lazy import lazy_examples

    return lazy_examples(cache, reader)


def _lazy_teacher(cache: CacheReader, reader: SetReader, name: str) -> LazyTeacher:
    from ckd_cache.inspection.lazy import lazy_teacher

    return lazy_teacher(cache, reader, name)


def _lazy_target(cache: CacheReader, reader: SetReader, name: str) -> LazyTarget:
    from ckd_cache.inspection.lazy import lazy_target

    return lazy_target(cache, reader, name)


def _contents(part: CachedSet) -> str:
    teachers = ", ".join(part.teachers) or "none"
    targets = ", ".join(part.targets) or "none"
    return f"{len(part):,} examples; teachers {teachers}; targets {targets}"
