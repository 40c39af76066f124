"""``ckd-cache merge``: one more target from the teachers that are in a cache."""

from __future__ import annotations

import math
from pathlib import Path

import click

from ckd_cache.merge.names import (
    CALIBRATIONS,
    MISSING_POLICIES,
    MIXTURES,
    PRIORS,
    SHUFFLES,
    WEIGHTING_NAMES,
)

__all__ = ["merge"]


def _finite(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
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


def _shares(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> dict[str, float]:
    shares = {}
    for one in value:
        name, equals, share = one.partition("=")
        try:
            number = float(share)
        except ValueError:
            number = math.nan
        if not (equals and name and math.isfinite(number) and number >= 0.0):
            message = f"found {one!r}, expected TEACHER=SHARE with a share of 0 or above"
            raise click.BadParameter(message, ctx, param)
        if name in shares:
            message = f"found {name!r} more than once, expected each teacher once"
            raise click.BadParameter(message, ctx, param)
        shares[name] = number
    return shares


@click.command(
    epilog="""\b
Examples:
  ckd-cache merge runs/quick.ckd --name sharp --weighting gold --tau 0.5
  ckd-cache merge runs/quick.ckd --name gate --weighting gate --calibrate weights
  ckd-cache merge runs/quick.ckd --name mostly-a --weighting fixed --weight a=0.8 --weight b=0.2
  ckd-cache merge runs/quick.ckd --name calm --weighting entropy --live"""
)
@click.argument("cache", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Name of the target.")
@click.option(
    "--weighting",
    type=click.Choice(WEIGHTING_NAMES),
    default="gold",
    show_default=True,
    help="Rule of the prediction weights.",
)
@click.option(
    "--tau",
    type=click.FloatRange(min=0),
    callback=_finite,
    help="Softness of the rule: the smaller, the more one teacher decides  [default: the rule's]",
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
    "--missing",
    type=click.Choice(MISSING_POLICIES),
    default="bucket",
    show_default=True,
    help="What becomes of ids that a teacher does not keep; exact needs gathered logprobs.",
)
@click.option(
    "--mixture",
    type=click.Choice(MIXTURES),
    default="arithmetic",
    show_default=True,
    help="Kind of the mean of the teachers; geometric needs --missing exact.",
)
@click.option(
    "--calibrate",
    type=click.Choice(CALIBRATIONS),
    default="none",
    show_default=True,
    help="Fit a temperature a teacher on split fit: for the weights, or for the target too.",
)
@click.option(
    "--prior",
    type=click.Choice(PRIORS),
    default="uniform",
    show_default=True,
    help="Prior of gold and segment_loo.",
)
@click.option(
    "--weight",
    "weights",
    multiple=True,
    metavar="TEACHER=SHARE",
    callback=_shares,
    help="Share of a teacher, for the rule fixed; once for each teacher.",
)
@click.option(
    "--shuffle",
    type=click.Choice(SHUFFLES),
    default="teachers",
    show_default=True,
    help="What the control random shuffles gold's weights over.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0, max=2**63 - 1),
    default=0,
    show_default=True,
    help="Seed of the control random.",
)
@click.option(
    "--live",
    is_flag=True,
    help="Record the rule (and what it learns) only; students use it as --target live:NAME.",
)
@click.option(
    "--threads", type=click.IntRange(min=1), help="Chunks at a time  [default: all cores]"
)
@click.option(
    "--set-name",
    default="text",
    show_default=True,
    callback=_some_name,
    help="Set of the cache.",
)
def merge(  # noqa: PLR0913  (one parameter for each option)
    cache: Path,
    *,
    name: str,
    weighting: str,
    tau: float | None,
    temperature: float,
    top_k: int | None,
    teachers: tuple[str, ...],
    missing: str,
    mixture: str,
    calibrate: str,
    prior: str,
    weights: dict[str, float],
    shuffle: str,
    seed: int,
    live: bool,
    threads: int | None,
    set_name: str,
) -> None:
    """Add a target to CACHE: weigh its teachers by another rule. No teacher is loaded."""
    # Imported here so that --help stays fast.
    from rich.console import Console

    from ckd_cache.build.merging import merge_cache
    from ckd_cache.build.target_request import TargetRequest, refuse_contradictions
    from ckd_cache.cli.progress import progress

    request = TargetRequest(
        name=name,
        weighting=weighting,
        tau=tau,
        temperature=temperature,
        top_k=top_k,
        teachers=teachers or None,
        missing=missing,
        mixture=mixture,
        calibrate=calibrate,
        prior=prior,
        weights=weights,
        shuffle=shuffle,
        seed=seed,
        stored=not live,
    )
    refuse_contradictions(request)
    with progress(Console(stderr=True)) as report:
        outcome = merge_cache(cache, set_name, request, report, threads)
    click.echo(outcome.sentence(cache))
