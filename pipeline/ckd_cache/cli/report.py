"""The command ``ckd-cache report``."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["report"]

_SLOTS = 200_000


@click.command(
    epilog="""\b
Examples:
  ckd-cache report runs/quick.ckd -o report.html
  ckd-cache report runs/quick.ckd -o gold.html --target gold --slots 1000000"""
)
@click.argument("cache", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The file to write."
)
@click.option(
    "--target", "targets", multiple=True, help="Target to show; several times  [default: all]"
)
@click.option("--set-name", help="Set of the targets  [default: all sets]")
@click.option(
    "--slots",
    default=_SLOTS,
    show_default=True,
    type=click.IntRange(min=1),
    help="Slots to read for each target, in evenly spaced chunks.",
)
@click.option("--overwrite", is_flag=True, help="Replace the file if it is there.")
def report(
    cache: Path,
    *,
    output: Path,
    targets: tuple[str, ...],
    set_name: str | None,
    slots: int,
    overwrite: bool,
) -> None:
    """Write a report on CACHE: one page of HTML with plots, which needs nothing but itself.

    It shows what is in the cache and, for each target, prediction weights over confidence, kind of
    text and place in the corpus, agreement of teachers, calibration before and after, and the
    uncertain mass.
    """
    from rich.console import Console

    from ckd_cache.cli.progress import progress
    from ckd_cache.cli.sizes import size
    from ckd_cache.inspection.report.building import (
        ReportRequest,
        build_report,
        check_output,
        write_report,
    )

    check_output(output, overwrite=overwrite)
    with progress(Console(stderr=True)) as said:
        page = build_report(cache, ReportRequest(targets, set_name, slots), said)
    written = write_report(page, output, overwrite=overwrite)
    click.echo(f"{output}: {size(written)}. Open it in a browser.")
