"""``ckd-cache inspect``: the table and the JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from ckd_cache.cli.main import cli
from ckd_cache.cli.sizes import size
from ckd_cache.cli.summary_tables import print_summary
from ckd_cache.inspection.summary import summarise


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli, ["inspect", *arguments])


def test_json_is_the_summary_and_nothing_else(tiny: Any) -> None:
    done = run(str(tiny.path), "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == summarise(tiny.path)
    assert done.stderr == ""


def test_the_table_has_every_figure(tiny: Any) -> None:
    summary = summarise(tiny.path)
    text = run(str(tiny.path)).stdout
    assert f"{tiny.path}\ncomplete, " in text
    assert "14 examples with 22 slots: 7 segments of at most 12 tokens, 2 views" in text
    assert "2 duplicates and 1 skipped" in text
    assert "train 8" in text
    for name in "ab":
        figures = summary["teachers"][name]
        row = next(line for line in text.splitlines() if line.startswith(f"  {name}  "))
        assert row.split() == [
            name,
            "4",
            f"{figures['bytes_per_slot']:,.1f}",
            f"{figures['mean_entropy']:.3f}",
            f"{figures['mean_gold_logprob']:.3f}",
            f"{100 * figures['top1_accuracy']:.1f}",
            "%",
            f"{figures['mean_tail_mass']:.4f}",
        ]
    weights = summary["targets"]["gold"]["mean_weights"]
    assert f"    gold: a {weights['a']:.3f}, b {weights['b']:.3f}\n" in text
    assert "gold (tau 0.5)" in text


def test_piped_text_is_plain_narrow_and_stable(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = run(str(tiny.path)).stdout
    monkeypatch.setenv("COLUMNS", "40")
    assert run(str(tiny.path)).stdout == text
    assert "\x1b" not in text
    for line in text.splitlines()[1:]:
        assert len(line) <= 80
        assert line == line.rstrip()


def test_colour_can_be_forced(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[" in run(str(tiny.path)).stdout


def test_an_unfinished_cache_says_what_is_missing(unfinished: Any) -> None:
    text = run(str(unfinished.path)).stdout
    assert "\nincomplete, " in text
    assert "Run the same `ckd-cache build` again" in text
    assert "b is there for 1 of 2 parts." in text
    assert "Targets" not in text


def test_impossible_golds_are_said(tiny: Any, capsys: pytest.CaptureFixture[str]) -> None:
    summary = summarise(tiny.path)
    summary["sets"]["text"]["teachers"]["b"]["gold_zero"] = 3
    print_summary(summary)
    assert "b gives gold probability 0 at 3 slots" in capsys.readouterr().out


def test_no_cache_fails_with_one_line(tmp_path: Any) -> None:
    done = run(str(tmp_path / "nothing"))
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1,023 B"),
        (1024, "1.0 KiB"),
        (1.5 * 2**30, "1.5 GiB"),
        (2**60, "1,024.0 PiB"),
    ],
)
def test_sizes(count: float, text: str) -> None:
    assert size(count) == text
