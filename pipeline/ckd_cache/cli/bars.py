"""Progress bars with rates and time left, for terminals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from ckd_cache.cli.progress import pace
from ckd_cache.wording import counted, singular

__all__ = ["Bars", "bars"]

_BAR_WIDTH = 16


@contextmanager
def bars(console: Console) -> Iterator[Bars]:
    """Draw bars on a terminal while the block runs; they stay when it ends."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(_BAR_WIDTH), _Pace())
    with RichProgress(*columns, console=console, refresh_per_second=4) as drawn:
        yield Bars(drawn)


@dataclass(frozen=True, slots=True)
class Bars:
    """Progress as bars of rich."""

    drawn: RichProgress

    def task(self, name: str, *, total: int | None, unit: str, already: int = 0) -> _Bar:
        """Open a task, as `ckd_cache.progress.Progress.task` says."""
        number = self.drawn.add_task(
            name, total=total, completed=already, unit=unit, already=already
        )
        return _Bar(self.drawn, number)

    def note(self, text: str) -> None:
        """Say one line above the bars."""
        self.drawn.console.print(text, markup=False, highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class _Bar:
    drawn: RichProgress
    number: TaskID

    def advance(self, amount: int = 1) -> None:
        self.drawn.advance(self.number, amount)

    def done(self) -> None:
        self.drawn.stop_task(self.number)
        task = self.drawn.tasks[self.number]
        if task.total is None:
            self.drawn.update(self.number, total=task.completed)


class _Pace(ProgressColumn):
    """Count, rate and time left.

    The rate is that of the whole run: shards finish seconds or minutes apart, which makes a rate
    over the last moments jump between nothing and too much.
    """

    def render(self, task: Task) -> Text:
        """Text of the column for one task."""
        unit, already = task.fields["unit"], task.fields["already"]
        done = int(task.completed)
        so_far = "" if task.total is None else f"{done:,}/"
        amount = counted(done if task.total is None else int(task.total), singular(unit))
        left = None if task.total is None else int(task.total) - done
        seconds = task.elapsed or 0.0
        rhythm = pace(done - already, seconds, left, unit)
        return Text(f"{so_far}{amount}{rhythm}")
