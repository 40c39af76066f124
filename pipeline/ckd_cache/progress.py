"""What long work says while it runs, without knowing who listens.

Work takes a `Progress` and opens a task for each thing that takes long; `ckd_cache.cli.progress`
draws them, `SILENT` does not.

    task = progress.task("teacher a", total=4096, unit="slots", already=1024)
    task.advance(512)
    task.done()
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["SILENT", "Progress", "ProgressTask"]


class ProgressTask(Protocol):
    """One thing that takes long."""

    def advance(self, amount: int = 1) -> None:
        """Say that ``amount`` more units are finished."""

    def done(self) -> None:
        """Say that nothing more will come, whether or not the total was reached."""


class Progress(Protocol):
    """Where long work reports."""

    def task(self, name: str, *, total: int | None, unit: str, already: int = 0) -> ProgressTask:
        """Open a task.

        Args:
            name: what is being done, such as ``teacher a``.
            total: units in all, including ``already``; None if that is not known.
            unit: the plural of what is counted, such as ``slots``.
            already: units finished by an earlier run; they do not count into the rate.
        """
        ...

    def note(self, text: str) -> None:
        """Say one line that stays on the screen above the running tasks."""


class _SilentTask:
    """Ignores what it is told."""

    def advance(self, amount: int = 1) -> None:
        """Ignore ``amount``."""

    def done(self) -> None:
        """Do nothing."""


class _Silent:
    """Hands out tasks that say nothing."""

    def task(self, name: str, *, total: int | None, unit: str, already: int = 0) -> ProgressTask:
        """Give a task that says nothing, whatever ``name``, ``total``, ``unit`` and ``already``."""
        del name, total, unit, already
        return _SilentTask()

    def note(self, text: str) -> None:
        """Ignore ``text``."""


SILENT: Progress = _Silent()
"""For work that nobody watches."""
