"""What a person sees when a command fails: one message and an exit code, never a traceback.

0 done, 1 the operation failed, 2 usage or recipe, 3 damage, 130 interrupted. A traceback means a
defect of the program.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from ckd_cache.errors import CkdCacheError, StorageError

__all__ = ["INTERRUPTED", "boundary"]

INTERRUPTED = 130
_DISK_REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


class _Failure(click.ClickException):
    """An error that ends the command with a code of its own."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class _Interruption(_Failure):
    """Ctrl-C; shown without the word error, because nothing is wrong."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Say on standard error what became of the work."""
        click.echo(f"\n{self.message}", file=file, err=file is None)


@contextmanager
def boundary(resumable: Callable[[], bool]) -> Iterator[None]:
    """Turn the errors of the project into messages and exit codes of click.

    Args:
        resumable: asked when interrupted: does the command commit work, so that the same command
            goes on from there?

    Raises:
        click.ClickException: in place of a `CkdCacheError`, of an `OSError` by which a disk
            refuses, and of KeyboardInterrupt.
    """
    try:
        yield
    except CkdCacheError as error:
        raise _Failure(str(error), error.exit_code) from error
    except KeyboardInterrupt as error:
        raise _Interruption(_interrupted(resumable=resumable()), INTERRUPTED) from error
    except OSError as error:
        if error.errno not in _DISK_REFUSED:
            raise
        raise _Failure(_refused(error), StorageError.exit_code) from error


def _interrupted(*, resumable: bool) -> str:
    if resumable:
        return "Interrupted. What is committed is kept; run the same command again to go on."
    return "Interrupted."


def _refused(error: OSError) -> str:
    where = f" at {error.filename}" if error.filename else ""
    return (
        f"The file system refused{where}: {error.strerror}. What is committed is kept. "
        "Make room or give permission, then run the same command again."
    )
