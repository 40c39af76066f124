"""The summary: every figure against the arrays themselves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ckd_cache
from ckd_cache.errors import CacheNotFoundError, DamagedCacheError
from ckd_cache.format.manifest import FilledPart
from ckd_cache.format.spec import FORMAT_VERSION
from ckd_cache.inspection.summary import _gold, _sums, summarise


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def summary(tiny: Any) -> Any:
    return summarise(tiny.path)


def test_it_is_strict_json(summary: Any) -> None:
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_the_cache_as_a_whole(tiny: Any, summary: Any) -> None:
    used = sum(part.used for part in tiny.parts.values())
    assert summary["path"] == str(tiny.path)
    assert summary["format_version"] == FORMAT_VERSION
    assert summary["generation"] == 1
    assert summary["complete"] is True
    assert summary["examples"] == 14
    assert summary["slots"] == used
    assert summary["bytes"] == folder_bytes(tiny.path)
    assert summary["splits"] == {"train": 8, "fit": 2, "test": 4}
    assert summary["genres"] == {"fiction": 3}
    figures = [summary[name] for name in ("segments", "documents", "duplicates", "skipped")]
    assert figures == [7, 3, 2, 1]
    assert summary["tokens"] == sum(map(len, tiny.segments.input_ids))
    assert [part["name"] for part in summary["parts"]] == ["v0-0000", "v1-0000"]
    assert summary["sets"]["text"]["teachers"] == summary["teachers"]


@pytest.mark.parametrize("name", ["a", "b"])
def test_figures_of_a_teacher_are_those_of_its_arrays(tiny: Any, summary: Any, name: str) -> None:
    arrays = ckd_cache.open(tiny.path).teachers[name].read(0, 14)
    used = arrays.n_valid > 0
    figures = summary["teachers"][name]
    size = folder_bytes(tiny.path / "text" / "teachers" / name)
    assert figures["k"] == 4
    assert figures["support"] == 33
    assert figures["model"] == "models/some"
    assert figures["dtype"] == "float32"
    assert figures["temperatures"] == [1.0, 2.0]
    assert figures["step"] == pytest.approx(np.sqrt(24e-4))
    assert figures["bytes_per_slot"] == pytest.approx(size / used.sum())
    assert figures["mean_entropy"] == pytest.approx(np.nanmean(arrays.entropy[..., 0]), rel=1e-5)
    assert figures["mean_gold_logprob"] == pytest.approx(np.nanmean(arrays.gold_logprob), rel=1e-5)
    assert figures["gold_zero"] == 0
    assert figures["top1_accuracy"] == pytest.approx((arrays.gold_rank[used] == 0).mean())
    tails = np.nanmean(np.exp(arrays.tail[..., 0]))
    assert figures["mean_tail_mass"] == pytest.approx(tails, rel=1e-5)


def test_figures_of_a_target_are_those_of_its_arrays(tiny: Any, summary: Any) -> None:
    arrays = ckd_cache.open(tiny.path).targets["gold"].read(0, 14)
    figures = summary["targets"]["gold"]
    size = folder_bytes(tiny.path / "text" / "targets" / "gold")
    slots = summary["slots"]
    assert (figures["weighting"], figures["tau"], figures["temperature"]) == ("gold", 0.5, 1.0)
    assert figures["k"] == 4
    assert figures["bytes_per_slot"] == pytest.approx(size / slots)
    assert figures["mean_gold_logprob"] == pytest.approx(np.nanmean(arrays.gold_logprob), rel=1e-5)
    means = np.nanmean(arrays.weights, axis=(0, 1))
    assert figures["mean_weights"] == pytest.approx(dict(zip("ab", means, strict=True)), rel=1e-5)
    assert figures["mean_uncertain"] == pytest.approx(np.nanmean(arrays.uncertain), rel=1e-5)
    assert figures["max_uncertain"] == pytest.approx(np.nanmax(arrays.uncertain), rel=1e-6)


def test_an_unfinished_cache_is_summarised_as_far_as_it_is(unfinished: Any) -> None:
    summary = summarise(unfinished.path)
    json.dumps(summary, allow_nan=False)
    assert summary["complete"] is False
    assert summary["targets"] == {}
    assert summary["teachers"]["b"]["parts"] == ["v0-0000"]
    assert summary["teachers"]["b"]["slots"] == unfinished.parts["v0-0000"].used


def test_no_array_is_opened(tiny: Any, summary: Any, tmp_path: Path) -> None:
    """The same answer with nonsense in every array and Arrow file."""
    copy = tmp_path / "copy.ckd"
    shutil.copytree(tiny.path, copy)
    for path in (copy / "text").rglob("*"):
        if path.is_file():
            path.write_bytes(bytes(path.stat().st_size))
    assert {**summarise(copy), "path": summary["path"]} == summary


def test_missing_and_cut_files_are_said(tiny: Any, tmp_path: Path) -> None:
    copy = tmp_path / "copy.ckd"
    shutil.copytree(tiny.path, copy)
    shutil.rmtree(copy / "text/slots")
    victim = next((copy / "text/teachers").rglob("zarr.json"))
    victim.write_bytes(victim.read_bytes()[:-1])
    with pytest.raises(DamagedCacheError, match=r"files are not as they were written:\n") as error:
        summarise(copy)
    assert "the file is missing" in str(error.value)
    assert "and " in str(error.value).splitlines()[4]


def test_no_cache_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(CacheNotFoundError):
        summarise(tmp_path / "nothing")


def test_sums_add_and_maxima_do_not() -> None:
    def part(value: float) -> FilledPart:
        stats = {
            "slots": 2,
            "uncertain_max": value,
            "weights_sum": {"uncertain_max": value, "b_max": 1.0},
        }
        return FilledPart(fingerprint="ab" * 32, stats=stats, profile={})

    assert _sums([part(0.5), part(0.25)]) == {
        "slots": 4,
        "uncertain_max": 0.5,
        "weights_sum.uncertain_max": 0.75,
        "weights_sum.b_max": 2.0,
    }


def test_slots_whose_gold_is_impossible_are_counted_and_left_out_of_the_mean() -> None:
    assert _gold({"gold_logprob_sum": -12.0, "gold_zero": 4}, 10) == {
        "mean_gold_logprob": -2.0,
        "gold_zero": 4,
    }
    assert _gold({"gold_logprob_sum": 0.0, "gold_zero": 10}, 10)["mean_gold_logprob"] is None
