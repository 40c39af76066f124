"""The first section: what is in the cache."""

from __future__ import annotations

from collections.abc import Iterator

from ckd_cache.inspection.report.markup import NONE, number, paragraph, share, table, text
from ckd_cache.types import JsonObject
from ckd_cache.wording import counted

__all__ = ["overview"]


def overview(summary: JsonObject) -> str:
    """What `ckd_cache.inspection.summary.summarise` found, as HTML."""
    state = "complete" if summary["complete"] else "incomplete: its build has not finished"
    lead = (
        f"{summary['path']}: {state}; {summary['bytes'] / 2**20:,.1f} MiB, format version "
        f"{summary['format_version']}, generation {summary['generation']}."
    )
    return paragraph(lead) + "".join(_set(name, one) for name, one in summary["sets"].items())


def _set(name: str, one: JsonObject) -> str:
    html = f"<h3>Set {text(name)}</h3>\n"
    html += '<div class="tables">\n'
    html += table(f"What set {name} holds", ("", "number"), _facts(one))
    html += table(
        "Examples by split",
        ("split", "examples"),
        [(k, f"{n:,}") for k, n in one["splits"].items()],
    )
    html += table(
        "Documents by genre",
        ("genre", "documents"),
        [(genre, f"{n:,}") for genre, n in one["genres"].items()],
    )
    html += "</div>\n"
    if one["teachers"]:
        html += table("Teachers", _TEACHERS, _teachers(one["teachers"]))
    if one["targets"]:
        html += table("Targets", _TARGETS, _targets(one["targets"]))
    return html


_TEACHERS = ("teacher", "model", "k", "entropy", "gold logprob", "top-1", "tail mass")
_TARGETS = ("target", "weighting", "tau", "T", "k", "missing", "tail mass", "stored")


def _facts(one: JsonObject) -> Iterator[tuple[str, str]]:
    for fact in ("documents", "segments", "tokens", "examples", "slots"):
        yield fact, f"{one[fact]:,}"
    yield "views", str(len({part["view"] for part in one["parts"]}))
    yield "ids of the support", f"{one['support']:,}"
    yield "duplicates left out", f"{one['duplicates']:,}"
    yield "records skipped", f"{one['skipped']:,}"


def _teachers(teachers: JsonObject) -> Iterator[tuple[str, ...]]:
    for name, one in teachers.items():
        yield (
            name,
            one["model"],
            str(one["k"]),
            number(one["mean_entropy"]),
            number(one["mean_gold_logprob"]),
            share(one["top1_accuracy"]),
            number(one["mean_tail_mass"]),
        )


def _targets(targets: JsonObject) -> Iterator[tuple[str, ...]]:
    for name, one in targets.items():
        parts = counted(len(one["parts"]), "part")
        yield (
            name,
            one["weighting"],
            NONE if one["tau"] is None else f"{one['tau']:g}",
            f"{one['temperature']:g}",
            str(one["k"]),
            one["missing"],
            number(one["mean_tail_mass"]),
            parts if one["stored"] else "rule only",
        )
