"""A cache that an earlier version built is built on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from tests.integration import builds

from ckd_cache.fingerprint import hash_bytes
from ckd_cache.format.reader import open_cache
from ckd_cache.format.verify import verify_cache


def as_version_1(cache: Path) -> None:
    """Write the manifest as format version 1 would have."""
    stored = json.loads((cache / "ckd.json").read_bytes())
    stored["format_version"] = 1
    del stored["digest"]
    for text in stored["sets"].values():
        del text["twin_of"], text["gathers"]
        for increment in text["increments"]:
            del increment["cut"]
        for target in text["targets"].values():
            for name in ("mixture", "calibrate", "settings", "fit", "stored"):
                del target[name]
            for part in target["parts"].values():
                del part["stats"]["uncertain_counts"]

    def text_of(members: object) -> bytes:
        text = json.dumps(
            members, separators=(",", ": "), sort_keys=True, indent=1, ensure_ascii=False
        )
        return f"{text}\n".encode()

    stored["digest"] = hash_bytes(text_of(stored))
    (cache / "ckd.json").write_bytes(text_of(stored))


@pytest.mark.full
def test_it_is_complete_as_it_is_and_grows(workshop, built, tmp_path):
    cache = tmp_path / "old.ckd"
    shutil.copytree(built, cache)
    as_version_1(cache)
    assert verify_cache(cache).findings == ()
    before = builds.stored_bytes(cache)
    assert builds.rebuild(workshop, cache).shards == 0
    content = yaml.safe_load((workshop / "recipe.yaml").read_text())
    content["targets"].append({"name": "more", "weighting": "max_prob"})
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
    shutil.copy(workshop / "corpus.txt", tmp_path)
    builds.build(tmp_path / "recipe.yaml", cache)
    after = builds.stored_bytes(cache)
    assert all(after[path] == data for path, data in before.items() if path.startswith("text/"))
    manifest = open_cache(cache).manifest
    assert (manifest.format_version, manifest.complete) == (2, True)
    assert "more" in manifest.sets["text"].targets
    assert verify_cache(cache).findings == ()
