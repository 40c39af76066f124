"""The command line ``ckd-student``; imports what is heavy only when a command runs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ckd_cache import __version__
from ckd_student.boundary import INTERRUPTED, boundary, output_boundary, write_out

if TYPE_CHECKING:
    from rich.console import Console

    from ckd_student.train import Trained

__all__ = ["cli", "main"]

_FOLDER = click.Path(path_type=Path, file_okay=False)


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
@click.option(
    "--target",
    help="Name of the target, or live:NAME to merge it as it is read; not needed when loss.distill"
    " is 0.",
)
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
    with boundary(again):
        from ckd_student.progress import progress
        from ckd_student.request import TrainRequest
        from ckd_student.train import StoppedEarly
        from ckd_student.train import train as run

        request = TrainRequest(recipe, cache, target, output, overrides, resume, overwrite)
        try:
            with progress(_stderr()) as shown:
                trained = run(request, shown)
        except StoppedEarly as stopped:
            click.echo(f"Stopped after step {stopped.step:,}, with a checkpoint. {again}", err=True)
            raise click.exceptions.Exit(INTERRUPTED) from stopped
        if trained.speaks:
            write_out(_summary(trained))


@cli.command()
@click.argument("run", type=_FOLDER)
@click.option("--task", type=click.Choice(["mlm"]), default="mlm", show_default=True)
@click.option("--cache", required=True, type=_FOLDER, help="Folder of the cache.")
@click.option(
    "--split", type=click.Choice(["train", "fit", "test"]), default="test", show_default=True
)
@click.option("--set-name", default="text", show_default=True, help="Set of the cache.")
@click.option("--target", help="Also measure the KL to this target, or to live:NAME.")
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
    with boundary("Nothing was written."):
        from ckd_student.measure import measure_folder
        from ckd_student.progress import progress

        with progress(_stderr()) as shown:
            tally = measure_folder(
                run, cache, set_name, split, target, batch_size=batch_size, progress=shown
            )
        if as_json:
            genres = {genre: scores.to_json() for genre, scores in tally.by_genre().items()}
            result = {"task": task, "split": split, **tally.scores().to_json(), "by_genre": genres}
            write_out(json.dumps(result, indent=1))
        else:
            from ckd_student.scores_text import scores_text

            write_out(scores_text(tally, f"{run} at the slots of split {split}"))


def _summary(trained: Trained) -> str:
    done = f"{trained.steps:,} steps" if trained.trained_now else "it was finished before"
    scores = trained.held_out
    if scores is None:
        return f"{trained.output}: {done}; nothing was measured (data.evaluate is none)"
    kl = "" if scores.kl is None else f", KL to the target {scores.kl:.4f}"
    return (
        f"{trained.output}: {done}; held-out loss {scores.loss:.4f} nats a slot, top-1 "
        f"{scores.top1:.1%}{kl} ({scores.slots:,} slots of split {trained.split})"
    )


def _stderr() -> Console:
    from rich.console import Console as RichConsole

    return RichConsole(stderr=True)


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
    with output_boundary():
        cli(prog_name="ckd-student")
