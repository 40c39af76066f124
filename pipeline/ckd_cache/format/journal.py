"""The journal of a part under way: what it is made of, and which shards are published.

One text file a part, one canonical JSON object a line, each with the sha256 of itself without the
member ``digest``. A last line that a crash cut short does not count.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from ckd_cache.errors import DamagedCacheError, MismatchError
from ckd_cache.fingerprint import canonical_json, differences, hash_bytes
from ckd_cache.format.durable import (
    make_folder,
    replace_file,
    storage_errors,
    sync_folder,
    sync_folders,
    write_file,
)
from ckd_cache.format.files import FileRow
from ckd_cache.format.paths import JOURNAL_FOLDER, inside
from ckd_cache.format.spec import MANIFEST_NAME
from ckd_cache.types import JsonObject

__all__ = [
    "UNFINISHED_SUFFIX",
    "Journal",
    "ShardLine",
    "clear_unfinished",
    "journal_identity",
    "journal_keys",
    "journal_path",
]

UNFINISHED_SUFFIX = ".new"
"""Of a journal whose first line may be cut short; it does not count."""
_SUFFIX = ".jsonl"


@dataclass(frozen=True, slots=True)
class ShardLine:
    """One published shard.

    Attributes:
        shard: its number; -1 for files of the whole part.
        files: the rows of its files.
        stats: what whoever made the shard wants to know when the part is resumed or finished.
    """

    shard: int
    files: list[FileRow]
    stats: JsonObject


class Journal:
    """The commit records of one part.

    Attributes:
        key: the part's folder, which is also the ``part`` of its files.
        profile: the execution profile it was begun with.
        lines: the shards published so far, in the order of publication.
    """

    def __init__(self, path: Path, key: str, profile: JsonObject, lines: list[ShardLine]) -> None:
        self.path = path
        self.key = key
        self.profile = profile
        self.lines = lines

    @classmethod
    def open(cls, cache_path: Path, key: str, identity: JsonObject, profile: JsonObject) -> Journal:
        """The journal of a part, begun now if there is none.

        Lines whose files are gone, and all after them, are dropped: their shards are due again.

        Args:
            cache_path: the cache, whose lock the caller holds.
            key: the part's folder.
            identity: named fields that fix the part's numbers.
            profile: how it is computed; a journal keeps the first.

        Raises:
            MismatchError: the part was begun with another identity, and has shards.
            DamagedCacheError: a line before the last is not what was written.
            StorageError: the file system refused.
        """
        path = journal_path(cache_path, key)
        fresh = {"key": key, "identity": identity, "profile": profile}
        with storage_errors(path, "open"):
            if not path.exists():
                _begin(path, fresh)
            head, *rest = _whole_lines(cache_path, path)
            found = list(differences(head["identity"], _plain(identity)))
            if found and not rest:
                # Nothing was recorded under the other identity: it holds the part to nothing.
                _begin(path, fresh)
                head, found = fresh, []
        if found:
            raise MismatchError(_mismatch(cache_path, key, found))
        lines = [_line_of(record, key) for record in rest]
        present = _leading_present(cache_path.resolve(), lines)
        _truncate(path, [head, *rest[:present]])
        return cls(path, key, head["profile"], lines[:present])

    def append(self, line: ShardLine) -> None:
        """Record a published shard; it counts once this returns.

        Raises:
            StorageError: the file system refused.
        """
        files = [{"path": f.path, "bytes": f.bytes, "sha256": f.sha256} for f in line.files]
        data = _encode({"shard": line.shard, "files": files, "stats": line.stats})
        with storage_errors(self.path, "write"), self.path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self.lines.append(line)

    @property
    def rows(self) -> list[FileRow]:
        """The rows of all files published so far."""
        return [row for line in self.lines for row in line.files]

    def remove(self) -> None:
        """Delete the journal: its part is committed, or given up.

        Raises:
            StorageError: the file system refused.
        """
        with storage_errors(self.path, "remove"):
            self.path.unlink(missing_ok=True)
            sync_folder(self.path.parent)


def journal_path(cache_path: Path, key: str) -> Path:
    """Where the journal of a part lies."""
    return cache_path / JOURNAL_FOLDER / f"{quote(key, safe='')}{_SUFFIX}"


def journal_keys(cache_path: Path) -> list[str]:
    """The parts that have a journal, sorted."""
    files = (cache_path / JOURNAL_FOLDER).glob(f"*{_SUFFIX}")
    return sorted(unquote(file.name.removesuffix(_SUFFIX)) for file in files)


def journal_identity(cache_path: Path, key: str) -> JsonObject:
    """The identity that a part was begun with.

    Raises:
        DamagedCacheError: the journal is damaged.
        StorageError: the file system refused.
    """
    path = journal_path(cache_path, key)
    with storage_errors(path, "read"):
        identity: JsonObject = _whole_lines(cache_path, path)[0]["identity"]
    return identity


def clear_unfinished(cache_path: Path) -> None:
    """Delete journals that were never begun in full.

    Raises:
        OSError: the file system refused.
    """
    for file in (cache_path / JOURNAL_FOLDER).glob(f"*{UNFINISHED_SUFFIX}"):
        file.unlink()


def _begin(path: Path, head: JsonObject) -> None:
    changed = make_folder(path.parent)
    fresh = path.with_suffix(UNFINISHED_SUFFIX)
    write_file(fresh, _encode(head))
    replace_file(fresh, path)
    sync_folders({*changed, path.parent})


def _encode(record: JsonObject) -> bytes:
    digest = hash_bytes(canonical_json(record))
    return canonical_json({**record, "digest": digest}) + b"\n"


def _plain(identity: JsonObject) -> JsonObject:
    plain: JsonObject = json.loads(canonical_json(identity))
    return plain


def _whole_lines(cache_path: Path, path: Path) -> list[JsonObject]:
    *lines, torn = path.read_bytes().split(b"\n")
    records = [_decode(line) for line in lines]
    # A crash can also leave a last line whose end reached the disk before its middle.
    if len(records) > 1 and records[-1] is None and not torn:
        records.pop()
    whole = [record for record in records if record is not None]
    if not whole or len(whole) < len(records):
        message = (
            f"{path}: line {_first_none(records)} of the journal is not what was written. To make"
            f" its part again from the beginning, {_giving_up(cache_path, path)}, then run the same"
            " build."
        )
        raise DamagedCacheError(message)
    return whole


def _first_none(records: list[JsonObject | None]) -> int:
    return 1 + (records.index(None) if None in records else 0)


def _decode(line: bytes) -> JsonObject | None:
    try:
        record: JsonObject = json.loads(line)
        digest = record.pop("digest", None)
        return record if hash_bytes(canonical_json(record)) == digest else None
    except (ValueError, AttributeError, RecursionError):
        return None


def _line_of(record: JsonObject, key: str) -> ShardLine:
    shard = record["shard"]
    rows = [FileRow(f["path"], key, shard, f["bytes"], f["sha256"]) for f in record["files"]]
    return ShardLine(shard, rows, record["stats"])


def _leading_present(root: Path, lines: list[ShardLine]) -> int:
    for index, line in enumerate(lines):
        if not all(_is_present(root, row) for row in line.files):
            return index
    return len(lines)


def _is_present(root: Path, row: FileRow) -> bool:
    path = inside(root, row.path)
    return path.is_file() and path.stat().st_size == row.bytes


def _truncate(path: Path, records: Iterable[JsonObject]) -> None:
    size = sum(len(_encode(record)) for record in records)
    with storage_errors(path, "truncate"):
        if path.stat().st_size == size:
            return
        with path.open("r+b") as file:
            file.truncate(size)
            os.fsync(file.fileno())


def _mismatch(cache_path: Path, key: str, found: list[tuple[str, object, object]]) -> str:
    changes = "; ".join(f"{name} was {old!r}, is {new!r}" for name, old, new in found)
    return (
        f"{cache_path}: {key} was begun with other settings and is not finished: {changes}."
        " Restore them and run the same build again; or, to give what is unfinished up,"
        f" {_giving_up(cache_path, journal_path(cache_path, key))}; or use another folder with"
        " --cache."
    )


def _giving_up(cache_path: Path, path: Path) -> str:
    """What to delete so that the part of a journal begins anew."""
    if (cache_path / MANIFEST_NAME).exists():
        return f"delete {path}"
    # Without a manifest and a journal, nothing would tell the folder from that of a stranger.
    return f"delete the folder {cache_path}, where nothing is committed yet"
