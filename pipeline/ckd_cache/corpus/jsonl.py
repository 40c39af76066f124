"""Documents of JSON Lines files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from ckd_cache.corpus.decoding import Line, describe_bad_line, is_storable, read_lines
from ckd_cache.corpus.files import list_files
from ckd_cache.corpus.records import Document, JsonlSource, ReadReport, refuse_or_skip
from ckd_cache.types import JsonValue

__all__ = ["read_jsonl"]

_ENCODING = "utf-8"
_SHOWN = 12


class _BadLineError(Exception):
    """A line holds no text; the message says what it holds."""


def read_jsonl(spec: JsonlSource, report: ReadReport) -> Iterator[Document]:
    """The documents of JSON Lines files, one file after the other.

    Ids end in the line's number, from 1. Blank lines are passed over.

    Raises:
        CorpusError: a glob matches no file, a file cannot be read, or a line is no JSON object
            with a string in the field and ``on_error`` is ``raise``.
    """
    for file in list_files(spec):
        for line in read_lines(file.path, _ENCODING):
            if not line.text.strip():
                continue
            try:
                text = _text_of(line, spec, file.path)
            except _BadLineError as error:
                refuse_or_skip(spec.on_error, report, str(error), "Correct the line")
                continue
            identity = f"{spec.name}/{file.name}#{line.number}"
            yield Document(identity, text, spec.name, spec.genre)


def _text_of(line: Line, spec: JsonlSource, path: Path) -> str:
    if not line.readable:
        exact = spec.on_error == "raise"
        raise _BadLineError(describe_bad_line(path, line, _ENCODING, exact=exact))
    where = f"{path}, line {line.number}"
    try:
        record: JsonValue = json.loads(line.text)
    except (ValueError, RecursionError) as error:
        message = f"{where}: this is not JSON ({error})"
        raise _BadLineError(message) from error
    if not isinstance(record, dict):
        message = f"{where}: found {_kind(record)}, expected a JSON object"
        raise _BadLineError(message)
    if spec.field not in record:
        message = f"{where}: there is no field {spec.field!r}; there are {_names(record)}"
        raise _BadLineError(message)
    text = record[spec.field]
    if not isinstance(text, str):
        message = f"{where}: field {spec.field!r} is {_kind(text)}, expected a string"
        raise _BadLineError(message)
    if not is_storable(text):
        message = f"{where}: field {spec.field!r} holds half of a surrogate pair"
        raise _BadLineError(message)
    return text


def _kind(value: JsonValue) -> str:
    if value is None:
        return "null"
    names = {bool: "true or false", dict: "an object", list: "a list", str: "a string"}
    return names.get(type(value), "a number")


def _names(record: dict[str, JsonValue]) -> str:
    shown = [repr(name) for name in record][:_SHOWN]
    return ", ".join([*shown, "…"] if len(record) > _SHOWN else shown) or "none"
