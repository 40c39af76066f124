"""The command ``ckd-cache show``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

__all__ = ["show"]


@click.command(
    epilog="""\b
Examples:
  ckd-cache show runs/quick.ckd --example 12
  ckd-cache show runs/quick.ckd --example 12 --target uniform --top 8 --slots 20"""
)
@click.argument("cache", type=click.Path(path_type=Path))
@click.option(
    "--example",
    type=click.IntRange(min=0),
    help="Number of the example.  [default: the first that has slots]",
)
@click.option("--target", help="The target to show.  [default: the first by name]")
@click.option(
    "--top", default=5, show_default=True, type=click.IntRange(min=1), help="Tokens a distribution."
)
@click.option(
    "--slots", default=5, show_default=True, type=click.IntRange(min=0), help="Slots to list."
)
@click.option("--set-name", default="text", show_default=True, help="The set.")
@click.option("--json", "as_json", is_flag=True, help="Print strict JSON of all slots.")
def show(
    cache: Path,
    *,
    example: int | None,
    target: str | None,
    top: int,
    slots: int,
    set_name: str,
    as_json: bool,
) -> None:
    """Print an example of CACHE: its text with its masks, and what every teacher predicts there."""
    from ckd_cache.inspection.text import view_example

    view = view_example(cache, set_name, example, target, top)
    if as_json:
        click.echo(json.dumps(asdict(view), indent=1, ensure_ascii=False, allow_nan=False))
        return
    from ckd_cache.cli.example_text import print_example

    print_example(view, slots)
