"""Figures of a target whose teachers have two tokenizers."""

from __future__ import annotations

import numpy as np
import pytest
from tests.integration import builds, twin_workshop

from ckd_cache.build.merging import merge_cache
from ckd_cache.build.target_request import TargetRequest
from ckd_cache.format.reader import open_cache
from ckd_cache.inspection.summary import summarise
from ckd_cache.inspection.target_figures import target_figures
from ckd_cache.merge.reading import read_voices
from ckd_cache.merge.rule import TargetRule
from ckd_cache.merge.source import merge_source

TEXTS = 12


@pytest.mark.full
def test_a_teacher_counts_where_it_speaks(tmp_path, tiny_texts):
    (tmp_path / "bpe").mkdir()
    teachers = {
        "bert": twin_workshop.save_bert(tmp_path / "bert", 1),
        "roberta": twin_workshop.save_roberta(tmp_path / "bpe" / "roberta", 2, tiny_texts),
    }
    builds.write_corpus(tmp_path / "corpus.txt", tiny_texts[:TEXTS])
    targets = [{"name": "even", "weighting": "uniform"}]
    cache = tmp_path / "c.ckd"
    builds.build(twin_workshop.recipe(tmp_path, "bert", teachers, targets=targets), cache)
    merge_cache(cache, "text", TargetRequest("live", "uniform", stored=False))
    found = target_figures(cache, "text", "even")

    reader = open_cache(cache)
    source = merge_source(reader, "text", ("bert", "roberta"))
    rule = TargetRule("uniform", 1.0, 1.0, 1, source.names)
    _, voices = read_voices(source, rule, 0, source.reader.n_examples)
    present = voices[1].present
    assert 0 < present.sum() < present.size
    assert found["sample"]["slots"] == present.size
    by_confidence = found["weights"]["by_confidence"]["teachers"]
    assert sum(by_confidence["bert"]["slots"]) == present.size
    assert sum(by_confidence["roberta"]["slots"]) == present.sum()
    weighed = [
        (count, mean)
        for count, mean in zip(*by_confidence["roberta"].values(), strict=True)
        if count
    ]
    assert all(mean == pytest.approx(0.5, abs=1e-4) for _, mean in weighed)
    assert found["weights"]["mean"]["roberta"] == pytest.approx(present.mean() / 2, abs=1e-4)
    (pair,) = found["agreement"]
    assert pair["slots"] == present.sum()
    assert 0 < pair["total_variation"] <= 1 + 1e-9
    same = voices[0].ids[:, 0] == voices[1].ids[:, 0]
    assert pair["same_top1"] == pytest.approx(np.mean(same[present]))
    own = found["coverage"]["roberta"]
    assert own["slots"] == pytest.approx(present.mean())
    assert 0 < own["mass"] <= 1
    summary = summarise(cache)["targets"]
    assert summary["even"]["coverage"] == found["coverage"]
    for target in (found, summary["even"], summary["live"]):
        assert "another tokenizer (roberta)" in target["no_merit"]
    mixed = [one for one in found["calibration"]["curves"] if one["stage"] == "mixed"]
    assert {one["nll"] for one in mixed} == {None}
    live = target_figures(cache, "text", "live")["coverage"]["roberta"]
    assert live == pytest.approx(own)
