"""``ckd-cache build``: from a recipe to a finished cache."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["build"]


@click.command(
    epilog="""\b
Examples:
  ckd-cache build workflows/quickstart.yaml --cache runs/quick.ckd
  ckd-cache build recipe.yaml --cache big.ckd --set runtime.device=cuda --set capture.top_k=64"""
)
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option(
    "--cache", type=click.Path(path_type=Path), required=True, help="Folder of the cache."
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="A.B=C",
    help="Change a value of the recipe; may be given several times.",
)
def build(recipe: Path, cache: Path, overrides: tuple[str, ...]) -> None:
    """Fill a cache from RECIPE, or go on filling it.

    May be stopped at any time: the same command continues where the last finished shard ended,
    and says so when nothing is left to do.
    """
    # Imported here so that --help stays fast.
    from rich.console import Console

    from ckd_cache.build.recipe import read_recipe
    from ckd_cache.cli.progress import progress

    parsed = read_recipe(recipe, overrides)
    console = Console(stderr=True)
    with progress(console) as report:
        from ckd_cache.build.run import build_cache

        outcome = build_cache(parsed, recipe.resolve().parent, cache, report)
    click.echo(outcome.sentence(cache))
