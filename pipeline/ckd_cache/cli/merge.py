"""``ckd-cache merge``: one more target from the teachers that are in a cache."""

from __future__ import annotations

import math
from pathlib import Path

import click

__all__ = ["merge"]


def _finite(ctx: click.Context, param: click.Parameter, value: float) -> float:
    if not math.isfinite(value):
        message = f"found {value}, expected a finite number"
        raise click.BadParameter(message, ctx, param)
    return value


def _some_name(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if not value.strip():
        message = f"found {value!r}, expected a name"
        raise click.BadParameter(message, ctx, param)
    return value


def _names(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    for name in value:
        _some_name(ctx, param, name)
        if value.count(name) > 1:
            message = f"found {name!r} more than once, expected each teacher once"
            raise click.BadParameter(message, ctx, param)
    return value


@click.command(
    epilog="""\b
Examples:
  ckd-cache merge runs/quick.ckd --name sharp --weighting gold --tau 0.5
  ckd-cache merge runs/quick.ckd --name prose-only --weighting uniform --teacher prose"""
)
@click.argument("cache", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Name of the target.")
@click.option(
    "--weighting",
    type=click.Choice(["gold", "uniform"]),
    default="gold",
    show_default=True,
    help="Rule of the prediction weights.",
)
@click.option(
    "--tau",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    callback=_finite,
    help="Sharpness of the rule: the smaller, the more one teacher decides.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    callback=_finite,
    help="Temperature of the target; one that was captured.",
)
@click.option(
    "--top-k", type=click.IntRange(min=1), help="Entries kept a slot  [default: as captured]"
)
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    callback=_names,
    help="Teacher to mix; may be given several times  [default: all]",
)
@click.option(
    "--set-name",
    default="text",
    show_default=True,
    callback=_some_name,
    help="Set of the cache.",
)
def merge(
    cache: Path,
    name: str,
    weighting: str,
    tau: float,
    temperature: float,
    top_k: int | None,
    teachers: tuple[str, ...],
    set_name: str,
) -> None:
    """Add a target to CACHE: weigh its teachers by another rule. No teacher is loaded."""
    # Imported here so that --help stays fast.
    from rich.console import Console

    from ckd_cache.build.merging import merge_cache
    from ckd_cache.build.target_stage import TargetRequest
    from ckd_cache.cli.progress import progress

    request = TargetRequest(
        name=name,
        weighting=weighting,
        tau=tau,
        temperature=temperature,
        top_k=top_k,
        teachers=teachers or None,
    )
    with progress(Console(stderr=True)) as report:
        outcome = merge_cache(cache, set_name, request, report)
    click.echo(outcome.sentence(cache))
