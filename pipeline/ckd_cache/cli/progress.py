"""Progress of long work: bars on a terminal, elsewhere a plain line every ten seconds.

with progress() as report:
    task = report.task("teacher a", total=4096, unit="slots")
    task.advance(512)
    task.done()
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ckd_cache.wording import counted, singular

if TYPE_CHECKING:
    from rich.console import Console

    from ckd_cache.progress import Progress

__all__ = ["PlainProgress", "duration", "pace", "progress"]

SECONDS_BETWEEN_LINES = 10.0
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


@contextmanager
def progress(console: Console | None = None) -> Iterator[Progress]:
    """Show the progress of what runs inside.

    Args:
        console: where to show it; default: standard error.

    Yields:
        What long work reports to.
    """
    from rich.console import Console as RichConsole

    console = console or RichConsole(stderr=True)
    if not console.is_terminal:
        yield PlainProgress(lambda line: console.out(line, highlight=False))
        return
    from ckd_cache.cli.bars import bars

    with bars(console) as drawn:
        yield drawn


@dataclass(frozen=True, slots=True)
class PlainProgress:
    """Progress as lines of text, for logs and pipes.

    Attributes:
        say: takes each line.
        clock: seconds that never run backwards.
        every: seconds between two lines of a task.
    """

    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    every: float = SECONDS_BETWEEN_LINES

    def task(self, name: str, *, total: int | None, unit: str, already: int = 0) -> _PlainTask:
        """Open a task, as `ckd_cache.progress.Progress.task` says."""
        return _PlainTask(self, name, total, unit, already, started=self.clock())

    def note(self, text: str) -> None:
        """Say one line."""
        self.say(text)


@dataclass(slots=True)
class _PlainTask:
    progress: PlainProgress
    name: str
    total: int | None
    unit: str
    already: int
    started: float
    finished: int = 0
    said: float = field(init=False)

    def __post_init__(self) -> None:
        self.said = self.started

    def advance(self, amount: int = 1) -> None:
        self.finished += amount
        now = self.progress.clock()
        if now - self.said >= self.progress.every:
            self.said = now
            self.progress.say(self._line(now - self.started))

    def done(self) -> None:
        seconds = self.progress.clock() - self.started
        text = f"{self.name}: {counted(self.already + self.finished, singular(self.unit))}"
        if self.finished:
            text += f" in {duration(seconds)}{_rate(self.finished, seconds, self.unit)}"
        self.progress.say(text)

    def _line(self, seconds: float) -> str:
        so_far = self.already + self.finished
        total = f"{so_far:,} of " if self.total is not None else ""
        amount = counted(so_far if self.total is None else self.total, singular(self.unit))
        percent = f" ({100 * so_far // self.total} %)" if self.total else ""
        left = None if self.total is None else self.total - so_far
        rhythm = pace(self.finished, seconds, left, self.unit)
        return f"{self.name}: {total}{amount}{percent}{rhythm}"


def pace(finished: int, seconds: float, left: int | None, unit: str) -> str:
    """Rate and time left, each after a comma; empty while nothing is known.

    Args:
        finished: units finished in this run.
        seconds: how long that took.
        left: units still to do; None if that is not known.
        unit: the plural of what is counted.
    """
    text = _rate(finished, seconds, unit)
    if text and left is not None and left > 0:
        text += f", {duration(left * seconds / finished)} left"
    return text


def duration(seconds: float) -> str:
    """Seconds as a person says them: ``45 s``, ``3 min 20 s``, ``2 h 05 min``, ``1 d 4 h``."""
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02d} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02d} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def _rate(finished: int, seconds: float, unit: str) -> str:
    if finished <= 0 or seconds <= 0:
        return ""
    per_second = finished / seconds
    digits = f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"
    return f", {digits} {singular(unit) if digits == '1' else unit}/s"
