"""The scripts that make the environment and run everything, with a stand-in for Python and pip.

The stand-in is what the scripts call, not a part of them: it notes each call, makes an environment
that holds another stand-in, and fails where it is told to.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = r"""#!/bin/bash
echo "$*" >>"$CALLS"
case "$*" in
  -c*) exit "${OLD_PYTHON:-0}" ;;
  --version) echo "Python 3.11.0"; exit 0 ;;
  "-m venv"*)
    mkdir -p "${@: -1}/bin"
    cp "$0" "${@: -1}/bin/python"
    cp "$0" "${@: -1}/bin/lint-imports"
    echo "VIRTUAL_ENV=${@: -1}" >"${@: -1}/bin/activate" ;;
esac
[ -z "${FAIL_ON:-}" ] || [[ "$*" != *$FAIL_ON* ]] || { echo "it broke" >&2; exit 1; }
"""

Runner = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with the real scripts and a stand-in for Python, in a path with a space."""
    root = tmp_path / "a checkout"
    shutil.copytree(ROOT / "workflows", root / "workflows", ignore=shutil.ignore_patterns("quick*"))
    shutil.copytree(ROOT / ".ci", root / ".ci")
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root)
    python = tmp_path / "bin" / "python3"
    python.parent.mkdir()
    python.write_text(STAND_IN, encoding="utf-8")
    python.chmod(0o755)
    return root


