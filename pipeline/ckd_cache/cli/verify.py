"""The command ``ckd-cache verify``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ckd_cache.errors import DamagedCacheError

if TYPE_CHECKING:
    from ckd_cache.build.recipe import Recipe
    from ckd_cache.format.findings import Finding, Verification
    from ckd_cache.progress import Progress

__all__ = ["verify"]

_RANGES_SHOWN, _NOTES_SHOWN = 6, 10


@click.command(
    epilog="""\b
Examples:
  ckd-cache verify runs/quick.ckd
  ckd-cache verify runs/quick.ckd --workers 16 --json
  ckd-cache verify runs/quick.ckd --quick
  ckd-cache verify runs/quick.ckd --repair --recipe workflows/quickstart.yaml"""
)
@click.argument("cache", type=click.Path(path_type=Path))
@click.option(
    "--workers", type=click.IntRange(min=1), help="Threads that read  [default: one a core]"
)
@click.option("--json", "as_json", is_flag=True, help="Print strict JSON and nothing else.")
@click.option(
    "--quick", is_flag=True, help="Only look whether all files are there with their sizes."
)
@click.option("--repair", is_flag=True, help="Compute the damaged shards again, and no others.")
@click.option(
    "--recipe",
    type=click.Path(path_type=Path),
    help="With --repair: says where sources, tokenizer and teachers are.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="A.B=C",
    help="With --recipe: a value of the recipe, as in `ckd-cache build`; may be given again.",
)
def verify(
    cache: Path,
    *,
    workers: int | None,
    as_json: bool,
    quick: bool,
    repair: bool,
    recipe: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Read all of CACHE and say whether it is as it was written.

    Every file is hashed, every shard decoded, and every number held against what must be true of
    it. Ends with exit code 3 and a line for each file that is damaged, with the examples it hits.
    Nothing is changed, but with --repair: slots and targets are made again from what is beside
    them; segments, tokenizer files and teachers from what the recipe names.
    """
    if (recipe is not None and not repair) or (overrides and recipe is None):
        message = "--recipe goes with --repair, and --set with --recipe"
        raise click.UsageError(message)
    # Imported here so that --help stays fast.
    from ckd_cache.cli.progress import progress

    inputs = _read(recipe, overrides)
    check = partial(_verify, cache, quick=quick, workers=workers, as_json=as_json)
    with progress() as report:
        found = check(report)
        if repair and found.findings:
            _repair(cache, found, inputs, report)
            found = check(report)
    if as_json:
        click.echo(_json(found))
    else:
        for line in _lines(found):
            click.echo(line)
    if found.findings:
        raise DamagedCacheError(_what_next(cache, found, repaired=repair))


def _verify(
    cache: Path, report: Progress, *, quick: bool, workers: int | None, as_json: bool
) -> Verification:
    """What verifying gives; JSON also says what nothing can be told without, and then it fails."""
    from ckd_cache.format.verify import verify_cache

    try:
        return verify_cache(cache, quick=quick, workers=workers, progress=report)
    except DamagedCacheError as error:
        if as_json:
            click.echo(_json(_only(_unreadable(cache, str(error)), quick=quick)))
        raise


def _unreadable(cache: Path, detail: str) -> Finding:
    """The finding that the manifest, or else the files table, cannot be read."""
    from ckd_cache.format.findings import Finding
    from ckd_cache.format.reader import open_cache
    from ckd_cache.format.spec import MANIFEST_NAME, WHOLE_PART

    try:
        record = open_cache(cache).manifest.files
    except DamagedCacheError:
        record = None
    if record is None:
        return Finding(MANIFEST_NAME, "", WHOLE_PART, "manifest", "manifest", detail)
    return Finding(record.path, "", WHOLE_PART, "files table", "table", detail)


def _only(finding: Finding, *, quick: bool) -> Verification:
    from ckd_cache.format.findings import Verification

    return Verification(0, 0, 0, (finding,), (), quick)


def _json(found: Verification) -> str:
    return json.dumps(found.json(), indent=1, ensure_ascii=False, allow_nan=False)


def _read(recipe: Path | None, overrides: Sequence[str]) -> tuple[Recipe, Path] | None:
    from ckd_cache.build.recipe import read_recipe

    return None if recipe is None else (read_recipe(recipe, overrides), recipe.resolve().parent)


def _repair(
    cache: Path, found: Verification, recipe: tuple[Recipe, Path] | None, report: Progress
) -> None:
    from ckd_cache.build.repair import repair_cache
    from ckd_cache.cli.console import counted

    done = repair_cache(cache, found.findings, recipe, report)
    for line in done.left:
        report.note(f"not repaired: {line}")
    report.note(
        f"repaired {counted(done.restored + done.replaced, 'file')}, of which"
        f" {done.replaced} with other bytes than before"
    )


def _lines(found: Verification) -> Iterator[str]:
    from ckd_cache.cli.console import counted
    from ckd_cache.cli.sizes import size

    for finding in found.findings:
        hit = _examples(finding)
        yield f"{finding.path}: {hit}{finding.detail}"
    for note in found.notes[:_NOTES_SHOWN]:
        yield f"note: {note}"
    if len(found.notes) > _NOTES_SHOWN:
        yield f"note: and {counted(len(found.notes) - _NOTES_SHOWN, 'more note')}"
    read = (
        f"{counted(found.files, 'file')}, {size(found.bytes)}, {counted(found.examples, 'example')}"
    )
    if found.findings:
        yield f"{read}: {counted(len(found.findings), 'finding')}"
    elif found.quick:
        yield f"{read}: all files are there with their sizes; what they hold was not read"
    else:
        yield f"{read}: all is as it was written"


def _examples(finding: Finding) -> str:
    """Which examples a finding hits, first and last of each stretch, such as ``4-7, 14-17``."""
    texts = [
        f"{hit.start}" if hit.stop == hit.start + 1 else f"{hit.start}-{hit.stop - 1}"
        for hit in finding.examples
    ]
    if not texts:
        return ""
    shown = ", ".join(texts[:_RANGES_SHOWN])
    more = ", …" if len(texts) > _RANGES_SHOWN else ""
    sets = ", ".join(sorted({hit.set_name for hit in finding.examples}))
    total = sum(hit.stop - hit.start for hit in finding.examples)
    noun = "example" if total == 1 else f"{total:,} examples,"
    return f"{noun} {shown}{more} of {sets}: "


def _what_next(cache: Path, found: Verification, *, repaired: bool) -> str:
    from ckd_cache.cli.console import counted

    parts = {finding.part for finding in found.findings if finding.part}
    where = f" in {counted(len(parts), 'part')}" if parts else ""
    damage = f"{cache}: {counted(len(found.findings), 'finding')}{where}; the cache is damaged."
    if repaired:
        return f"{damage} What is named above could not be repaired; restore it from a copy."
    return (
        f"{damage} Compute the damaged shards again with `ckd-cache verify {cache} --repair"
        " --recipe RECIPE`, or restore the files named above from a copy."
    )
