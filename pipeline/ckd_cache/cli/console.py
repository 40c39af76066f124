"""Where tables and text go: colours on a terminal; elsewhere plain, one width, nothing trailing."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import IO, TextIO, cast

from rich.console import Console

from ckd_cache.wording import counted

__all__ = ["counted", "output"]

PLAIN_WIDTH = 80
_TRAILING = re.compile(r" +$", re.MULTILINE)


def output() -> Console:
    """Standard output; what is piped does not depend on the terminal that it is piped from."""
    console = Console(highlight=False, markup=False, emoji=False)
    if console.is_terminal:
        return console
    trimmed = cast("IO[str]", _Trimmed(sys.stdout))
    return Console(
        file=trimmed,
        width=PLAIN_WIDTH,
        color_system=None,
        highlight=False,
        markup=False,
        emoji=False,
    )


@dataclass(frozen=True, slots=True)
class _Trimmed:
    """A stream that drops the spaces with which rich fills lines."""

    stream: TextIO

    @property
    def encoding(self) -> str:
        return self.stream.encoding

    def write(self, text: str) -> int:
        return self.stream.write(_TRAILING.sub("", text))

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        return False
