"""Compressed files and documents of other programs, recognised by their first bytes.

Read as text they would be blamed on their encoding, or taken for text where any byte is a letter.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from ckd_cache.errors import CorpusError

__all__ = ["refuse_packed"]


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of file that holds no plain text.

    Attributes:
        magic: its first bytes.
        what: what to call it.
        command: what gives its contents as files, without the file's name.
    """

    magic: bytes
    what: str
    command: str


_PARQUET = b"PAR1\x15"
_KINDS = (
    _Kind(b"\x1f\x8b\x08", "compressed with gzip", "gzip -dk"),
    _Kind(b"\x28\xb5\x2f\xfd", "compressed with zstd", "zstd -dk"),
    _Kind(b"\xfd7zXZ\x00", "compressed with xz", "xz -dk"),
    _Kind(b"\x04\x22\x4d\x18", "compressed with lz4", "lz4 -dk"),
    # Plain text may well begin with BZh and a digit; the rest is the head of the first block.
    *(
        _Kind(f"BZh{level}1AY&SY".encode(), "compressed with bzip2", "bzip2 -dk")
        for level in range(1, 10)
    ),
    _Kind(b"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x"),
    _Kind(b"PK\x03\x04", "a zip archive, as documents of word processors are too", "unzip"),
    _Kind(b"%PDF-", "a PDF", "pdftotext"),
)
_LONGEST = max(len(kind.magic) for kind in _KINDS)


def refuse_packed(path: Path, *, parquet: bool) -> None:
    """Check that a file of a source is not compressed and no document of another program.

    Args:
        path: the file.
        parquet: whether Parquet is what is expected.

    Raises:
        CorpusError: it is; says what it is and how to unpack it. Or it cannot be read.
    """
    first = _first_bytes(path)
    expected = "a Parquet file" if parquet else "plain text"
    if first.startswith(_PARQUET) and not parquet:
        message = f"{path}: the file is Parquet, expected plain text. Set `kind: parquet`."
        raise CorpusError(message)
    for kind in _KINDS:
        if first.startswith(kind.magic):
            message = (
                f"{path}: the file is {kind.what}, expected {expected}. Unpack it with "
                f"`{kind.command} {shlex.quote(str(path))}` and name the result in `paths`."
            )
            raise CorpusError(message)


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST)
    except OSError as error:
        message = f"{path}: the file cannot be read ({error.strerror}). Check its permissions."
        raise CorpusError(message) from error
