"""Documents of text files: divided by blank lines, one a line, or one a file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from ckd_cache.corpus.decoding import Line, describe_bad_line, read_lines
from ckd_cache.corpus.files import SourceFile, list_files
from ckd_cache.corpus.records import Document, ReadReport, TextSource, refuse_or_skip

__all__ = ["read_text"]


def read_text(spec: TextSource, report: ReadReport) -> Iterator[Document]:
    """The documents of text files, one file after the other.

    Ids end in the line's number (``documents: line``), else in the document's number in its
    file; both count from 1, skipped documents included.

    Raises:
        CorpusError: a glob matches no file, a file cannot be read, or bytes are undecodable and
            ``on_error`` is ``raise``.
    """
    for file in list_files(spec):
        for ordinal, lines in _divide(spec, read_lines(file.path, spec.encoding)):
            if _readable(spec, file, lines, report):
                text = "\n".join(line.text for line in lines)
                identity = f"{spec.name}/{file.name}#{ordinal}"
                yield Document(identity, text, spec.name, spec.genre)


def _divide(spec: TextSource, lines: Iterator[Line]) -> Iterator[tuple[int, list[Line]]]:
    if spec.documents == "line":
        yield from ((line.number, [line]) for line in lines if line.text.strip())
    elif spec.documents == "file":
        yield 1, list(lines)
    else:
        filled = (list(group) for full, group in groupby(lines, _has_text) if full)
        yield from enumerate(filled, 1)


def _has_text(line: Line) -> bool:
    return bool(line.text.strip())


def _readable(spec: TextSource, file: SourceFile, lines: list[Line], report: ReadReport) -> bool:
    bad = next((line for line in lines if not line.readable), None)
    if bad is None:
        return True
    problem = describe_bad_line(file.path, bad, spec.encoding, exact=spec.on_error == "raise")
    advice = "Set `encoding: …` to the encoding of the file"
    refuse_or_skip(spec.on_error, report, problem, advice)
    return False
