"""The page: its frame, and its sections in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import TypeAlias

from ckd_cache import __version__
from ckd_cache.inspection.report.agreement import agreement
from ckd_cache.inspection.report.calibration import calibration
from ckd_cache.inspection.report.markup import anchor_of, paragraph, text
from ckd_cache.inspection.report.overview import overview
from ckd_cache.inspection.report.uncertain import uncertain
from ckd_cache.inspection.report.weights import weights
from ckd_cache.types import JsonObject

__all__ = ["TARGET_SECTIONS", "page_of"]

TargetSection: TypeAlias = Callable[[JsonObject, str], str]
TARGET_SECTIONS: Sequence[tuple[str, TargetSection]] = (
    ("Prediction weights", weights),
    ("Agreement of teachers", agreement),
    ("Calibration", calibration),
    ("Uncertain mass", uncertain),
)
"""Sections of every target: a heading, and what makes HTML of the target's figures."""


def page_of(summary: JsonObject, targets: Sequence[JsonObject], notes: Sequence[str] = ()) -> str:
    """A report as one page of HTML.

    Args:
        summary: of the cache.
        targets: figures of the targets to draw.
        notes: what else is to be said, such as targets that could not be drawn.
    """
    sections = [("overview", "Overview", overview(summary) + _notes(notes))]
    sections += [
        (anchor_of("target", one["set"], one["target"]), _title(one), _target(one, f"t{place}"))
        for place, one in enumerate(targets)
    ]
    contents = "".join(
        f'<li><a href="#{anchor}">{text(title)}</a></li>\n' for anchor, title, _ in sections
    )
    body = "".join(
        f'<section id="{anchor}" aria-labelledby="{anchor}-title">\n'
        f'<h2 id="{anchor}-title">{text(title)}</h2>\n{content}</section>\n'
        for anchor, title, content in sections
    )
    return _FRAME.format(
        title=text(summary["path"]),
        style=files(__package__).joinpath("style.css").read_text(encoding="utf-8"),
        contents=contents,
        body=body,
        version=text(__version__),
    )


# The policy forbids the page to fetch or to run anything, whatever a corpus puts into it.
_FRAME = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Report on {title}</title>
<style>
{style}</style>
</head>
<body>
<a class="skip" href="#overview">Skip to the report</a>
<header>
<h1>Report on a cache</h1>
<p>{title}</p>
</header>
<nav aria-label="Contents">
<ul>
{contents}</ul>
</nav>
<main>
{body}</main>
<footer><p>Made by ckd-cache {version}.</p></footer>
</body>
</html>
"""


def _title(figures: JsonObject) -> str:
    return f"Target {figures['target']} of set {figures['set']}"


def _target(figures: JsonObject, key: str) -> str:
    html = paragraph(_rule(figures)) + paragraph(_sample(figures))
    if figures["gone"]:
        gone = ", ".join(figures["gone"])
        html += paragraph(f"Not in the cache any more, so not compared: {gone}.", note=True)
    if figures["weights"] is None or not figures["sample"]["slots"]:
        return html + paragraph("It has no slots.")
    for heading, section in TARGET_SECTIONS:
        html += f"<h3>{text(heading)}</h3>\n{section(figures, key)}"
    return html


def _rule(figures: JsonObject) -> str:
    tau = "" if figures["tau"] is None else f" with tau {figures['tau']:g}"
    made = "" if figures["stored"] else " Only its rule is recorded; it was computed for this page."
    return (
        f"Weighting {figures['weighting']}{tau}; {figures['mixture']} mixture at temperature "
        f"{figures['temperature']:g}, k {figures['k']}, missing ids: {figures['missing']}, "
        f"calibrate: {figures['calibrate']}.{made}"
    )


def _sample(figures: JsonObject) -> str:
    sample = figures["sample"]
    if sample["every"] == 1:
        return f"Figures of all {sample['of_slots']:,} slots."
    return (
        f"Figures of {sample['slots']:,} of {sample['of_slots']:,} slots: one chunk of every "
        f"{sample['every']}, {sample['chunks']:,} of {sample['of_chunks']:,}."
    )


def _notes(notes: Sequence[str]) -> str:
    return "".join(paragraph(note, note=True) for note in notes)
