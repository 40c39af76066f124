"""What a person sees when a command fails: one message and an exit code, never a traceback.

0 done, 1 the operation failed, 2 usage or recipe, 3 damage, 130 interrupted, 128 + n ended by
signal n (docs/cli.md says what belongs where). A traceback means a defect of the program.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import click

from ckd_cache.cli.signals import Stopped, ignore_stops
from ckd_cache.errors import CkdCacheError, StorageError

__all__ = ["INTERRUPTED", "boundary", "open_streams", "output_boundary"]

INTERRUPTED = 130
_DISK_REFUSED = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM,
}  # fmt: skip


@contextmanager
def boundary(resumable: Callable[[], bool]) -> Iterator[None]:
    """Turn the errors of the project into messages and exit codes of click.

    Args:
        resumable: asked when interrupted: does the command commit work, so that the same command
            goes on from there?

    Raises:
        click.exceptions.Exit: in place of a `CkdCacheError`, of an `OSError` by which a disk
            refuses, of KeyboardInterrupt and of `Stopped`; the message is on standard error then.
    """
    try:
        yield
    except CkdCacheError as error:
        _end(f"Error: {error}", error.exit_code, error)
    except KeyboardInterrupt as error:
        _end(f"\n{_interrupted('Interrupted', resumable=resumable())}", INTERRUPTED, error)
    except Stopped as error:
        ignore_stops()
        message = _interrupted(f"Stopped by {error.name}", resumable=resumable())
        _end(f"\n{message}", error.exit_code, error)
    except OSError as error:
        if error.errno not in _DISK_REFUSED or _output_refused(error):
            raise
        _end(f"Error: {_refused(error)}", StorageError.exit_code, error)


def open_streams() -> None:
    """Give a standard stream that the caller closed (``>&-``) the null device.

    Else what is said would fail, and the next file opened would take the stream's number.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


@contextmanager
def output_boundary() -> Iterator[None]:
    """End with a message and code 1 where standard output takes nothing, as ``>/dev/full``.

    Raises:
        SystemExit: in place of the `OSError`.
    """
    try:
        yield
    except OSError as error:
        if not _output_refused(error):
            raise
        # What is still in the buffer would fail a second time when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        click.echo(f"Error: standard output cannot be written ({error.strerror}).", err=True)
        raise SystemExit(1) from error


def _output_refused(error: OSError) -> bool:
    """Whether an error is of standard output: then one more line fails like the one before."""
    if error.filename is not None:
        return False
    try:
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError:
        return True
    return False


def _end(message: str, code: int, cause: BaseException) -> NoReturn:
    click.echo(message, err=True)
    raise click.exceptions.Exit(code) from cause


def _interrupted(how: str, *, resumable: bool) -> str:
    if resumable:
        return f"{how}. What is committed is kept; run the same command again to go on."
    return f"{how}."


def _refused(error: OSError) -> str:
    where = f" at {error.filename}" if error.filename else ""
    return (
        f"The file system refused{where}: {error.strerror}. What is committed is kept. "
        "Make room or give permission, then run the same command again."
    )
