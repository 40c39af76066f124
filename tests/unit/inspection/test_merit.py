"""The likelihood of gold is shown of label-free targets only, and the others say why."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.unit.inspection.pages import Page

from ckd_cache.cli.main import cli
from ckd_cache.errors import IncompleteCacheError, MergeError
from ckd_cache.format.manifest import Manifest, SetRecord, TargetRecord
from ckd_cache.format.reader import open_cache
from ckd_cache.format.workspace import CacheWriter
from ckd_cache.inspection.figures.merit import why_no_merit
from ckd_cache.inspection.report.building import ReportRequest, build_report
from ckd_cache.inspection.summary import summarise
from ckd_cache.inspection.target_figures import target_figures
from ckd_cache.merge.weightings import WEIGHTINGS

HEARD = {"coverage": {"present": {"b": 9}, "carried": {"b": 4.5}}}
LEARNED = {"on": {"teacher_parts": {"a": {"v0-0000": "0" * 64}}}}


def own(tiny: Any, place: Path, **targets: TargetRecord) -> Path:
    """A copy of the cache ``tiny`` with further targets."""
    path = place / "own.ckd"
    shutil.copytree(tiny.path, path)
    with CacheWriter.begin(path) as writer:
        manifest = writer.manifest
        assert manifest is not None
        record = manifest.sets["text"]
        updated = {"targets": {**record.targets, **targets}}
        sets = {"text": record.model_copy(update=updated)}
        writer.commit(manifest.model_copy(update={"sets": sets}), [])
    return path


def gold_of(tiny: Any) -> TargetRecord:
    return open_cache(tiny.path).manifest.sets["text"].targets["gold"]


def even_of(tiny: Any, stats: dict[str, Any]) -> TargetRecord:
    """The record of the target ``gold``, as if its rule were label-free."""
    record = gold_of(tiny)
    parts = {
        name: part.model_copy(update={"stats": {**part.stats, **stats}})
        for name, part in record.parts.items()
    }
    return record.model_copy(update={"weighting": "uniform", "parts": parts})


def recorded(tiny: Any, **changes: Any) -> TargetRecord:
    changes = {"weighting": "uniform", "stored": False, "parts": {}, **changes}
    return gold_of(tiny).model_copy(update=changes)


def shown(path: Path, *options: str) -> str:
    done = CliRunner().invoke(cli, ["inspect", str(path), *options])
    assert done.exit_code == 0, done.stderr
    return done.stdout


def row_of(text: str, target: str) -> list[str]:
    lines = text[text.index("  Targets") :].splitlines()
    return next(line for line in lines if line.startswith(f"  {target}  ")).split()


@pytest.mark.parametrize("weighting", [*WEIGHTINGS, "oracle"])
def test_rules_that_look_at_gold_have_no_merit_by_it(tiny: Any, weighting: str) -> None:
    manifest = open_cache(tiny.path).manifest
    reason = why_no_merit(manifest, "text", recorded(tiny, weighting=weighting))
    if weighting == "oracle":
        assert reason == "the rule oracle is not known here and may look at gold"
    else:
        expected = "the rule looks at gold" if WEIGHTINGS[weighting].uses_gold else None
        assert reason == expected


def with_twin(manifest: Manifest, *moved: str) -> Manifest:
    """The same, but that some teachers lie in a twin set."""
    text = manifest.sets["text"]

    def holding(names: list[str], twin_of: str | None) -> SetRecord:
        teachers = {name: text.teachers[name] for name in names}
        return text.model_copy(update={"teachers": teachers, "twin_of": twin_of})

    kept = [name for name in text.teachers if name not in moved]
    sets = {"text": holding(kept, None), "other": holding(list(moved), "text")}
    return manifest.model_copy(update={"sets": sets})


def test_who_is_heard_depends_on_gold_where_tokenizers_differ(tiny: Any) -> None:
    manifest, rule = open_cache(tiny.path).manifest, recorded(tiny)
    one = why_no_merit(with_twin(manifest, "b"), "text", rule)
    assert one is not None
    assert one.startswith("a teacher with another tokenizer (b) is heard only where gold")
    both = why_no_merit(with_twin(manifest, "a", "b"), "text", rule)
    assert both is not None
    assert both.startswith("teachers with another tokenizer (a, b) are heard only where gold")
    alone = recorded(tiny, teachers=["a"])
    assert why_no_merit(with_twin(manifest, "b"), "text", alone) is None
    # Its teacher in the twin set was dropped; what it said of it is still there.
    gone = why_no_merit(manifest, "text", even_of(tiny, HEARD))
    assert gone is not None
    assert "(b) is heard" in gone


def test_the_table_shows_the_likelihood_of_label_free_targets_only(
    tiny: Any, tmp_path: Path
) -> None:
    targets = {"even": even_of(tiny, {}), "mixed": even_of(tiny, HEARD)}
    path = own(tiny, tmp_path, **targets)
    text, told = shown(path), summarise(path)["targets"]
    place = -2  # before the tail mass
    for name in ("gold", "other", "mixed"):
        assert row_of(text, name)[place] == "-"
        assert told[name]["mean_gold_logprob"] is not None
    assert row_of(text, "even")[place] == f"{told['even']['mean_gold_logprob']:.3f}"
    assert told["even"]["no_merit"] is None
    line = " ".join(text.split())
    assert (
        "gold logp is not shown of gold, other: the rule looks at gold; it would be no merit."
        in line
    )
    assert "gold logp is not shown of mixed: a teacher with another tokenizer (b) is" in line


@pytest.mark.full
def test_figures_and_report_leave_it_out_too(tiny: Any, tmp_path: Path) -> None:
    # Arrays lie where the name of their target says, so the two that there are become others.
    path = own(tiny, tmp_path, gold=even_of(tiny, {}), other=even_of(tiny, HEARD))
    for name, hidden in (("gold", False), ("other", True)):
        figures = target_figures(path, "text", name)
        mixed = [one for one in figures["calibration"]["curves"] if one["stage"] == "mixed"]
        assert [one["nll"] is None for one in mixed if one["slots"]] == [hidden] * 3
        said = " ".join(shown(path, "--target", name).split())
        drawn = " ".join(Page(build_report(path, ReportRequest((name,)))).texts("p"))
        for text in (said, drawn):
            assert ("likelihood is not shown:" in text) == hidden
            assert ("a teacher with another tokenizer (b) is heard" in text) == hidden


def test_a_recorded_rule_is_drawn_of_the_teachers_that_it_learned_from(
    tiny: Any, tmp_path: Path
) -> None:
    other = recorded(tiny, weighting="fitted", fit=LEARNED)
    lost = recorded(tiny, teachers=["a", "gone"])
    path = own(tiny, tmp_path, other=other, lost=lost)
    with pytest.raises(MergeError, match="learned from another teacher a than"):
        target_figures(path, "text", "other")
    with pytest.raises(IncompleteCacheError, match=r"teacher gone is not in the cache\. Build"):
        target_figures(path, "text", "lost")
    notes = " ".join(Page(build_report(path, ReportRequest(("other", "gold")))).texts("p"))
    assert "Target other of set text is not drawn: " in notes
    assert "learned from another teacher a than" in notes
