"""Whether teachers and mixture are as often right as they are sure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ckd_cache.inspection.report.drawing import Words
from ckd_cache.inspection.report.markup import details, figure, number, paragraph, table
from ckd_cache.inspection.report.palette import legend, styles_of, target_style
from ckd_cache.inspection.report.plots import plot_reliability
from ckd_cache.types import JsonObject

__all__ = ["calibration"]

_STAGES = {
    "captured": "Teachers as captured, temperature 1",
    "calibrated": "Teachers at the temperatures chosen for them",
    "mixed": "The target, after mixing",
}
_SEEN = {
    "masked": "slots where the models see the mask token",
    "random": "slots where they see a random token",
    "kept": "slots where they see gold itself",
}


def calibration(figures: JsonObject, key: str) -> str:
    """Calibration curves before and after, for each type of slot.

    Args:
        figures: of a target.
        key: tells its drawings apart from those of others.
    """
    html = "".join(paragraph(note, note=True) for note in _notes(figures))
    styles = styles_of(figures["teachers"])
    html += legend([*styles.values(), target_style(f"{figures['target']} (target)")])
    curves = figures["calibration"]["curves"]
    masked, *others = (_type(figures, key, seen) for seen in _SEEN)
    html += table("Calibration", _COLUMNS, [_row(one) for one in _by_type(curves) if one["slots"]])
    return html + masked + details("Slots that are not masked", "".join(others))


_COLUMNS = (
    "", "as", "T", "slots are", "slots", "confidence", "accuracy", "error", "nats a slot"
)  # fmt: skip


def _by_type(curves: Sequence[JsonObject]) -> list[JsonObject]:
    return [one for seen in _SEEN for one in curves if one["seen"] == seen]


def _type(figures: JsonObject, key: str, seen: str) -> str:
    html = f"<h4>{_SEEN[seen].capitalize()}</h4>\n"
    panels = "".join(_panel(figures, key, seen, stage) for stage in _STAGES)
    return f'{html}<div class="figures">\n{panels}</div>\n'


def _panel(figures: JsonObject, key: str, seen: str, stage: str) -> str:
    curves = [
        one
        for one in figures["calibration"]["curves"]
        if one["seen"] == seen and one["stage"] == stage
    ]
    if not curves:
        return ""
    name = figures["target"]
    styles = {name: target_style(name)} if stage == "mixed" else styles_of(figures["teachers"])
    title = f"{_STAGES[stage]}: {_SEEN[seen]}"
    words = Words(
        f"{key}-{seen}-{stage}",
        title,
        "Share of slots where the most probable id is gold, over how probable it is, in fifteen "
        "bins; on the diagonal both are equal, below it a model is too sure. The numbers are in "
        "the table below the plot.",
    )
    errors = ", ".join(
        f"{one['of']} {number(one['expected_calibration_error'])} (T {one['temperature']:g})"
        for one in curves
    )
    return figure(
        plot_reliability(words, curves, styles),
        f"{title}. Expected calibration error: {errors}. Bins of less than 10 slots are left out.",
        "".join(_bins(one) for one in curves),
    )


def _bins(curve: JsonObject) -> str:
    rows = [
        (
            f"{place / len(curve['bins']):.2f} to {(place + 1) / len(curve['bins']):.2f}",
            number(one["confidence"]),
            number(one["accuracy"]),
            f"{one['slots']:,}",
        )
        for place, one in enumerate(curve["bins"])
    ]
    caption = f"{curve['of']} at temperature {curve['temperature']:g}"
    return table(caption, ("confidence", "mean", "accuracy", "slots"), rows)


def _row(one: JsonObject) -> Sequence[str]:
    return (
        one["of"],
        {"captured": "captured", "calibrated": "calibrated", "mixed": "mixture"}[one["stage"]],
        f"{one['temperature']:g}",
        one["seen"],
        f"{one['slots']:,}",
        number(one["mean_confidence"]),
        number(one["accuracy"]),
        number(one["expected_calibration_error"]),
        number(one["nll"]),
    )


def _notes(figures: JsonObject) -> Iterator[str]:
    origin = figures["calibration"]["chosen_by"]
    yield "The split fit is left out: temperatures, and what rules learn, come from there."
    if origin == "target":
        yield "The temperatures are those that the target learned on the split fit."
    elif origin == "fit split":
        yield "The temperatures were chosen on the split fit for this report; the target uses none."
    else:
        yield (
            "No temperatures could be chosen: that takes a split fit and several captured "
            "temperatures."
        )
    yield "A mixture of calibrated teachers is itself less sure than it could be."
    if figures["no_merit"] is not None:
        yield (
            "That the target finds gold is no merit, and its log-likelihood is not shown: "
            f"{figures['no_merit']}."
        )
