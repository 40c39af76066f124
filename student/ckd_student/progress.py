"""Shows how training goes: a bar on a terminal, elsewhere a plain line now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ckd_cache.progress import Progress, ProgressTask

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

__all__ = ["progress"]

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def progress(console: Console) -> Iterator[Progress]:
    """Show the progress of what runs inside on ``console``."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(16),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}{task.fields[rate]}", markup=False),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with RichProgress(*columns, console=console, refresh_per_second=4) as drawn:
        yield _Bars(drawn)


@dataclass(slots=True)
class _Pace:
    """Counts units, and says how fast they come."""

    name: str
    total: int | None
    unit: str
    already: int
    finished: int = 0
    started: float = field(default_factory=time.monotonic)

    def rate(self) -> str:
        """Units a second of this run; empty while nothing is known."""
        seconds = time.monotonic() - self.started
        return f", {self.finished / seconds:.3g} {self.unit}/s" if self.finished and seconds else ""

    def left(self) -> str:
        """Time left at this rate; empty while nothing is known."""
        if self.total is None or not self.finished:
            return ""
        todo = self.total - self.already - self.finished
        seconds = (time.monotonic() - self.started) / self.finished * todo
        return f", {int(seconds) // 60} min {int(seconds) % 60:02d} s left" if todo > 0 else ""


@dataclass(frozen=True, slots=True)
class _Bars:
    drawn: RichProgress

    def task(self, name: str, *, total: int | None, unit: str, already: int = 0) -> ProgressTask:
        number = self.drawn.add_task(name, total=total, completed=already, unit=unit, rate="")
        return _Bar(self.drawn, number, _Pace(name, total, unit, already))

    def note(self, text: str) -> None:
        self.drawn.console.print(text, markup=False, highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class _Bar:
    drawn: RichProgress
    number: TaskID
    pace: _Pace

    def advance(self, amount: int = 1) -> None:
        self.pace.finished += amount
        self.drawn.update(self.number, advance=amount, rate=self.pace.rate())

    def done(self) -> None:
        self.drawn.stop_task(self.number)


@dataclass(frozen=True, slots=True)
class _Lines:
    console: Console

    def task(self, name: str, *, total: int | None, unit: str, already: int = 0) -> ProgressTask:
        return _Line(self.console, _Pace(name, total, unit, already))

    def note(self, text: str) -> None:
        self.console.out(text, highlight=False)


@dataclass(slots=True)
class _Line:
    console: Console
    pace: _Pace
    said: float = field(default_factory=time.monotonic)

    def advance(self, amount: int = 1) -> None:
        self.pace.finished += amount
        if time.monotonic() - self.said >= SECONDS_BETWEEN_LINES:
            self._say(self.pace.left())

    def done(self) -> None:
        self._say("")

    def _say(self, left: str) -> None:
        self.said = time.monotonic()
        pace = self.pace
        total = "" if pace.total is None else f" of {pace.total:,}"
        count = f"{pace.already + pace.finished:,}{total} {pace.unit}"
        self.console.out(f"{pace.name}: {count}{pace.rate()}{left}", highlight=False)
