"""The sources of a recipe, and what all sections of recipes share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from ckd_cache.settings import one_line

__all__ = [
    "NAME_PATTERN",
    "Docstrings",
    "JsonLines",
    "Line",
    "Name",
    "Parquet",
    "Section",
    "Source",
    "TextFiles",
    "source_name",
]

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
"""Names become folders and stand in commands."""
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Line = Annotated[str, AfterValidator(one_line)]
"""Text that stands in messages, tables and file names."""


class Section(BaseModel):
    """A section of a recipe: strict, without unknown keys, never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class _NamedSource(Section):
    name: Name | None = None
    genre: Line | None = Field(None, description="kind of text; default: the source's name")


class _ReadingSource(_NamedSource):
    on_error: Literal["raise", "skip"] = "raise"


class TextFiles(_ReadingSource):
    """Text files; documents divided by blank lines, one a line, or one a file."""

    kind: Literal["text"]
    paths: list[Line] = Field(min_length=1)
    documents: Literal["blank-line", "line", "file"] = "blank-line"
    encoding: Line = "utf-8"


class JsonLines(_ReadingSource):
    """JSON Lines; the text of a document in ``field``."""

    kind: Literal["jsonl"]
    paths: list[Line] = Field(min_length=1)
    field: str = "text"


class Parquet(_ReadingSource):
    """Parquet files; the text of a document in ``column``."""

    kind: Literal["parquet"]
    paths: list[Line] = Field(min_length=1)
    column: str = "text"


class Docstrings(_NamedSource):
    """The docstrings of the Python standard library."""

    kind: Literal["docstrings"]


Source = Annotated[TextFiles | JsonLines | Parquet | Docstrings, Field(discriminator="kind")]


def source_name(source: Source) -> str:
    """Name of a source; its kind where none is given."""
    return source.name or source.kind
