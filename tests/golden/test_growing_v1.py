"""A cache of format version 1 can be added to; then it is one of version 2, and nothing moved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from tests.golden.test_golden import ROOT, expected_of, folder_of, manifest_of

from ckd_cache.build.dropping import DropRequest, drop_from_cache
from ckd_cache.build.merging import merge_cache
from ckd_cache.build.target_request import TargetRequest
from ckd_cache.format.reader import open_cache
from ckd_cache.format.verify import verify_cache


@pytest.fixture
def compact(tmp_path):
    cache = tmp_path / "compact.ckd"
    shutil.copytree(folder_of("compact"), cache)
    return cache


def check_grown(cache: Path) -> Any:
    """The manifest of version 2 that is there now, valid by its schema."""
    stored = json.loads((cache / "ckd.json").read_bytes())
    schema = json.loads((ROOT / "docs" / "manifest.schema.json").read_bytes())
    Draft202012Validator(schema).validate(stored)
    assert (stored["format_version"], stored["generation"]) == (
        2,
        manifest_of("compact")["generation"] + 1,
    )
    assert verify_cache(cache, workers=1).findings == ()
    return stored["sets"]["text"]


def test_reading_leaves_it_in_version_1(compact):
    manifest = open_cache(compact).manifest
    assert manifest.format_version == 1
    text = manifest.sets["text"]
    assert (text.twin_of, text.gathers) == (None, {})
    gold = text.targets["gold"]
    assert (gold.mixture, gold.calibrate, gold.fit) == ("arithmetic", "none", None)
    assert gold.settings == {}
    assert gold.stored


def test_a_merge_makes_it_version_2(compact):
    before = {path: path.read_bytes() for path in (compact / "text").rglob("*") if path.is_file()}
    merge_cache(compact, "text", TargetRequest("even", "uniform", top_k=4, teachers=("a", "b")))
    text = check_grown(compact)
    assert all(path.read_bytes() == data for path, data in before.items())
    old, new = (text["targets"][name]["parts"]["v0-0000"]["stats"] for name in ("gold", "even"))
    assert "uncertain_counts" not in old
    assert sum(new["uncertain_counts"].values()) == new["slots"]
    was = manifest_of("compact")["sets"]["text"]["targets"]["gold"]
    assert text["targets"]["gold"]["parts"] == was["parts"]
    reader = open_cache(compact).set("text")
    expected = expected_of("compact", "targets.gold")
    found = reader.targets["gold"].read(0, reader.n_examples)
    np.testing.assert_array_equal(found.ids, expected["ids"])


def test_the_target_it_has_is_the_one_that_is_asked_for(compact):
    """Fingerprints of version 1 stay: the same rule is nothing new."""
    outcome = merge_cache(compact, "text", TargetRequest("gold", "gold", top_k=5))
    assert outcome.shards == 0
    assert open_cache(compact).manifest.format_version == 1


def test_a_drop_makes_it_version_2(compact):
    drop_from_cache(compact, DropRequest(teachers=("b",)))
    text = check_grown(compact)
    assert set(text["teachers"]) == {"a"}
