"""The exceptions of the project.

    CkdCacheError
    ├── RecipeError           the recipe cannot be used as written (exit code 2)
    ├── CorpusError           a source cannot be read
    ├── TeacherError          a teacher cannot be loaded, or gave numbers that cannot be stored
    ├── StudentError          a student cannot be made or trained as asked
    ├── MergeError            a target cannot be made from what is cached
    ├── MismatchError         something changed since the cache was begun
    ├── CacheNotFoundError    no cache where one was expected
    ├── IncompleteCacheError  what was asked for is not in the cache (yet)
    ├── DamagedCacheError     bytes are missing or are not those that were written
    ├── FormatVersionError    the cache was written by a newer format
    ├── CacheLockedError      another process is writing to the cache
    └── StorageError          the disk refused (no space, no permission)

Every message says what was found, what was expected, where, and what to type next.
"""

from __future__ import annotations

__all__ = [
    "CacheLockedError",
    "CacheNotFoundError",
    "CkdCacheError",
    "CorpusError",
    "DamagedCacheError",
    "FormatVersionError",
    "IncompleteCacheError",
    "MergeError",
    "MismatchError",
    "RecipeError",
    "StorageError",
    "StudentError",
    "TeacherError",
]


class CkdCacheError(Exception):
    """Base of every error that the project raises on purpose."""

    exit_code: int = 1


class RecipeError(CkdCacheError):
    """A recipe, or a value given with ``--set``, cannot be used as written."""

    exit_code = 2


class CorpusError(CkdCacheError):
    """A source of documents cannot be read; the message names file and line."""


class TeacherError(CkdCacheError):
    """A teacher cannot be loaded, or gave numbers that cannot be stored."""


class StudentError(CkdCacheError):
    """A student cannot be made or trained as asked."""


class MergeError(CkdCacheError):
    """A target cannot be made from what is cached."""


class MismatchError(CkdCacheError):
    """Weights, tokenizer, corpus or identity fields changed since the cache was begun."""


class CacheNotFoundError(CkdCacheError):
    """There is no cache at the given path."""


class IncompleteCacheError(CkdCacheError):
    """What was asked for is not in the cache, or not yet."""


class DamagedCacheError(CkdCacheError):
    """Bytes of a cache are missing or are not the bytes that were written."""

    exit_code = 3


class FormatVersionError(CkdCacheError):
    """The cache was written in a format that this version cannot read."""


class CacheLockedError(CkdCacheError):
    """Another process is writing to the cache."""


class StorageError(CkdCacheError):
    """The file system refused to store or to read something."""
