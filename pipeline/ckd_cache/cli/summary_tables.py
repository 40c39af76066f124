"""The tables of ``ckd-cache inspect``, readable in 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text

from ckd_cache.cli.console import counted, output
from ckd_cache.cli.sizes import size
from ckd_cache.cli.tables import INDENT, NONE, decimal, percent, print_line, print_table
from ckd_cache.cli.target_tables import print_coverage, print_uncertain
from ckd_cache.types import JsonObject

__all__ = ["print_summary"]


def print_summary(summary: JsonObject) -> None:
    """Print what `ckd_cache.inspection.summary.summarise` found."""
    console = output()
    state = "complete" if summary["complete"] else "incomplete"
    console.print(Text(summary["path"], style="bold"), soft_wrap=True)
    console.print(
        f"{state}, {size(summary['bytes'])}, format version {summary['format_version']}, "
        f"generation {summary['generation']}"
    )
    if not summary["complete"]:
        console.print("Run the same `ckd-cache build` again to complete it.")
    for name, part in summary["sets"].items():
        _print_set(console, name, part)


def _print_set(console: Console, name: str, part: JsonObject) -> None:
    console.print()
    console.print(Text(f"Set {name}", style="bold"))
    for line in _facts(part):
        print_line(console, line)
    if part["teachers"]:
        print_table(console, "Teachers", _TEACHER_COLUMNS, _teacher_rows(part["teachers"]))
        _print_models(console, part["teachers"])
    if part["targets"]:
        print_table(console, "Targets", _TARGET_COLUMNS, _target_rows(part["targets"]), _WORDS)
        stored = {name: one for name, one in part["targets"].items() if one["stored"]}
        _print_no_merit(console, stored)
        _print_weights(console, stored)
        print_uncertain(console, {name: one["uncertain"] for name, one in stored.items()})
        print_coverage(console, {name: one["coverage"] for name, one in stored.items()})
    _print_gathers(console, part["gathers"])
    _print_notes(console, part)


def _facts(part: JsonObject) -> Iterable[str]:
    if part["twin_of"] is not None:
        yield (
            f"twin of set {part['twin_of']}: the same words for teachers with another tokenizer, "
            f"{counted(part['cut'], 'token')} cut"
        )
    yield (
        f"{counted(part['examples'], 'example')} with {counted(part['slots'], 'slot')}: "
        f"{counted(part['segments'], 'segment')} of at most {part['segment_tokens']} tokens, "
        f"{counted(len({one['view'] for one in part['parts']}), 'view')}"
    )
    yield (
        f"{counted(part['documents'], 'document')}, {counted(part['tokens'], 'token')}; "
        f"{counted(part['duplicates'], 'duplicate')} and {part['skipped']:,} skipped"
    )
    yield f"examples by split: {_shares(part['splits'])}"
    yield f"documents by genre: {_shares(part['genres'])}"
    yield f"support of {part['support']:,} tokens; examples take {size(part['examples_bytes'])}"


_TEACHER_COLUMNS = ("", "k", "bytes/slot", "entropy", "gold logp", "top-1", "tail mass")
_TARGET_COLUMNS = ("", "weighting", "T", "k", "bytes/slot", "gold logp", "tail mass")
_WORDS = {"weighting"}


def _teacher_rows(teachers: JsonObject) -> Iterable[Sequence[str]]:
    for name, one in teachers.items():
        yield (
            name,
            str(one["k"]),
            decimal(one["bytes_per_slot"], 1),
            decimal(one["mean_entropy"], 3),
            decimal(one["mean_gold_logprob"], 3),
            percent(one["top1_accuracy"]),
            decimal(one["mean_tail_mass"], 4),
        )


def _target_rows(targets: JsonObject) -> Iterable[Sequence[str]]:
    for name, one in targets.items():
        tau = "" if one["tau"] is None else f" (tau {one['tau']:g})"
        yield (
            name,
            f"{one['weighting']}{tau}",
            f"{one['temperature']:g}",
            str(one["k"]),
            decimal(one["bytes_per_slot"], 1),
            decimal(one["mean_gold_logprob"], 3) if one["no_merit"] is None else NONE,
            decimal(one["mean_tail_mass"], 4),
        )


def _print_no_merit(console: Console, targets: JsonObject) -> None:
    """Say why a likelihood is left out: beside those of label-free targets it would mislead."""
    for reason in dict.fromkeys(one["no_merit"] for one in targets.values()):
        if reason is not None:
            names = [name for name, one in targets.items() if one["no_merit"] == reason]
            print_line(
                console,
                f"gold logp is not shown of {', '.join(names)}: {reason}; it would be no merit.",
            )


def _print_models(console: Console, teachers: JsonObject) -> None:
    console.print()
    for name, one in teachers.items():
        temperatures = ", ".join(f"{value:g}" for value in one["temperatures"])
        line = f"{name}: {one['model']}, {one['dtype']}, temperatures {temperatures}"
        print_line(console, f"{line}, {_exactness(one)}")


def _exactness(one: JsonObject) -> str:
    kept = "" if one["top_p"] == 1.0 else f", top-p {one['top_p']:g}: {one['mean_valid']:.1f} kept"
    if not one["step"]:
        return f"exact{kept}"
    measured = one["quantising_nats"]
    cost = "" if measured is None else f", which cost {measured:.1e} nats a slot"
    return f"step {one['step']:.4g} nats{cost}{kept}"


def _print_gathers(console: Console, gathers: JsonObject) -> None:
    if not gathers:
        return
    total = sum(one["bytes"] for one in gathers.values())
    console.print()
    print_line(console, f"Gathered logprobs of ids that others keep, {size(total)}")
    for name, one in gathers.items():
        print_line(
            console,
            f"{name}: of {one['teacher']} in the group {', '.join(one['group'])}; "
            f"{decimal(one['mean_gathered'], 1)} ids a slot with {percent(one['mean_mass'])} of "
            f"the mass, {decimal(one['bytes_per_slot'], 1)} bytes/slot",
        )


def _print_weights(console: Console, targets: JsonObject) -> None:
    if not targets:
        return
    console.print()
    console.print("  Mean prediction weights")
    for name, one in targets.items():
        shares = ", ".join(
            f"{teacher} {decimal(weight, 3)}" for teacher, weight in one["mean_weights"].items()
        )
        print_line(console, f"{name}: {shares}", 2 * INDENT)


def _print_notes(console: Console, part: JsonObject) -> None:
    names = [one["name"] for one in part["parts"]]
    for name, one in part["gathers"].items():
        missing = [part_name for part_name in names if part_name not in one["parts"]]
        if missing:
            there = f"{len(names) - len(missing)} of {len(names)} parts"
            print_line(console, f"Gather {name} is there for {there}.")
    for kind in ("teachers", "targets"):
        for name, one in part[kind].items():
            if not one.get("stored", True):
                print_line(
                    console,
                    f"{name} is a rule that is only recorded: `ckd-student train --target "
                    f"live:{name}` and `ckd-cache inspect --target {name}` compute it.",
                )
                continue
            missing = [part_name for part_name in names if part_name not in one["parts"]]
            if missing:
                console.print(
                    f"  {name} is there for {len(names) - len(missing)} of {len(names)} parts."
                )
            if one["gold_zero"]:
                shown = one.get("no_merit") is None
                print_line(
                    console,
                    f"{name} gives gold probability 0 at {counted(one['gold_zero'], 'slot')}"
                    f"{'; its mean gold logp leaves them out' if shown else ''}.",
                )


def _shares(counts: JsonObject) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in counts.items()) or NONE
