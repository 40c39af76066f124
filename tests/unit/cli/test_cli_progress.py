"""Progress: plain lines, bars, and the arithmetic of rates."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import pytest
from rich.console import Console

from ckd_cache.cli.progress import PlainProgress, duration, pace, progress
from ckd_cache.progress import SILENT, Progress


@dataclass
class Clock:
    """A clock that a test moves."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Lines:
    """What plain progress said."""

    clock: Clock = field(default_factory=Clock)
    said: list[str] = field(default_factory=list)

    def progress(self) -> PlainProgress:
        return PlainProgress(self.said.append, self.clock)


def test_a_line_every_ten_seconds_with_rate_and_time_left() -> None:
    lines = Lines()
    task = lines.progress().task("teacher a", total=4000, unit="slots", already=1000)
    for _ in range(25):
        lines.clock.now += 1.0
        task.advance(100)
    assert lines.said == [
        "teacher a: 2,000 of 4,000 slots (50 %), 100 slots/s, 20 s left",
        "teacher a: 3,000 of 4,000 slots (75 %), 100 slots/s, 10 s left",
    ]


def test_the_last_line_says_how_long_it_took() -> None:
    lines = Lines()
    task = lines.progress().task("teacher a", total=4000, unit="slots", already=1000)
    lines.clock.now += 30.0
    task.advance(3000)
    lines.said.clear()
    task.done()
    assert lines.said == ["teacher a: 4,000 slots in 30 s, 100 slots/s"]


def test_a_task_that_had_nothing_to_do_gives_no_rate() -> None:
    lines = Lines()
    lines.progress().task("teacher a", total=7, unit="slots", already=7).done()
    assert lines.said == ["teacher a: 7 slots"]


def test_an_unknown_total_gives_no_time_left() -> None:
    lines = Lines()
    task = lines.progress().task("corpus", total=None, unit="documents")
    lines.clock.now += 10.0
    task.advance(50)
    assert lines.said == ["corpus: 50 documents, 5 documents/s"]


def test_one_is_no_plural() -> None:
    lines = Lines()
    task = lines.progress().task("hashing", total=1, unit="sources")
    task.done()
    lines.clock.now += 10.0
    task.advance(1)
    task.done()
    lines.progress().task("corpus", total=None, unit="sources", already=1).done()
    assert lines.said == [
        "hashing: 0 sources",
        "hashing: 1 of 1 source (100 %), 0.1 sources/s",
        "hashing: 1 source in 10 s, 0.1 sources/s",
        "corpus: 1 source",
    ]
    assert pace(10, 10.0, None, "sources") == ", 1 source/s"


def test_notes_are_lines() -> None:
    lines = Lines()
    lines.progress().note("[b] is no markup")
    assert lines.said == ["[b] is no markup"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 05 min"),
        (100_800, "1 d 4 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_pace_is_silent_while_nothing_is_known() -> None:
    assert pace(0, 10.0, 5, "slots") == ""
    assert pace(5, 0.0, 5, "slots") == ""
    assert pace(5, 10.0, 0, "slots") == ", 0.5 slots/s"


def work(report: Progress) -> None:
    task = report.task("teacher [a]", total=2000, unit="slots", already=500)
    task.advance(1500)
    report.note("teacher [a] is loaded")
    task.done()
    open_ended = report.task("corpus", total=None, unit="documents")
    open_ended.advance(3)
    open_ended.done()
    single = report.task("hashing", total=1, unit="sources")
    single.advance()
    single.done()


def test_without_a_terminal_there_are_plain_lines() -> None:
    stream = io.StringIO()
    with progress(Console(file=stream)) as report:
        work(report)
    text = stream.getvalue()
    assert text.startswith("teacher [a] is loaded\nteacher [a]: 2,000 slots in ")
    assert "\x1b" not in text
    assert len(text.splitlines()) == 4


def test_on_a_terminal_there_are_bars() -> None:
    stream = io.StringIO()
    with progress(Console(file=stream, force_terminal=True, width=80)) as report:
        work(report)
    text = stream.getvalue()
    assert "\x1b" in text
    assert "teacher [a]" in text
    assert "2,000/2,000 slots" in text
    assert "3/3 documents" in text
    assert "1/1 source" in text
    assert "1/1 sources" not in text


def test_progress_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as report:
        report.note("hello")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "hello\n")


def test_silence() -> None:
    work(SILENT)
