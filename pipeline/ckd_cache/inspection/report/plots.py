"""The plots of a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ckd_cache.inspection.report.drawing import Words, draw
from ckd_cache.inspection.report.palette import INK, Style
from ckd_cache.types import JsonObject

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "MOST_GENRES",
    "plot_agreement",
    "plot_confidence",
    "plot_genres",
    "plot_places",
    "plot_reliability",
]

MOST_GENRES = 12
"""Genres that are drawn; the table has all."""
_LONGEST = 18
_WIDTH, _HEIGHT = 4.8, 3.2
_FEWEST_SLOTS = 10


def plot_confidence(words: Words, by_confidence: JsonObject, styles: Mapping[str, Style]) -> str:
    """Mean weight of each teacher over its confidence, above how its slots spread."""
    edges = by_confidence["edges"]
    middles = [(low + high) / 2 for low, high in pairwise(edges)]

    def paint(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        for name, one in by_confidence["teachers"].items():
            _line(upper, middles, one["mean_weight"], styles[name])
            total = sum(one["slots"]) or 1
            _line(lower, middles, [count / total for count in one["slots"]], styles[name])
        upper.set(ylim=(-0.02, 1.02), ylabel="mean weight")
        lower.set(xlim=(0, 1), xlabel="confidence of the teacher", ylabel="slots")
        lower.set_ylim(bottom=0)
        lower.yaxis.set_major_formatter(_percent())
        lower.locator_params(axis="y", nbins=2)
        figure.align_ylabels()

    return draw(words, (_WIDTH, _HEIGHT + 0.6), paint)


def plot_genres(words: Words, groups: Sequence[JsonObject], styles: Mapping[str, Style]) -> str:
    """Mean weight of each teacher by kind of text."""
    shown = sorted(groups, key=lambda one: -one["slots"])[:MOST_GENRES]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        places = list(range(len(shown)))
        for number, (name, style) in enumerate(styles.items()):
            # Teachers of equal weight would hide each other.
            aside = 0.5 * (number - (len(styles) - 1) / 2) / len(styles)
            axes.plot(
                [one["mean_weight"][name] for one in shown],
                [place + aside for place in places],
                linestyle="none", marker=style.marker, color=style.colour, markersize=6,
                clip_on=False,
            )  # fmt: skip
        axes.set(xlim=(0, 1), ylim=(len(shown) - 0.5, -0.5), xlabel="mean weight")
        axes.set_yticks(places, [_short(one["genre"]) for one in shown])
        axes.tick_params(axis="y", length=0)

    return draw(words, (_WIDTH, 1.0 + 0.32 * max(len(shown), 2)), paint)


def plot_places(words: Words, groups: Sequence[JsonObject], styles: Mapping[str, Style]) -> str:
    """Mean weight of each teacher over the corpus, in the order of its segments."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        middles = [(one["first_segment"] + one["last_segment"]) / 2 for one in groups]
        for name, style in styles.items():
            _line(axes, middles, [one["mean_weight"][name] for one in groups], style)
        axes.set(ylim=(-0.02, 1.02), ylabel="mean weight", xlabel="segment")
        axes.set_xlim(left=0)
        axes.locator_params(axis="x", nbins=5)

    return draw(words, (_WIDTH, _HEIGHT), paint)


def plot_agreement(words: Words, pairs: Sequence[JsonObject], teachers: Sequence[str]) -> str:
    """Same most probable id (above the diagonal) and distance (below) of every two teachers."""
    found = {tuple(pair["teachers"]): pair for pair in pairs}

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for (one, other), pair in found.items():
            row, column = sorted((teachers.index(one), teachers.index(other)))
            _cell(axes, row, column, pair["same_top1"], 2)
            _cell(axes, column, row, pair["total_variation"], 0)
        labels = [_short(name) for name in teachers]
        places = range(len(teachers))
        axes.set_xticks(places, labels, rotation=35, ha="right", rotation_mode="anchor")
        axes.set_yticks(places, labels)
        axes.set(xlim=(-0.5, len(teachers) - 0.5), ylim=(len(teachers) - 0.5, -0.5))
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)

    side = 1.4 + 0.62 * len(teachers)
    return draw(words, (max(side, 3.2) + 0.5, max(side, 2.6)), paint)


def plot_reliability(
    words: Words, curves: Sequence[JsonObject], styles: Mapping[str, Style]
) -> str:
    """How often the most probable id is gold, over how probable it is."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, dashes=(2, 2))
        for curve in curves:
            bins = [one for one in curve["bins"] if one["slots"] >= _FEWEST_SLOTS]
            _line(
                axes,
                [one["confidence"] for one in bins],
                [one["accuracy"] for one in bins],
                styles[curve["of"]],
            )
        axes.set(
            xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="confidence",
            ylabel="share of slots where it is gold",
        )  # fmt: skip

    return draw(words, (3.6, 3.4), paint)


def _line(axes: Axes, x: Sequence[float], y: Sequence[float | None], style: Style) -> None:
    values = [float("nan") if one is None else one for one in y]
    dashes: dict[str, Any] = {"dashes": style.dashes} if style.dashes else {}
    axes.plot(x, values, color=style.colour, marker=style.marker, **dashes)


def _cell(axes: Axes, row: int, column: int, value: float | None, colour: int) -> None:
    from matplotlib.patches import Rectangle

    from ckd_cache.inspection.report.palette import COLOURS

    if value is None:
        return
    corner = (column - 0.47, row - 0.47)
    axes.add_patch(
        Rectangle(corner, 0.94, 0.94, facecolor=COLOURS[colour], alpha=0.08 + 0.5 * value)
    )
    axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=INK)


def _percent() -> Any:
    from matplotlib.ticker import PercentFormatter

    return PercentFormatter(xmax=1, decimals=0)


def _short(name: str | None) -> str:
    shown = "not known" if name is None else name
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"
