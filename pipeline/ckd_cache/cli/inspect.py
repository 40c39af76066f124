"""The command ``ckd-cache inspect``."""

from __future__ import annotations

import json
from pathlib import Path

import click

__all__ = ["inspect"]


@click.command(
    epilog="""\b
Examples:
  ckd-cache inspect runs/quick.ckd
  ckd-cache inspect runs/quick.ckd --json"""
)
@click.argument("cache", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print strict JSON and nothing else.")
def inspect(cache: Path, *, as_json: bool) -> None:
    """Say what is in CACHE: sizes, entropies, agreement with gold, prediction weights.

    It reads the manifest and the list of files, so it answers at once whatever the size. A cache
    that a build has not finished is described as far as it is committed.
    """
    from ckd_cache.inspection.summary import summarise

    summary = summarise(cache)
    if as_json:
        click.echo(json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False))
        return
    from ckd_cache.cli.summary_tables import print_summary

    print_summary(summary)
