"""``ckd-cache drop``: teachers, targets and gathers leave a cache; their space is free again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ckd_cache.build.dropping import Dropped

__all__ = ["drop"]


@click.command(
    epilog="""\b
Examples:
  ckd-cache drop runs/quick.ckd --target uniform
  ckd-cache drop runs/quick.ckd --teacher prose --teacher technical --dry-run"""
)
@click.argument("cache", type=click.Path(path_type=Path))
@click.option(
    "--teacher", "teachers", multiple=True, help="Teacher to drop; may be given several times."
)
@click.option(
    "--target", "targets", multiple=True, help="Target to drop; may be given several times."
)
@click.option(
    "--gather",
    "gathers",
    multiple=True,
    help="Gathered logprobs to drop, by the name that inspect lists; may be given several times.",
)
@click.option("--set-name", help="Set of the cache  [default: every set that has the name]")
@click.option("--dry-run", is_flag=True, help="Only say what would be dropped.")
def drop(
    cache: Path,
    *,
    teachers: tuple[str, ...],
    targets: tuple[str, ...],
    gathers: tuple[str, ...],
    set_name: str | None,
    dry_run: bool,
) -> None:
    """Take teachers, targets and gathered logprobs out of CACHE and give their space back.

    Nothing is asked. Targets stay whole without their teachers; what was gathered for a group goes
    with any teacher of it. All else that is not named keeps its bytes. An interrupted drop is
    finished by the next command that writes to the cache.
    """
    # Imported here so that --help stays fast.
    from ckd_cache.build.dropping import DropRequest, drop_from_cache, plan_drop

    if not (teachers or targets or gathers):
        message = (
            "Nothing to drop. Name it with --teacher, --target or --gather; `ckd-cache inspect`"
            " lists."
        )
        raise click.UsageError(message)
    request = DropRequest(teachers, targets, set_name, gathers)
    found = plan_drop(cache, request) if dry_run else drop_from_cache(cache, request)
    for line in _lines(cache, found, dry_run=dry_run):
        click.echo(line)


def _lines(cache: Path, found: Sequence[Dropped], *, dry_run: bool) -> Iterator[str]:
    from ckd_cache.cli.sizes import size
    from ckd_cache.wording import counted

    for one in found:
        unfinished = f" and {counted(one.unfinished, 'unfinished part')}" if one.unfinished else ""
        yield (
            f"{one.kind} {one.name} of set {one.set_name}: {counted(one.parts, 'part')}"
            f"{unfinished}, {size(one.bytes)}"
        )
    for one in found:
        if one.orphans:
            yield (
                f"{_listed('target', one.orphans)} of set {one.set_name} "
                f"{'keeps' if len(one.orphans) == 1 else 'keep'} all that was made of "
                f"{one.kind} {one.name}; parts that are added later would need it."
            )
        if one.unusable:
            yield (
                f"{_listed('target', one.unusable)} of set {one.set_name}, only recorded, cannot "
                f"be merged without {one.kind} {one.name}."
            )
    named = [one for one in found if one.kind != "gather"] or found
    names = list(dict.fromkeys(f"{one.kind} {one.name}" for one in named))
    total = size(sum(one.bytes for one in found))
    if dry_run:
        yield f"{cache} would give back {total}; nothing was changed."
        return
    yield (
        f"{cache} gave back {total}. A build whose recipe still names {' or '.join(names)} makes "
        f"{'it' if len(names) == 1 else 'them'} anew."
    )


def _listed(noun: str, names: Sequence[str]) -> str:
    return f"{noun if len(names) == 1 else f'{noun}s'} {', '.join(names)}"
