"""The group ``ckd-cache``: its commands are imported when they are called, not before."""

from __future__ import annotations

import io
import os
import sys
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from ckd_cache import __version__
from ckd_cache.cli.errors import boundary, open_streams, output_boundary
from ckd_cache.cli.signals import stoppable

__all__ = ["COMMANDS", "CommandPlace", "cli", "main"]


@dataclass(frozen=True, slots=True)
class CommandPlace:
    """Where a command lives and what the list of commands says of it.

    Attributes:
        module: the module that defines it.
        attribute: the name of the click command in that module.
        summary: its line in ``ckd-cache --help``.
        resumable: it commits work, so that an interrupted one goes on from there.
    """

    module: str
    attribute: str
    summary: str
    resumable: bool = False


COMMANDS: dict[str, CommandPlace] = {
    "build": CommandPlace(
        "ckd_cache.cli.build", "build", "Fill a cache from a recipe, or go on filling it.", True
    ),
    "merge": CommandPlace(
        "ckd_cache.cli.merge", "merge", "Add a target: weigh the cached teachers anew.", True
    ),
    "drop": CommandPlace(
        "ckd_cache.cli.drop", "drop", "Give back the space of teachers and targets.", True
    ),
    "inspect": CommandPlace(
        "ckd_cache.cli.inspect", "inspect", "Say what is in a cache and how good it looks."
    ),
    "show": CommandPlace(
        "ckd_cache.cli.show", "show", "Print an example with what every teacher predicts there."
    ),
    "report": CommandPlace(
        "ckd_cache.cli.report", "report", "Draw a cache: one page of HTML with plots."
    ),
    "verify": CommandPlace(
        "ckd_cache.cli.verify", "verify", "Read all of a cache: is it as it was written?"
    ),
}


class _Commands(click.Group):
    """A group that knows its commands by name and imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands, in the order of work."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is none of that name."""
        del ctx
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        command: click.Command = getattr(import_module(place.module), place.attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, importing none."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.summary) for name, place in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; a name that is none of them fails with the nearest one."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            near = get_close_matches(name, COMMANDS, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(COMMANDS)}."
            ctx.fail(f"No such command {name!r}. {hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command inside the boundary that turns errors and signals into messages."""

        def resumable() -> bool:
            called = COMMANDS.get(ctx.invoked_subcommand or "")
            return called is not None and called.resumable

        with stoppable(), boundary(resumable):
            return super().invoke(ctx)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  ckd-cache build workflows/quickstart.yaml --cache runs/quick.ckd
  ckd-cache inspect runs/quick.ckd
  ckd-cache show runs/quick.ckd --example 12""",
)
@click.version_option(__version__, prog_name="ckd-cache")
def cli() -> None:
    """Run each teacher once over a corpus, keep what it predicts, and weigh it for students.

    The exit code is 0 when done, 2 when the command line or the recipe is wrong by itself, 3 when
    the cache is damaged, 130 when interrupted, 143 when ended by SIGTERM, and 1 when the operation
    failed otherwise.
    """


def main() -> None:
    """Run ``ckd-cache``; the console script."""
    # Threads of torch that wait by spinning take the cores from whoever shares the machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    open_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that lacks a character of the corpus shows its code instead of failing.
            stream.reconfigure(errors="backslashreplace")
    with output_boundary():
        cli(prog_name="ckd-cache")
