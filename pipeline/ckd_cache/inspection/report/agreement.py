"""How far the teachers of a target agree."""

from __future__ import annotations

from ckd_cache.inspection.report.drawing import Words
from ckd_cache.inspection.report.markup import figure, number, paragraph, share, table
from ckd_cache.inspection.report.plots import plot_agreement
from ckd_cache.types import JsonObject

__all__ = ["agreement"]

_DISTANCE = (
    "Distance is the mean total variation on the cells {each id that one of both keeps, everything "
    "else} at temperature 1. An id that a teacher does not keep counts as 0 with it; the distance "
    "is off by at most the number after ±."
)


def agreement(figures: JsonObject, key: str) -> str:
    """Agreement of every two teachers.

    Args:
        figures: of a target.
        key: tells its drawings apart from those of others.
    """
    pairs = figures["agreement"]
    if not pairs:
        return paragraph("There are no two teachers to compare.")
    rows = [
        (
            " / ".join(pair["teachers"]),
            share(pair["same_top1"]),
            number(pair["total_variation"]),
            f"± {number(pair['uncertain'])}",
            f"{pair['slots']:,}",
        )
        for pair in pairs
    ]
    columns = ("teachers", "same most probable id", "distance", "off by at most", "slots")
    numbers = table("Agreement of teachers", columns, rows)
    there = [name for name in figures["teachers"] if name not in figures["gone"]]
    if len(there) < 3:
        return numbers + paragraph(_DISTANCE, note=True)
    words = Words(
        f"{key}-agreement",
        "Agreement of teachers",
        "A matrix of the teachers: above the diagonal the share of slots where both find the same "
        "id most probable, below it their mean distance. The numbers are in the table below.",
    )
    caption = (
        "Above the diagonal, share of slots with the same most probable id; below, mean distance."
    )
    drawing = plot_agreement(words, pairs, there)
    return f'<div class="figures">{figure(drawing, caption, numbers)}</div>\n' + paragraph(
        _DISTANCE, note=True
    )
