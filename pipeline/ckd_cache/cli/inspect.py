"""The command ``ckd-cache inspect``."""

from __future__ import annotations

import json
from pathlib import Path

import click

__all__ = ["inspect"]

_SLOTS = 200_000


@click.command(
    epilog="""\b
Examples:
  ckd-cache inspect runs/quick.ckd
  ckd-cache inspect runs/quick.ckd --target gold
  ckd-cache inspect runs/quick.ckd --target gold --slots 1000000 --json"""
)
@click.argument("cache", type=click.Path(path_type=Path))
@click.option("--target", help="Look into this target: its weights, teachers, calibration.")
@click.option(
    "--slots",
    default=_SLOTS,
    show_default=True,
    type=click.IntRange(min=1),
    help="Slots to read for --target, in evenly spaced chunks.",
)
@click.option("--set-name", default="text", show_default=True, help="The set of --target.")
@click.option("--json", "as_json", is_flag=True, help="Print strict JSON and nothing else.")
def inspect(cache: Path, *, target: str | None, slots: int, set_name: str, as_json: bool) -> None:
    """Say what is in CACHE: sizes, entropies, agreement with gold, prediction weights.

    It reads the manifest and the list of files, so it answers at once whatever the size. A cache
    that a build has not finished is described as far as it is committed.

    With --target it reads slots, and says how the target weighs its teachers (by their
    confidence, by kind of text, by place in the corpus), how far they agree, how well teachers
    and mixture are calibrated, and how much of the target is uncertain.
    """
    if target is None:
        _print_cache(cache, as_json=as_json)
    else:
        _print_target(cache, set_name, target, slots, as_json=as_json)


def _print_cache(cache: Path, *, as_json: bool) -> None:
    from ckd_cache.inspection.summary import summarise

    summary = summarise(cache)
    if as_json:
        click.echo(json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False))
        return
    from ckd_cache.cli.summary_tables import print_summary

    print_summary(summary)


def _print_target(cache: Path, set_name: str, target: str, slots: int, *, as_json: bool) -> None:
    from rich.console import Console

    from ckd_cache.cli.progress import progress
    from ckd_cache.inspection.target_figures import target_figures

    with progress(Console(stderr=True)) as report:
        figures = target_figures(cache, set_name, target, slots, report)
    if as_json:
        click.echo(json.dumps(figures, indent=1, ensure_ascii=False, allow_nan=False))
        return
    from ckd_cache.cli.target_tables import print_target

    print_target(figures)
