"""The tables of ``ckd-cache inspect --target``, readable in 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.console import Console
from rich.text import Text

from ckd_cache.cli.console import output
from ckd_cache.cli.tables import decimal, percent, print_line, print_table
from ckd_cache.inspection.decode import printable
from ckd_cache.types import JsonObject, JsonValue
from ckd_cache.wording import counted

__all__ = ["print_coverage", "print_target", "print_uncertain"]

_THOUSAND = 1000
_TEN_THOUSAND = 10_000


def print_target(figures: JsonObject) -> None:
    """Print what `ckd_cache.inspection.target_figures.target_figures` found."""
    console = output()
    console.print(Text(figures["path"], style="bold"), soft_wrap=True)
    console.print(Text(f"Target {figures['target']} of set {figures['set']}", style="bold"))
    for line in (*_facts(figures), *_notes(figures)):
        print_line(console, line)
    if figures["weights"] is not None:
        _print_weights(console, figures["weights"])
        _print_agreement(console, figures["agreement"])
        _print_calibration(console, figures)
    print_uncertain(console, {figures["target"]: figures["uncertain"]})
    print_coverage(console, {figures["target"]: figures["coverage"]})


def print_uncertain(console: Console, targets: Mapping[str, JsonObject]) -> None:
    """Print the uncertain mass of targets, and on which cells it holds.

    Args:
        console: where.
        targets: by name, ``mean``, ``p99``, ``max`` and ``cells``.
    """
    if not targets:
        return
    rows = [
        (name, *(decimal(one[figure], 4) for figure in ("mean", "p99", "max")))
        for name, one in targets.items()
    ]
    print_table(console, "Uncertain mass", ("", "mean", "99 %", "max"), rows)
    console.print()
    for sentence in dict.fromkeys(one["cells"] for one in targets.values()):
        names = [name for name, one in targets.items() if one["cells"] == sentence]
        whose = "" if len(names) == len(targets) else f"{', '.join(names)}: "
        print_line(console, f"{whose}{sentence}")


def print_coverage(console: Console, targets: Mapping[str, JsonObject]) -> None:
    """Print at how many slots teachers with another tokenizer take part; nothing without such.

    Args:
        console: where.
        targets: by name, the coverage by teacher.
    """
    rows = [
        (f"{target}, {teacher}", percent(one["slots"]), percent(one["mass"]))
        for target, coverage in targets.items()
        for teacher, one in coverage.items()
    ]
    if rows:
        print_table(
            console,
            "Teachers with another tokenizer",
            ("", "slots with a distribution", "mass carried there"),
            rows,
        )


def _facts(figures: JsonObject) -> Iterator[str]:
    tau = "" if figures["tau"] is None else f" (tau {figures['tau']:g})"
    extra = [f"missing {figures['missing']}"]
    if figures["mixture"] != "arithmetic":
        extra.append(f"{figures['mixture']} mixture")
    if figures["calibrate"] != "none":
        extra.append(f"calibrate {figures['calibrate']}")
    yield (
        f"{figures['weighting']}{tau}, temperature {figures['temperature']:g}, "
        f"k {figures['k']}, {', '.join(extra)}"
    )
    weights = (figures["weights"] or {"mean": {}})["mean"]
    if weights:
        shares = ", ".join(f"{name} {decimal(value, 3)}" for name, value in weights.items())
        yield f"mean prediction weights: {shares}"
    sample = figures["sample"]
    if sample["every"] == 1:
        yield f"figures of all {counted(sample['of_slots'], 'slot')}"
    else:
        yield (
            f"figures of {sample['slots']:,} of {counted(sample['of_slots'], 'slot')}: one chunk "
            f"of every {sample['every']}, {sample['chunks']:,} of {sample['of_chunks']:,}; "
            f"--slots {sample['of_slots']} reads all"
        )


def _notes(figures: JsonObject) -> Iterator[str]:
    if not figures["stored"]:
        yield "the rule is only recorded; the target was computed for these figures"
    if figures["gone"]:
        yield (
            f"not in the cache for these parts: {', '.join(figures['gone'])}; what needs the "
            "teacher itself is left out"
        )


def _print_weights(console: Console, weights: JsonObject) -> None:
    by_confidence = weights["by_confidence"]
    edges = [f"{edge:.1f}" for edge in by_confidence["edges"][:-1]]
    rows: list[Sequence[str]] = []
    for name, one in by_confidence["teachers"].items():
        rows.append((name, *(_weight(value) for value in one["mean_weight"])))
        rows.append(("  slots", *(_short(count) for count in one["slots"])))
    if rows:
        print_table(console, "Weight by confidence", ("", *edges), rows)
        print_line(
            console, "confidence: from the teacher's own largest probability, T 1; bins 0.1 wide"
        )
    _print_groups(
        console,
        "Weight by genre",
        ((_genre(one["genre"]), one) for one in weights["by_kind"]),
        list(weights["mean"]),
    )
    _print_groups(
        console,
        "Weight by segment",
        (
            (f"{one['first_segment']:,} to {one['last_segment']:,}", one)
            for one in weights["by_position"]
        ),
        list(weights["mean"]),
    )


def _print_groups(
    console: Console,
    title: str,
    groups: Iterable[tuple[str, JsonObject]],
    teachers: Sequence[str],
) -> None:
    rows = [
        (
            label,
            *(decimal(one["mean_weight"][name], 3) for name in teachers),
            f"{one['slots']:,}",
        )
        for label, one in groups
    ]
    print_table(console, title, ("", *teachers, "slots"), rows)


def _print_agreement(console: Console, pairs: Sequence[JsonObject]) -> None:
    rows = [
        (
            " / ".join(pair["teachers"]),
            percent(pair["same_top1"]),
            decimal(pair["total_variation"], 3),
            decimal(pair["uncertain"], 3),
            f"{pair['slots']:,}",
        )
        for pair in pairs
    ]
    if not rows:
        return
    columns = ("", "same top-1", "distance", "+/-", "slots")
    print_table(console, "Agreement of teachers", columns, rows)
    print_line(
        console,
        "distance: mean total variation on {each id that one of both keeps, everything else}; an "
        "id that a teacher does not keep counts as 0, which is off by at most +/-",
    )


def _print_calibration(console: Console, figures: JsonObject) -> None:
    calibration = figures["calibration"]
    rows = [
        (
            one["of"],
            _stage(one),
            one["seen"],
            f"{one['slots']:,}",
            decimal(one["mean_confidence"], 3),
            decimal(one["accuracy"], 3),
            decimal(one["expected_calibration_error"], 3),
            decimal(one["nll"], 3),
        )
        for one in sorted(calibration["curves"], key=lambda one: _ORDER.index(one["seen"]))
    ]
    columns = ("", "as", "slots are", "slots", "conf.", "acc.", "ECE", "NLL")
    print_table(console, "Calibration", columns, rows, {"as", "slots are"})
    print_line(console, _calibration_note(figures))


_ORDER = ("masked", "random", "kept")


def _stage(one: JsonObject) -> str:
    names = {"captured": "captured", "calibrated": "calibrated", "mixed": "mixture"}
    return f"{names[one['stage']]}, T {one['temperature']:g}"


def _calibration_note(figures: JsonObject) -> str:
    origin = {
        "target": "those that the target learned there",
        "fit split": "chosen there for these figures",
        None: "none could be chosen: they need several temperatures",
    }[figures["calibration"]["chosen_by"]]
    note = f"without the split fit; temperatures of calibrated teachers: {origin}"
    if figures["no_merit"] is not None:
        note += (
            ". The mixture's accuracy is no merit, and its likelihood is not shown: "
            f"{figures['no_merit']}"
        )
    return note


def _weight(value: float | None) -> str:
    return decimal(value, 2).removeprefix("0") if value != 0 else "0"


def _short(count: int) -> str:
    """A number in at most 5 characters."""
    if count < _TEN_THOUSAND:
        return str(count)
    size, unit = (_THOUSAND, "k") if count < _THOUSAND**2 else (_THOUSAND**2, "M")
    return f"{count / size:.0f}{unit}"


def _genre(genre: JsonValue) -> str:
    return "(not known)" if genre is None else printable(genre)
