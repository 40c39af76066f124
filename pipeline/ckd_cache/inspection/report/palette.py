"""How teachers are told apart: by colour, by dashes and by the shape of their points.

The colours follow Okabe and Ito (2008), darkened where white stands behind them, so that people
with any kind of colour vision can tell them apart; `style.css` has their light ones for dark pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ckd_cache.inspection.report.markup import text

__all__ = ["COLOURS", "GRID", "INK", "Style", "legend", "styles_of"]

INK = "#010101"
"""Stands in drawings for the colour of text, which depends on the page."""
GRID = "#020202"
"""Stands in drawings for the colour of fine lines."""
COLOURS = ("#0072b2", "#d55e00", "#008f68", "#b3548a", "#a86f00", "#766b00", "#6b6b6b")
_DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (1.5, 1.5), (6, 2, 1.5, 2), (3, 1.5), (8, 2))
_MARKERS = (("o", "●"), ("s", "■"), ("^", "▲"), ("D", "◆"), ("v", "▼"), ("P", "✚"), ("X", "✖"))


@dataclass(frozen=True, slots=True)
class Style:
    """How one teacher, or the target, is drawn.

    Attributes:
        name: of the teacher or target.
        colour: in drawings.
        variable: the same colour as CSS has it.
        dashes: lengths of dashes and gaps; empty for a whole line.
        marker: shape of points, as matplotlib names it.
        sign: the same shape as a letter.
    """

    name: str
    colour: str
    variable: str
    dashes: tuple[float, ...]
    marker: str
    sign: str


def styles_of(teachers: Sequence[str]) -> dict[str, Style]:
    """A style for each teacher; no two of the first 42 are the same."""
    return {name: _style(name, number) for number, name in enumerate(teachers)}


def target_style(name: str) -> Style:
    """The style of the target."""
    return Style(name, INK, "currentColor", (), "o", "●")


def legend(styles: Iterable[Style]) -> str:
    """A list of names with their lines."""
    items = "".join(
        f'<li><svg viewBox="0 0 40 12" width="40" height="12" aria-hidden="true">'
        f'<line x1="1" y1="6" x2="39" y2="6" style="stroke: {style.variable}; stroke-width: 2; '
        f'stroke-dasharray: {_dashes(style)}"/></svg>'
        f'<span aria-hidden="true" style="color: {style.variable}">{style.sign}</span> '
        f"{text(style.name)}</li>"
        for style in styles
    )
    return f'<ul class="legend" aria-label="Legend">{items}</ul>\n'


def _dashes(style: Style) -> str:
    # matplotlib multiplies them by the width of the line.
    return " ".join(f"{2 * one:g}" for one in style.dashes) or "none"


def _style(name: str, number: int) -> Style:
    colour = number % len(COLOURS)
    marker, sign = _MARKERS[number % len(_MARKERS)]
    dashes = _DASHES[number % len(_DASHES)]
    return Style(name, COLOURS[colour], f"var(--c{colour})", dashes, marker, sign)
