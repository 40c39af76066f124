"""Tables on a terminal, and how numbers stand in them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

__all__ = ["INDENT", "NONE", "decimal", "percent", "print_line", "print_table"]

NONE = "-"
"""Stands where a number is not known."""
INDENT = 2


def print_table(
    console: Console,
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    texts: Collection[str] = (),
) -> None:
    """Print a table, or the same as lists where the terminal is too narrow for its columns.

    Args:
        console: where.
        title: heads the first column.
        columns: heads of the columns; the first is not used.
        rows: a cell for each column.
        texts: heads of columns of words, which may be broken; others hold numbers.
    """
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        text = number == 0 or column in texts
        table.add_column(
            title if number == 0 else column,
            justify="left" if text else "right",
            overflow="fold",
            no_wrap=not text,
        )
    cells = list(rows)
    for row in cells:
        table.add_row(*row)
    console.print()
    if console.measure(table).minimum + INDENT <= console.width:
        console.print(Padding(table, (0, 0, 0, INDENT)))
        return
    # Too narrow for columns: nothing is left out, each row becomes a list.
    print_line(console, title)
    for name, *values in cells:
        print_line(console, name, 2 * INDENT)
        for column, value in zip(columns[1:], values, strict=True):
            print_line(console, f"{column}: {value}", 3 * INDENT)


def print_line(console: Console, text: str, indent: int = INDENT) -> None:
    """Print a text with an indentation that its further lines keep."""
    console.print(Padding(text, (0, 0, 0, indent)))


def decimal(value: float | None, digits: int) -> str:
    """A number with so many digits after the point."""
    return NONE if value is None else f"{value:,.{digits}f}"


def percent(value: float | None) -> str:
    """A share as a percentage."""
    return NONE if value is None else f"{100 * value:.1f} %"
