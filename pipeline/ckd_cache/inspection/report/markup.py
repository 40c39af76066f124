"""Pieces of HTML. Whatever comes from a cache passes through `text`."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from ckd_cache.inspection.decode import printable

__all__ = ["anchor_of", "details", "figure", "number", "paragraph", "share", "table", "text"]

NONE = "–"


def text(value: object) -> str:
    """A value as text of HTML, also inside of a quoted attribute."""
    return html.escape(printable(str(value)), quote=True)


def paragraph(value: object, *, note: bool = False) -> str:
    """A paragraph of plain text."""
    kind = ' class="note"' if note else ""
    return f"<p{kind}>{text(value)}</p>\n"


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many digits after the point; a dash for None."""
    return NONE if value is None else f"{value:,.{digits}f}"


def share(value: float | None) -> str:
    """A share as a percentage; a dash for None."""
    return NONE if value is None else f"{100 * value:.1f} %"


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; the first cell of each row heads it, the others are set as numbers.

    It scrolls by itself where the window is narrower, also by keyboard.
    """
    heads = "".join(f'<th scope="col">{text(column)}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{text(row[0])}</th>'
        + "".join(f"<td>{text(cell)}</td>" for cell in row[1:])
        + "</tr>\n"
        for row in rows
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{text(caption)}">'
        f"<table><caption>{text(caption)}</caption>\n<thead><tr>{heads}</tr></thead>\n"
        f"<tbody>{body}</tbody></table></div>\n"
    )


def figure(drawing: str, caption: str, numbers: str) -> str:
    """A drawing with its caption and, folded away, the numbers that it shows.

    Args:
        drawing: HTML.
        caption: plain text.
        numbers: HTML of tables.
    """
    return (
        f"<figure>\n{drawing}<figcaption>{text(caption)}</figcaption>\n"
        f"{details('Numbers of this plot', numbers)}</figure>\n"
    )


def details(summary: str, content: str) -> str:
    """Content that is folded away.

    Args:
        summary: plain text that stays in sight.
        content: HTML.
    """
    return f"<details><summary>{text(summary)}</summary>\n{content}</details>\n"


def anchor_of(*names: str) -> str:
    """An id for some names: different for different ones, and of harmless letters only."""
    return "-".join(
        "".join(sign if sign.isascii() and sign.isalnum() else f"_{ord(sign):x}" for sign in name)
        for name in names
    )
