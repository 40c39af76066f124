"""Figures and the report of a built cache: stored and recorded targets, and lost teachers."""

from __future__ import annotations

import json
import shutil
from functools import cache as cache_results
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.integration import builds
from tests.unit.inspection.pages import Page

from ckd_cache.build.dropping import DropRequest, drop_from_cache
from ckd_cache.build.merging import merge_cache
from ckd_cache.build.target_request import TargetRequest
from ckd_cache.cli.main import cli
from ckd_cache.inspection.report.building import ReportRequest, build_report
from ckd_cache.inspection.target_figures import target_figures


@pytest.fixture(scope="module")
def cache(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built cache with a rule stored and the same rule only recorded."""
    path = tmp_path_factory.mktemp("report") / "whole.ckd"
    shutil.copytree(built, path)
    for name, stored in (("calm", True), ("calm-live", False)):
        request = TargetRequest(name, "segment_entropy", calibrate="weights", stored=stored)
        merge_cache(path, "text", request)
    return path


@cache_results
def figures(cache: Path, target: str, slots: int = 1500) -> Any:
    found = target_figures(cache, "text", target, slots)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


def close(one: Any, other: Any) -> bool:
    """Equal, but for what quantising the stored target changes."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    return one == (pytest.approx(other, abs=2e-3) if isinstance(other, float) else other)


@pytest.mark.full
def test_a_recorded_rule_has_the_figures_of_the_stored_target(cache: Path) -> None:
    stored, live = figures(cache, "calm"), figures(cache, "calm-live")
    assert (stored["stored"], live["stored"]) == (True, False)
    assert stored["uses_gold"] is live["uses_gold"] is False
    assert live["sample"] == stored["sample"]
    assert close(live["weights"], stored["weights"])
    assert live["agreement"] == stored["agreement"]
    assert live["uncertain"]["over"] == "slots read"
    assert 0 < live["uncertain"]["max"] <= stored["uncertain"]["max"] + 1e-3
    learned = [one["calibration"]["temperatures"] for one in (stored, live)]
    assert learned[0] == learned[1]
    assert live["calibration"]["chosen_by"] == "target"


def test_a_label_free_target_has_a_likelihood_and_gold_has_none(cache: Path) -> None:
    for name, shown in (("calm", True), ("gold", False)):
        curves = figures(cache, name)["calibration"]["curves"]
        mixed = [one for one in curves if one["stage"] == "mixed"]
        assert [one["nll"] is not None for one in mixed if one["slots"]] == [shown] * 3
        assert sum(one["slots"] for one in mixed) > 0


def test_a_warm_target_is_judged_at_its_own_temperature(cache: Path) -> None:
    curves = figures(cache, "warm")["calibration"]["curves"]
    heats = {(one["stage"], one["temperature"]) for one in curves}
    assert ("mixed", 2.0) in heats
    assert ("captured", 1.0) in heats


def test_a_report_says_what_it_cannot_draw(cache: Path, tmp_path: Path) -> None:
    """A target stays whole without its teachers; a recorded rule does not."""
    poorer = tmp_path / "poorer.ckd"
    shutil.copytree(cache, poorer)
    drop_from_cache(poorer, DropRequest(("b",), (), None))
    found = figures(poorer, "gold")
    whole = figures(cache, "gold")
    assert found["gone"] == ["b"]
    assert found["agreement"] == []
    assert list(found["weights"]["by_confidence"]["teachers"]) == ["a"]
    for name in ("mean", "by_kind", "by_position"):
        assert found["weights"][name] == whole["weights"][name]
    assert found["uncertain"] == whole["uncertain"]
    assert {one["of"] for one in found["calibration"]["curves"]} == {"a", "gold"}

    request = ReportRequest(("gold", "calm-live"), None, 500)
    page = Page(build_report(poorer, request))
    assert page.texts("h2") == ["Overview", "Target gold of set text"]
    notes = " ".join(page.texts("p"))
    assert "Target calm-live of set text is not drawn: only its rule is recorded, and b" in notes
    assert "Not in the cache any more, so not compared: b." in notes


def invoked(*arguments: object) -> Any:
    done = CliRunner().invoke(cli, [str(one) for one in arguments])
    assert done.exit_code == 0, done.stderr
    return done


def test_the_commands_by_themselves(cache: Path, tmp_path: Path) -> None:
    output = tmp_path / "report.html"
    done = builds.run("report", cache, "-o", output, "--target", "calm", "--slots", 300)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    Page(output.read_text(encoding="utf-8"))
    shown = invoked("inspect", cache, "--target", "calm-live", "--slots", 300)
    assert "the rule is only recorded" in shown.stdout
    assert "those that the target learned there" in " ".join(shown.stdout.split())
    summary = invoked("inspect", cache).stdout
    assert "calm-live is a rule that is only recorded" in summary
    assert "{each kept id of the target," in " ".join(summary.split())
