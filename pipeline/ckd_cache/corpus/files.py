"""The files of a source, in a fixed order and under names that are the same on every machine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from ckd_cache.corpus.packed import refuse_packed
from ckd_cache.corpus.records import FileSource, ParquetSource
from ckd_cache.errors import CorpusError
from ckd_cache.fingerprint import canonical_json, hash_bytes, hash_file

__all__ = ["SourceFile", "hash_files", "list_files"]

_SUFFIXES = {"text": ".txt", "jsonl": ".jsonl", "parquet": ".parquet"}
_WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a source.

    Attributes:
        path: where it is here.
        name: its path below the fixed prefix of its glob, with ``/``; part of document ids.
    """

    path: Path
    name: str


def list_files(spec: FileSource) -> list[SourceFile]:
    """The files of a source: globs in the order given, each one's matches sorted by name.

    A file that several globs match is read once, where it comes first.

    Raises:
        CorpusError: a glob matches no file, two files have the same name, or one is compressed.
    """
    files: dict[Path, SourceFile] = {}
    for pattern in spec.paths:
        for file in _matches(spec, pattern):
            files.setdefault(file.path, file)
    _check_names(spec, files.values())
    for path in files:
        refuse_packed(path, parquet=isinstance(spec, ParquetSource))
    return list(files.values())


def hash_files(files: Iterable[SourceFile]) -> str:
    """sha256 over the (name, sha256) pairs of files in reading order.

    Names count because document ids, and with them the splits, are made from them.

    Raises:
        CorpusError: a file cannot be read.
    """
    return hash_bytes(canonical_json([[file.name, _hash(file.path)] for file in files]))


def _hash(path: Path) -> str:
    try:
        return hash_file(path)
    except OSError as error:
        message = f"{path}: the file cannot be read ({error.strerror}). Check its permissions."
        raise CorpusError(message) from error


def _matches(spec: FileSource, pattern: str) -> Iterator[SourceFile]:
    path = spec.root / pattern
    if path.is_file():
        yield SourceFile(path, path.name)
        return
    base, rest = _split_pattern(path)
    matches = list(base.glob(rest)) if rest else []
    found = sorted((match.relative_to(base).parts, match) for match in matches if match.is_file())
    if not found:
        message = (
            f"Source {spec.name}: {pattern!r} {_nothing_found(spec, pattern, path, bool(matches))}"
        )
        raise CorpusError(message)
    for parts, match in found:
        yield SourceFile(match, "/".join(parts))


def _nothing_found(spec: FileSource, pattern: str, path: Path, only_folders: bool) -> str:
    example = f"{pattern.rstrip('/')}/*{_SUFFIXES[spec.kind]}"
    if path.is_dir():
        return f"is a folder, expected files. Name them with a glob, such as {example}"
    if only_folders:
        return f"matches only folders, expected files. Name those with a glob, such as {example}"
    return (
        f"matches no file; looked for {path}. Paths are relative to the recipe's folder; "
        "correct `paths`."
    )


def _split_pattern(path: Path) -> tuple[Path, str]:
    """The part of a glob before its first wildcard, and the rest ("" if there is none)."""
    parts = path.parts
    fixed = next((at for at, part in enumerate(parts) if _WILDCARD.search(part)), len(parts))
    rest = parts[fixed:]
    if rest and rest[-1] == "**":
        # Python 3.13 gives files for a final `**`, earlier ones only folders.
        rest = (*rest, "*")
    return Path(*parts[:fixed]), str(PurePath(*rest)) if rest else ""


def _check_names(spec: FileSource, files: Iterable[SourceFile]) -> None:
    first: dict[str, Path] = {}
    for file in files:
        other = first.setdefault(file.name, file.path)
        if other != file.path:
            message = (
                f"Source {spec.name}: {other} and {file.path} would both give documents called "
                f"{spec.name}/{file.name}#…. Name both with one glob that begins above their "
                "folders, or put them into two sources."
            )
            raise CorpusError(message)
