"""The group: lazy commands, exit codes, messages."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from tests.unit.cli.sleepy import ended_by

import ckd_cache
from ckd_cache import __version__
from ckd_cache.cli import main as main_module
from ckd_cache.cli.errors import boundary
from ckd_cache.cli.main import COMMANDS, CommandPlace, cli
from ckd_cache.errors import CkdCacheError, DamagedCacheError, RecipeError

SOURCES = Path(ckd_cache.__file__).parents[1]
HEAVY = ("torch", "transformers", "zarr", "pyarrow", "dask", "pydantic", "numpy", "tokenizers")


def modules_after(statements: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after ``statements``."""
    code = f"import sys\n{statements}\nprint(*sys.modules, sep='\\n', file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
    )
    return {line.split(".")[0] for line in done.stderr.splitlines()}


def in_subprocess(*arguments: str) -> str:
    """Statements that run ``ckd-cache`` with ``arguments`` and go on after its exit."""
    return (
        f"sys.argv = ['ckd-cache', *{list(arguments)!r}]\n"
        "from ckd_cache.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0, end.code"
    )


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)]
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    assert not modules_after(in_subprocess(*arguments)) & set(HEAVY)


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert not modules_after("import ckd_cache; ckd_cache.CkdCacheError") & set(HEAVY)


def test_help_of_the_group_imports_no_command() -> None:
    code = (
        in_subprocess("--help") + "\nassert not [m for m in sys.modules if m.endswith('.inspect')]"
    )
    modules_after(code)


def test_help_costs_little_more_than_click_itself() -> None:
    """A ratio, because machines differ: within three times an interpreter with click."""

    def fastest(statements: str) -> float:
        times = []
        for _ in range(3):
            start = time.perf_counter()
            modules_after(statements)
            times.append(time.perf_counter() - start)
        return min(times)

    assert fastest(in_subprocess("--help")) < 3 * fastest("import click") + 0.05


def test_every_command_has_a_help_text_with_an_example() -> None:
    for name in COMMANDS:
        done = CliRunner().invoke(cli, [name, "--help"])
        assert done.exit_code == 0, done.output
        assert f"  ckd-cache {name} " in done.output


def test_the_group_lists_commands_in_the_order_of_work() -> None:
    output = CliRunner().invoke(cli, ["--help"]).output
    places = [output.index(f"  {name}  ") for name in COMMANDS]
    assert places == sorted(places)


def test_version() -> None:
    done = CliRunner().invoke(cli, ["--version"])
    assert (done.exit_code, done.output) == (0, f"ckd-cache, version {__version__}\n")


def test_an_unknown_command_is_a_usage_error_with_the_nearest_name() -> None:
    done = CliRunner().invoke(cli, ["inspct"])
    assert done.exit_code == 2
    assert "No such command 'inspct'. Did you mean 'inspect'?" in done.stderr


def test_an_unknown_command_unlike_any_lists_all() -> None:
    done = CliRunner().invoke(cli, ["xyzzy"])
    assert done.exit_code == 2
    assert "There are build, merge, drop, inspect, show, report, verify." in done.stderr


def run_raising(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, *, resumable: bool
) -> Result:
    """Result of a command that fails with ``error``, called through the real group."""

    @click.command()
    def fail() -> None:
        raise error

    monkeypatch.setattr(sys.modules[__name__], "fail_command", fail, raising=False)
    place = CommandPlace(__name__, "fail_command", "Fail.", resumable)
    monkeypatch.setitem(main_module.COMMANDS, "fail", place)
    return CliRunner().invoke(cli, ["fail"])


@pytest.mark.parametrize(
    ("error", "code"),
    [(CkdCacheError("wrong"), 1), (RecipeError("wrong"), 2), (DamagedCacheError("wrong"), 3)],
)
def test_errors_of_the_project_become_a_line_and_a_code(
    monkeypatch: pytest.MonkeyPatch, error: CkdCacheError, code: int
) -> None:
    done = run_raising(monkeypatch, error, resumable=True)
    assert (done.exit_code, done.stdout, done.stderr) == (code, "", "Error: wrong\n")


def test_a_full_disk_becomes_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    error = OSError(errno.ENOSPC, "No space left on device", "/somewhere/file")
    done = run_raising(monkeypatch, error, resumable=True)
    assert done.exit_code == 1
    assert "refused at /somewhere/file: No space left on device." in done.stderr


def test_other_errors_of_the_system_stay_defects(monkeypatch: pytest.MonkeyPatch) -> None:
    error = FileNotFoundError(errno.ENOENT, "No such file", "/somewhere/file")
    done = run_raising(monkeypatch, error, resumable=True)
    assert done.exception is error


@pytest.mark.parametrize(
    ("resumable", "text"),
    [(True, "run the same command again to go on"), (False, "Interrupted.\n")],
)
def test_an_interruption_says_what_became_of_the_work(
    monkeypatch: pytest.MonkeyPatch, resumable: bool, text: str
) -> None:
    done = run_raising(monkeypatch, KeyboardInterrupt(), resumable=resumable)
    assert done.exit_code == 130
    assert text in done.stderr
    assert "Error" not in done.stderr


def test_a_real_interruption_ends_with_130(tmp_path: Path) -> None:
    """Ctrl-C while a command runs, in a process of its own."""
    code, errors = ended_by(signal.SIGINT, tmp_path, "sleepy", resumable=True)
    assert code == 130
    assert "What is committed is kept" in errors
    assert "Traceback" not in errors


def test_the_boundary_lets_success_through() -> None:
    with boundary(lambda: True):
        value = json.loads("1")
    assert value == 1
