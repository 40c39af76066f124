"""Drawings by matplotlib as SVG that stands inside a page and takes the page's colours."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckd_cache.inspection.report.markup import text
from ckd_cache.inspection.report.palette import COLOURS, GRID, INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Words", "draw"]

_SETTINGS: Any = {
    # Text stays text: it can be searched, read aloud, and is set in the page's font.
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10.0,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "lines.linewidth": 1.6,
    "lines.markersize": 4.0,
}
_PROLOGUE = re.compile(r"^.*?(?=<svg\b)", re.DOTALL)
_DROPPED = re.compile(r"<metadata>.*?</metadata>|<style\b.*?</style>", re.DOTALL)
"""Metadata that name other places, and a style that would reach the whole page."""
_SIZE = re.compile(r'(<svg\b[^>]*?) (?:width|height)="[^"]*"')
_FAMILY = re.compile(r"font-family: [^;\"]*;? ?")
_UNUSED = re.compile(r' id="[a-z0-9.]+_\d+"')
"""Names of groups that nothing refers to."""
_LONG = re.compile(r"-?\d+\.\d{3,}")
_BREAK = re.compile(r"\s*\n\s*")


@dataclass(frozen=True, slots=True)
class Words:
    """What is said of a drawing to those who do not see it.

    Attributes:
        key: tells it apart from the other drawings of a page; letters, digits, ``_`` and ``-``.
        title: what it is.
        description: what it shows.
    """

    key: str
    title: str
    description: str


def draw(words: Words, size: tuple[float, float], paint: Callable[[Figure], None]) -> str:
    """Draw, and make the SVG fit for a page. The same bytes for the same numbers.

    Args:
        words: about the drawing.
        size: width and height in inches of 72 points.
        paint: draws into the figure.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure as NewFigure

    with mpl.rc_context(), warnings.catch_warnings():
        # Names may have letters that the font at hand lacks; the reader's fonts have them.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        mpl.rcdefaults()
        mpl.rcParams.update({**_SETTINGS, "svg.hashsalt": words.key})
        canvas = NewFigure(figsize=size, layout="constrained")
        paint(canvas)
        out = io.StringIO()
        canvas.savefig(out, format="svg", metadata={"Date": None})
    return _for_page(out.getvalue(), words)


def _for_page(svg: str, words: Words) -> str:
    svg = _DROPPED.sub("", _PROLOGUE.sub("", svg, count=1))
    for _ in range(2):
        svg = _SIZE.sub(r"\1", svg, count=1)
    svg = _FAMILY.sub("", svg)
    svg = _LONG.sub(lambda found: f"{float(found[0]):.2f}", _UNUSED.sub("", svg))
    svg = _BREAK.sub(" ", svg)
    svg = svg.replace(INK, "currentColor").replace(GRID, "var(--grid)")
    for number, colour in enumerate(COLOURS):
        svg = svg.replace(colour, f"var(--c{number})")
    names = f"{words.key}.title", f"{words.key}.description"
    spoken = (
        f'<title id="{names[0]}">{text(words.title)}</title>'
        f'<desc id="{names[1]}">{text(words.description)}</desc>'
    )
    start = svg.index(">") + 1
    head = f'{svg[: start - 1]} role="img" aria-labelledby="{names[0]} {names[1]}">'
    return f"{head}{spoken}{svg[start:].strip()}\n"
