"""What a person sees when a command fails: one message and an exit code, never a traceback.

0 done, 1 the operation failed, 2 usage or recipe, 3 damage, 130 interrupted. A traceback means a
defect of the program.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

import click

from ckd_cache.errors import CkdCacheError, StorageError

__all__ = ["INTERRUPTED", "boundary", "output_boundary", "write_out"]

INTERRUPTED = 130


@contextmanager
def boundary(interrupted: str) -> Iterator[None]:
    """Turn errors of the project and of the system into messages and exit codes of click.

    Args:
        interrupted: what to say after Ctrl-C.

    Raises:
        click.exceptions.Exit: in place of a `CkdCacheError`, an OSError and KeyboardInterrupt;
            the message is on standard error then.
        BrokenPipeError: whoever read our output has gone; click ends silently then.
    """
    try:
        yield
    except CkdCacheError as error:
        _end(f"Error: {error}", error.exit_code, error)
    except KeyboardInterrupt as error:
        _end(f"\nInterrupted. {interrupted}", INTERRUPTED, error)
    except BrokenPipeError:
        raise
    except OSError as error:
        where = f" at {error.filename}" if error.filename else ""
        message = f"Error: The system refused{where}: {error.strerror or error}."
        _end(message, StorageError.exit_code, error)


def write_out(text: str) -> None:
    """Write to standard output what a command was asked for.

    Raises:
        StorageError: it cannot be written.
        BrokenPipeError: whoever read it has gone.
    """
    try:
        click.echo(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        _drop_stdout()
        raise StorageError(_not_written(error)) from error


@contextmanager
def output_boundary() -> Iterator[None]:
    """Around all of a command line: what click writes itself, such as help, may fail, too.

    Raises:
        SystemExit: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        _drop_stdout()
        click.echo(f"Error: {_not_written(error)}", err=True)
        raise SystemExit(StorageError.exit_code) from error


def _not_written(error: OSError) -> str:
    return f"standard output cannot be written: {error.strerror}. Make room, or send it elsewhere."


def _end(message: str, code: int, cause: BaseException) -> NoReturn:
    click.echo(message, err=True)
    raise click.exceptions.Exit(code) from cause


def _drop_stdout() -> None:
    """Let what is still buffered go nowhere: Python would fail to write it once more at exit."""
    with suppress(OSError, ValueError):  # a test's stream is no file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
