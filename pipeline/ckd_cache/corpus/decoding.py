"""Lines of text files, streamed, with the undecodable ones marked instead of guessed at."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ckd_cache.errors import CorpusError

__all__ = ["Line", "describe_bad_line", "is_storable", "read_lines"]

_MARK = "\udcff"
"""Stands for undecodable bytes: no decoder of a Unicode encoding gives a lone surrogate."""
_HANDLER = "ckd_cache.mark"
_BOM = "\ufeff"
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file.

    Attributes:
        number: from 1.
        text: without its line end.
        readable: whether all its bytes could be decoded.
    """

    number: int
    text: str
    readable: bool


def read_lines(path: Path, encoding: str) -> Iterator[Line]:
    r"""The lines of a file; ``\n``, ``\r\n`` and ``\r`` end a line, nothing else does.

    A byte order mark at the beginning is not part of the first line.

    Raises:
        CorpusError: the file cannot be opened, or there is no such encoding.
    """
    try:
        with path.open(encoding=encoding, errors=_HANDLER, newline=None) as file:
            for number, raw in enumerate(file, 1):
                text = raw.removesuffix("\n")
                if number == 1:
                    text = text.removeprefix(_BOM)
                yield Line(number, text, _MARK not in text)
    except LookupError as error:
        message = f"{path}: {error}. Give `encoding` a name that Python knows, such as utf-8."
        raise CorpusError(message) from error
    except UnicodeError as error:
        message = f"{path}: the file is not {encoding} ({error}). Set `encoding` to what it is."
        raise CorpusError(message) from error
    except OSError as error:
        message = f"{path}: the file cannot be read ({error.strerror}). Check its permissions."
        raise CorpusError(message) from error


def describe_bad_line(path: Path, line: Line, encoding: str, exact: bool) -> str:
    """What is wrong with an unreadable line.

    Args:
        path: its file.
        line: the line.
        encoding: in which it was read.
        exact: whether to find the byte too, by reading the file up to it once more; the byte is
            that of the file's first problem.
    """
    where = f"{path}, line {line.number}"
    found = _first_bad_byte(path, encoding) if exact else None
    if found is None:
        return f"{where}: there are bytes that are not {encoding}"
    offset, value = found
    return f"{where}: byte 0x{value:02x} at offset {offset} of the file is not {encoding}"


def is_storable(text: str) -> bool:
    """Whether a text has no lone surrogates, which no tokenizer and no file format takes."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _first_bad_byte(path: Path, encoding: str) -> tuple[int, int] | None:
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    offset = 0
    with path.open("rb") as file:
        while True:
            piece = file.read(_PIECE_BYTES)
            try:
                decoder.decode(piece, final=not piece)
            except UnicodeDecodeError as error:
                # The decoder puts bytes that it held back in front of the piece.
                start = offset + len(piece) - len(error.object) + error.start
                return start, error.object[error.start]
            if not piece:
                return None
            offset += len(piece)


def _mark(error: UnicodeError) -> tuple[str, int]:
    if isinstance(error, UnicodeDecodeError):
        return _MARK, error.end
    raise error


codecs.register_error(_HANDLER, _mark)
