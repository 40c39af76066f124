"""``ckd-cache inspect --target``: the tables and the JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from ckd_cache.cli.main import cli
from ckd_cache.cli.target_tables import print_target
from ckd_cache.inspection.target_figures import target_figures

TITLES = [
    "Weight by confidence", "Weight by genre", "Weight by segment", "Agreement of teachers",
    "Calibration", "Uncertain mass",
]  # fmt: skip


def run(*arguments: object) -> Any:
    return CliRunner().invoke(cli, ["inspect", *map(str, arguments)])


@pytest.fixture(scope="module")
def figures(tiny: Any) -> Any:
    return target_figures(tiny.path, "text", "gold")


def test_json_is_the_figures_and_nothing_else(tiny: Any, figures: Any) -> None:
    done = run(tiny.path, "--target", "gold", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == figures
    few = run(tiny.path, "--target", "gold", "--json", "--slots", 8)
    assert json.loads(few.stdout)["sample"]["every"] == 3


def test_the_tables_have_the_figures_in_80_columns(tiny: Any, figures: Any) -> None:
    text = run(tiny.path, "--target", "gold").stdout
    lines = text.splitlines()
    for title in TITLES:
        assert any(line.startswith(f"  {title}") for line in lines), title
    assert all(len(line) <= 80 and line == line.rstrip() for line in lines[1:])
    assert "figures of all 22 slots" in text
    pair = figures["agreement"][0]
    row = next(line for line in lines if line.startswith("  a / b"))
    assert row.split()[3:] == [
        f"{100 * pair['same_top1']:.1f}", "%", f"{pair['total_variation']:.3f}",
        f"{pair['uncertain']:.3f}", "22",
    ]  # fmt: skip
    doubt = figures["uncertain"]
    row = next(line for line in lines if line.startswith("  gold  ") and len(line.split()) == 4)
    assert row.split()[1:] == [f"{doubt[name]:.4f}" for name in ("mean", "p99", "max")]
    assert doubt["cells"] in " ".join(text.split())
    assert "is not shown: the rule looks at gold" in " ".join(text.split())


def test_a_part_of_the_slots_is_said(tiny: Any) -> None:
    text = " ".join(run(tiny.path, "--target", "gold", "--slots", 8).stdout.split())
    assert "of 22 slots: one chunk of every 3, 3 of 8; --slots 22 reads all" in text


def test_a_tiny_terminal_shows_everything_as_lists(
    figures: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "24")
    print_target(figures)
    text = " ".join(capsys.readouterr().out.split())
    for title in TITLES:
        assert title in text
    for name in "ab":
        assert f"{name}: {figures['weights']['by_kind'][0]['mean_weight'][name]:.3f}" in text


def test_hostile_genres_cannot_drive_the_terminal(
    figures: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    genre = {**figures["weights"]["by_kind"][0], "genre": "[red]\x1b[2J"}
    print_target({**figures, "weights": {**figures["weights"], "by_kind": [genre]}})
    text = capsys.readouterr().out
    assert "[red]\\x1b[2J" in text
    assert "\x1b" not in text


def test_coverage_and_what_is_gone_are_said(
    figures: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    coverage = {"b": {"slots": 0.75, "mass": 0.5}}
    print_target({**figures, "coverage": coverage, "gone": ["a"], "stored": False})
    text = " ".join(capsys.readouterr().out.split())
    assert "gold, b 75.0 % 50.0 %" in text
    assert "not in the cache for these parts: a;" in text
    assert "the rule is only recorded" in text


def test_unknown_names_are_said(tiny: Any) -> None:
    done = run(tiny.path, "--target", "sharp")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "No target 'sharp'" in done.stderr
    assert run(tiny.path, "--target", "gold", "--slots", 0).exit_code == 2