@pytest.fixture
def run(checkout: Path, tmp_path: Path) -> Runner:
    """Runs a line of bash in an empty folder, with the stand-in first in PATH."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def runner(line: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
            "CALLS": str(tmp_path / "calls"),
            "ROOT": str(checkout),
            **variables,
        }
        return subprocess.run(
            ["bash", "-c", line],
            cwd=elsewhere,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return runner


@pytest.fixture
def calls(tmp_path: Path) -> Callable[[], list[str]]:
    """The calls of the stand-in since the last look, without its probes."""

    def since_last_look() -> list[str]:
        path = tmp_path / "calls"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [line for line in lines if line.startswith("-m") and "--version" not in line]

    return since_last_look


ENVIRONMENT = 'set -euo pipefail; . "$ROOT/workflows/environment.sh" {}; echo ready'


def test_it_is_made_once(run: Runner, calls: Callable[[], list[str]], checkout: Path) -> None:
    first = run(ENVIRONMENT.format("dev"))
    assert (first.returncode, first.stdout) == (0, "ready\n"), first.stderr
    assert "once, a few minutes" in first.stderr
    made, upgraded, installed = calls()
    assert made.startswith("-m venv")
    assert upgraded.startswith("-m pip")
    assert upgraded.endswith(" pip")
    assert f"--editable {checkout}" in installed
    assert "--group" in installed
    assert f"--constraint {checkout}/constraints.txt" in installed

    for level in ("dev", "runtime"):
        again = run(ENVIRONMENT.format(level))
        assert (again.stdout, again.stderr) == ("ready\n", "")
    assert calls() == []


def test_more_is_installed_when_more_is_needed(run: Runner, calls: Callable[[], list[str]]) -> None:
    run(ENVIRONMENT.format("runtime"))
    assert "--group" not in calls()[-1]
    run(ENVIRONMENT.format("dev"))
    added = calls()
    assert "--group" in added[-1]
    assert not [line for line in added if line.startswith("-m venv")]


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_changed_declaration_is_installed(
    run: Runner, calls: Callable[[], list[str]], checkout: Path, name: str
) -> None:
    run(ENVIRONMENT.format("dev"))
    calls()
    with (checkout / name).open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert run(ENVIRONMENT.format("dev")).stdout == "ready\n"
    assert "--editable" in calls()[-1]


@pytest.mark.parametrize("step", ["venv", "--upgrade", "--editable"])
def test_half_an_installation_does_not_count(
    run: Runner, calls: Callable[[], list[str]], step: str
) -> None:
    failed = run(ENVIRONMENT.format("runtime"), FAIL_ON=step)
    assert failed.returncode != 0
    assert failed.stdout == ""
    assert "it broke" in failed.stderr
    assert "Run the same command again" in failed.stderr
    calls()
    assert run(ENVIRONMENT.format("runtime")).stdout == "ready\n"
    assert "--editable" in calls()[-1]


def test_a_failed_update_does_not_count(
    run: Runner, calls: Callable[[], list[str]], checkout: Path
) -> None:
    run(ENVIRONMENT.format("dev"))
    text = (checkout / "constraints.txt").read_text(encoding="utf-8")
    (checkout / "constraints.txt").write_text(text + "# changed\n", encoding="utf-8")
    run(ENVIRONMENT.format("dev"), FAIL_ON="--editable")
    (checkout / "constraints.txt").write_text(text, encoding="utf-8")
    calls()
    run(ENVIRONMENT.format("dev"))
    assert calls(), "the environment is between two states and must be installed anew"


def test_a_moved_checkout_gets_a_new_environment(
    run: Runner, calls: Callable[[], list[str]], checkout: Path
) -> None:
    run(ENVIRONMENT.format("dev"))
    calls()
    moved = checkout.rename(checkout.parent / "moved")
    assert run(ENVIRONMENT.format("dev"), ROOT=str(moved)).stdout == "ready\n"
    assert calls()[0] == f"-m venv --clear {moved}/.venv"


def test_no_usable_python_is_explained(run: Runner, tmp_path: Path) -> None:
    named = run(ENVIRONMENT.format("dev"), PYTHON=str(tmp_path / "no" / "python"))
    assert named.returncode != 0
    assert "PYTHON=" in named.stderr
    for name in ("python3.13", "python3.12", "python3.11", "python"):
        shutil.copy(tmp_path / "bin" / "python3", tmp_path / "bin" / name)
    old = run(ENVIRONMENT.format("dev"), OLD_PYTHON="1")
    assert old.returncode != 0
    assert "Python 3.11 or later" in old.stderr
    assert "PYTHON=/path/to/python3" in old.stderr


def test_an_unknown_level_is_refused(run: Runner) -> None:
    done = run(ENVIRONMENT.format("everything"))
    assert done.returncode != 0
    assert "unknown level 'everything'" in done.stderr


def test_arguments_go_to_pytest(run: Runner, calls: Callable[[], list[str]]) -> None:
    assert run('bash "$ROOT/workflows/test.sh" tests/unit -k "a b"').returncode == 0
    assert calls()[-1] == "-m pytest tests/unit -k a b"
    run('bash "$ROOT/workflows/test.sh"', CKD_TEST_PROCESSES="3")
    assert calls() == ["-m pytest --numprocesses 3 --dist loadfile"]


def test_checks_all_run_and_the_failed_ones_are_named(
    run: Runner, calls: Callable[[], list[str]]
) -> None:
    done = run('bash "$ROOT/workflows/check.sh" format types imports style', FAIL_ON="ruff check")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "1 of 4 checks failed: style"
    assert [line.split()[1] for line in calls()[-3:]] == ["ruff", "mypy", "ruff"]
    fine = run('bash "$ROOT/workflows/check.sh" format types')
    assert (fine.returncode, fine.stdout.splitlines()[-1]) == (0, "all 2 checks passed")
    unknown = run('bash "$ROOT/workflows/check.sh" formats')
    assert unknown.returncode == 2
    assert "no check 'formats'" in unknown.stderr


@pytest.mark.parametrize(("check", "test"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_ci_runs_both_and_fails_if_one_did(
    run: Runner, checkout: Path, check: int, test: int
) -> None:
    for name, status in {"check": check, "test": test}.items():
        text = f'echo {name} "$CKD_TESTS"; exit {status}\n'
        (checkout / "workflows" / f"{name}.sh").write_text(text, encoding="utf-8")
    done = run('"$ROOT/.ci/run"')
    assert done.stdout == "check full\ntest full\n"
    assert done.returncode == (1 if check or test else 0)


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "    state = torch.load(path)",
        'os.system("ls")',
        "value = eval(text)",
        'print("hello")',
        'PATH = "/home/' + 'someone/data"',
        'PATH = "/work' + '/data"',
    ],
)
def test_bans_are_found(run: Runner, checkout: Path, line: str) -> None:
    module = checkout / "pipeline" / "ckd_cache" / "module.py"
    module.parent.mkdir(parents=True)
    module.write_text("model.eval()\nrich_print(1)\nx = a/work/b\n", encoding="utf-8")
    assert run('bash "$ROOT/workflows/checks/bans.sh"').returncode == 0
    module.write_text(line + "\n", encoding="utf-8")
    done = run('bash "$ROOT/workflows/checks/bans.sh"')
    assert done.returncode == 1
    assert "module.py:1:" in done.stdout


def test_a_long_module_is_found(run: Runner, checkout: Path) -> None:
    module = checkout / "pipeline" / "module.py"
    for folder in ("pipeline", "student", "tests", "docs"):
        (checkout / folder).mkdir()
    module.write_text("x = 1\n" * 400, encoding="utf-8")
    assert run('bash "$ROOT/workflows/checks/lengths.sh"').returncode == 0
    module.write_text("x = 1\n" * 401, encoding="utf-8")
    done = run('bash "$ROOT/workflows/checks/lengths.sh"')
    assert done.returncode == 1
    assert "pipeline/module.py: 401 lines" in done.stdout


def test_no_script_names_a_package_index() -> None:
    for path in (ROOT / "workflows").rglob("*.sh"):
        text = path.read_text(encoding="utf-8")
        assert not [word for word in ("http://", "https://", "--index") if word in text], path
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
