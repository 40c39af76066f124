"""How far a target can be from the mixture of whole teachers, and what other tokenizers cover."""

from __future__ import annotations

from ckd_cache.inspection.report.markup import number, paragraph, share, table
from ckd_cache.types import JsonObject

__all__ = ["uncertain"]


def uncertain(figures: JsonObject, key: str) -> str:
    """Uncertain mass, and coverage where teachers have another tokenizer.

    Args:
        figures: of a target.
        key: not used; there is no drawing.
    """
    del key
    found = figures["uncertain"]
    names = {"mean": "mean", "p99": "99th percentile", "max": "maximum"}
    rows = [(name, number(found[member], 4)) for member, name in names.items()]
    html = table(f"Uncertain mass over {found['over']}", ("", "total variation"), rows)
    html += paragraph(found["cells"])
    if figures["coverage"]:
        html += table(
            "Teachers with another tokenizer",
            ("teacher", "slots with a distribution", "mass carried there"),
            [
                (name, share(one["slots"]), share(one["mass"]))
                for name, one in figures["coverage"].items()
            ],
        )
    return html
