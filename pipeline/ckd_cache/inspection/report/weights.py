"""How a target weighs its teachers."""

from __future__ import annotations

from ckd_cache.inspection.report.drawing import Words
from ckd_cache.inspection.report.markup import figure, number, paragraph, table
from ckd_cache.inspection.report.palette import legend, styles_of
from ckd_cache.inspection.report.plots import (
    MOST_GENRES,
    plot_confidence,
    plot_genres,
    plot_places,
)
from ckd_cache.types import JsonObject

__all__ = ["weights"]


def weights(figures: JsonObject, key: str) -> str:
    """Prediction weights over confidence, kind of text and place in the corpus.

    Args:
        figures: of a target.
        key: tells its drawings apart from those of others.
    """
    found = figures["weights"]
    mean = ", ".join(f"{name} {number(value)}" for name, value in found["mean"].items())
    html = paragraph(f"Mean prediction weights: {mean}.")
    html += legend(styles_of(figures["teachers"]).values())
    html += '<div class="figures">\n'
    if found["by_confidence"]["teachers"]:
        html += _confidence(figures, key)
    return html + _genres(figures, key) + _places(figures, key) + "</div>\n"


def _confidence(figures: JsonObject, key: str) -> str:
    found = figures["weights"]["by_confidence"]
    title = "Mean prediction weight by the confidence of the teacher itself"
    words = Words(
        f"{key}-confidence",
        title,
        "A line for each teacher over ten bins of its largest probability, and below it the share "
        "of slots in each bin. The numbers are in the table below the plot.",
    )
    rows = [
        (f"{low:.1f} to {high:.1f}", *cells)
        for low, high, *cells in zip(
            found["edges"][:-1],
            found["edges"][1:],
            *(
                column
                for one in found["teachers"].values()
                for column in ([number(value) for value in one["mean_weight"]],
                               [f"{count:,}" for count in one["slots"]])
            ),
            strict=True,
        )
    ]  # fmt: skip
    columns = [f"{name} {what}" for name in found["teachers"] for what in ("weight", "slots")]
    return figure(
        plot_confidence(words, found, styles_of(figures["teachers"])),
        f"{title}: its largest probability at temperature 1. Below, the share of its slots.",
        table(title, ("confidence", *columns), rows),
    )


def _genres(figures: JsonObject, key: str) -> str:
    groups, teachers = figures["weights"]["by_kind"], figures["teachers"]
    title = "Mean prediction weight by kind of text"
    words = Words(
        f"{key}-genres",
        title,
        "A row for each genre with a point for each teacher. The numbers are in the table below.",
    )
    rows = [
        (
            "not known" if one["genre"] is None else one["genre"],
            *(number(one["mean_weight"][name]) for name in teachers),
            f"{one['slots']:,}",
        )
        for one in groups
    ]
    more = f" The {MOST_GENRES} with most slots." if len(groups) > MOST_GENRES else ""
    return figure(
        plot_genres(words, groups, styles_of(teachers)),
        f"{title}, the genre of the document that a slot is in.{more}",
        table(title, ("genre", *teachers, "slots"), rows),
    )


def _places(figures: JsonObject, key: str) -> str:
    groups, teachers = figures["weights"]["by_position"], figures["teachers"]
    title = "Mean prediction weight by place in the corpus"
    words = Words(
        f"{key}-places",
        title,
        "A line for each teacher over twenty ranges of segments in the order of the corpus. The "
        "numbers are in the table below the plot.",
    )
    rows = [
        (
            f"{one['first_segment']:,} to {one['last_segment']:,}",
            *(number(one["mean_weight"][name]) for name in teachers),
            f"{one['slots']:,}",
        )
        for one in groups
    ]
    return figure(
        plot_places(words, groups, styles_of(teachers)),
        f"{title}: twenty equal ranges of its segments, all views of a segment together.",
        table(title, ("segments", *teachers, "slots"), rows),
    )
