"""The command line ``ckd-student``; imports what is heavy only when a command runs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ckd_cache import __version__
from ckd_cache.errors import CkdCacheError

if TYPE_CHECKING:
    from rich.console import Console

    from ckd_student.evaluation import Tally

__all__ = ["cli", "main"]

_INTERRUPTED = 130
_FOLDER = click.Path(path_type=Path, file_okay=False)


class _Failure(click.ClickException):
    """An error that ends the command with a code of its own."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]


@contextmanager
def _boundary(interrupted: str) -> Iterator[None]:
    """Turn errors of the project and Ctrl-C into one message and an exit code."""
    try:
        yield
    except CkdCacheError as error:
        raise _Failure(str(error), error.exit_code) from error
    except KeyboardInterrupt as error:
        click.echo(f"\nInterrupted. {interrupted}", err=True)
        raise click.exceptions.Exit(_INTERRUPTED) from error


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  ckd-student train workflows/student.yaml --cache runs/quick.ckd --target gold -o runs/student
  ckd-student evaluate runs/student --task mlm --cache runs/quick.ckd""",
)
@click.version_option(__version__, prog_name="ckd-student")
def cli() -> None:
    """Train students from a cache, and measure them. No teacher is ever loaded.

    The exit code is 0 when done, 1 when the operation failed, 2 when it was asked for wrongly,
    3 when the cache is damaged and 130 when it was interrupted.
    """


@cli.command()
@click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--cache", required=True, type=_FOLDER, help="Folder of the cache.")
@click.option("--target", help="Name of the target; not needed when loss.distill is 0.")
@click.option("-o", "--output", required=True, type=_FOLDER, help="Folder of the student.")
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Override the recipe.")
@click.option("--resume", is_flag=True, help="Go on with the student in OUTPUT.")
@click.option("--overwrite", is_flag=True, help="Delete the student in OUTPUT and train anew.")
def train(
    recipe: Path,
    cache: Path,
    target: str | None,
    output: Path,
    overrides: tuple[str, ...],
    resume: bool,
    overwrite: bool,
) -> None:
    """Train a student on the targets of a cache."""
    if resume and overwrite:
        message = "--resume and --overwrite exclude each other."
        raise click.UsageError(message)
    again = (
        "Finished checkpoints are kept; the same command with --resume (and without --overwrite) "
        "goes on from the newest."
    )
    with _boundary(again):
        from ckd_student.progress import progress
        from ckd_student.request import TrainRequest
        from ckd_student.train import StoppedEarly
        from ckd_student.train import train as run

        request = TrainRequest(recipe, cache, target, output, overrides, resume, overwrite)
        try:
            with progress(_console(stderr=True)) as shown:
                trained = run(request, shown)
        except StoppedEarly as stopped:
            click.echo(f"Stopped after step {stopped.step:,}, with a checkpoint. {again}", err=True)
            raise click.exceptions.Exit(_INTERRUPTED) from stopped
    if not trained.speaks:
        return
    scores = trained.held_out
    done = f"{trained.steps:,} steps" if trained.trained_now else "it was finished before"
    kl = "" if scores.kl is None else f", KL to the target {scores.kl:.4f}"
    click.echo(
        f"{trained.output}: {done}; held-out loss {scores.loss:.4f} nats a slot, top-1 "
        f"{scores.top1:.1%}{kl} ({scores.slots:,} slots of split {trained.split})"
    )


@cli.command()
@click.argument("run", type=_FOLDER)
@click.option("--task", type=click.Choice(["mlm"]), default="mlm", show_default=True)
@click.option("--cache", required=True, type=_FOLDER, help="Folder of the cache.")
@click.option(
    "--split", type=click.Choice(["train", "fit", "test"]), default="test", show_default=True
)
@click.option("--set-name", default="text", show_default=True, help="Set of the cache.")
@click.option("--target", help="Also measure the KL to this target.")
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate(
    run: Path,
    task: str,
    cache: Path,
    split: str,
    set_name: str,
    target: str | None,
    batch_size: int,
    as_json: bool,
) -> None:
    """Measure the masked LM in RUN at the slots of a split."""
    with _boundary("Nothing was written."):
        from ckd_student.measure import measure_folder
        from ckd_student.progress import progress

        with progress(_console(stderr=True)) as shown:
            tally = measure_folder(
                run, cache, set_name, split, target, batch_size=batch_size, progress=shown
            )
    if as_json:
        genres = {genre: scores.to_json() for genre, scores in tally.by_genre().items()}
        result = {"task": task, "split": split, **tally.scores().to_json(), "by_genre": genres}
        click.echo(json.dumps(result, indent=1))
    else:
        _console(stderr=False).print(_table(tally, f"{run} at the slots of split {split}"))


def _table(tally: Tally, title: str) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    names = ("genre", "slots", "nats a slot", "top-1", "top-5")
    for name in (*names, "KL to target") if tally.has_target else names:
        table.add_column(name, justify="left" if name == "genre" else "right")
    for genre, scores in [*tally.by_genre().items(), ("all", tally.scores())]:
        kl = [] if scores.kl is None else [f"{scores.kl:.4f}"]
        shares = (f"{scores.top1:.1%}", f"{scores.top5:.1%}")
        table.add_row(genre, f"{scores.slots:,}", f"{scores.loss:.4f}", *shares, *kl)
    return table


def _console(*, stderr: bool) -> Console:
    from rich.console import Console as RichConsole

    return RichConsole(stderr=stderr)


def main() -> None:
    """Run ``ckd-student``; the console script."""
    # Threads that spin while they wait slow each other down wherever cores are shared. Read when
    # torch is first imported, so it must be set here; a user's own setting wins.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not sys.flags.utf8_mode:
        for stream in (sys.stdout, sys.stderr):
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure is not None:
                # A terminal that lacks a character shows its code instead of failing.
                reconfigure(errors="backslashreplace")
    cli(prog_name="ckd-student")
