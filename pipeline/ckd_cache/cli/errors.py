"""What a person sees when a command fails: one message and an exit code, never a traceback.

0 done, 1 the operation failed, 2 usage or recipe, 3 damage, 130 interrupted. A traceback means a
defect of the program.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import click

from ckd_cache.errors import CkdCacheError, StorageError

__all__ = ["INTERRUPTED", "boundary"]

INTERRUPTED = 130
_DISK_REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def boundary(resumable: Callable[[], bool]) -> Iterator[None]:
    """Turn the errors of the project into messages and exit codes of click.

    Args:
        resumable: asked when interrupted: does the command commit work, so that the same command
            goes on from there?

    Raises:
        click.exceptions.Exit: in place of a `CkdCacheError`, of an `OSError` by which a disk
            refuses, and of KeyboardInterrupt; the message is on standard error then.
    """
    try:
        yield
    except CkdCacheError as error:
        _end(f"Error: {error}", error.exit_code, error)
    except KeyboardInterrupt as error:
        _end(f"\n{_interrupted(resumable=resumable())}", INTERRUPTED, error)
    except OSError as error:
        if error.errno not in _DISK_REFUSED:
            raise
        _end(f"Error: {_refused(error)}", StorageError.exit_code, error)


def _end(message: str, code: int, cause: BaseException) -> NoReturn:
    click.echo(message, err=True)
    raise click.exceptions.Exit(code) from cause


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
