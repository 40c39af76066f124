"""What ``ckd-student evaluate`` prints: a table, or one block a genre where that is too wide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import StringIO

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from ckd_student.evaluation import Scores, Tally

__all__ = ["scores_text"]

_PLAIN_WIDTH = 80


def scores_text(tally: Tally, title: str) -> str:
    """The scores by genre and of all slots, for standard output; what is piped has no colours.

    Args:
        tally: what was measured.
        title: stands above.
    """
    columns = ["slots", "nats a slot", "top-1", "top-5"]
    columns += ["KL to target"] if tally.has_target else []
    rows = [
        (genre, _cells(scores))
        for genre, scores in [*tally.by_genre().items(), ("all", tally.scores())]
    ]
    table, text = _table(columns, rows), StringIO()
    console = _console(text)
    console.print(title, soft_wrap=True)
    if _natural_width(table) <= console.width:
        console.print(table)
    else:
        for line in _blocks(columns, rows):
            console.print(line, soft_wrap=True)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _console(text: StringIO) -> Console:
    """A console that writes into ``text`` as if it were standard output."""
    out = Console(highlight=False, markup=False, emoji=False)
    return Console(
        file=text,
        force_terminal=out.is_terminal,
        no_color=out.no_color,
        width=out.width if out.is_terminal else _PLAIN_WIDTH,
        highlight=False,
        markup=False,
        emoji=False,
    )


def _table(columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> Table:
    table = Table()
    table.add_column("genre", overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for genre, cells in rows:
        table.add_row(genre, *cells)
    return table


def _natural_width(table: Table) -> int:
    """Columns that a table takes where nothing is folded."""
    console = Console(width=10_000)
    return Measurement.get(console, console.options, table).maximum


def _blocks(columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> Iterator[str]:
    """The rows one below the other, each with its columns below its genre."""
    name_width = max(map(len, columns))
    cell_width = max(len(cell) for _, cells in rows for cell in cells)
    for genre, cells in rows:
        yield genre
        for name, cell in zip(columns, cells, strict=True):
            yield f"  {name:<{name_width}}  {cell:>{cell_width}}"


def _cells(scores: Scores) -> list[str]:
    kl = [] if scores.kl is None else [f"{scores.kl:.4f}"]
    return [
        f"{scores.slots:,}",
        f"{scores.loss:.4f}",
        f"{scores.top1:.1%}",
        f"{scores.top5:.1%}",
        *kl,
    ]
