"""What a power cut may take away: files are synced before their names, names before the record."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ckd_cache.format.workspace import CacheWriter


@pytest.fixture
def events(monkeypatch):
    """Syncs and renames in the order in which they happen."""
    seen: list[tuple[str, ...]] = []
    replace = Path.replace

    def fsync(descriptor):
        seen.append(("sync", str(Path(f"/proc/self/fd/{descriptor}").readlink())))

    def spied(self, target):
        seen.append(("rename", str(self), str(target)))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", spied)
    return seen


def test_everything_is_synced_before_it_counts(small, tmp_path, events):
    path = tmp_path / "x.ckd"
    made = set()

    def observe(step):
        events.append(("step", step))

    with pytest.MonkeyPatch.context() as patch:
        mkdir = Path.mkdir

        def spied(self, *args, **kwargs):
            made.add(str(self))
            events.append(("made", str(self)))
            return mkdir(self, *args, **kwargs)

        patch.setattr(Path, "mkdir", spied)
        small.build(path, observe, lean=True)

    written, unnamed = set(), set()
    records = renames = 0
    for kind, *what in events:
        if kind == "sync":
            written.add(what[0])
            unnamed.discard(what[0])
        elif kind == "made" and "staging" not in what[0]:
            unnamed.add(str(Path(what[0]).parent))
        elif kind == "rename":
            source, target = what
            renames += 1
            assert source in written, f"{target} got its name before its bytes were synced"
            if target.endswith("ckd.json"):
                assert not unnamed, "the manifest may not precede what it names"
            written.discard(source)
            unnamed.add(str(Path(target).parent))
        elif kind == "step" and what[0].split()[0] in {"recorded", "placed", "journal"}:
            records += 1
            assert not unnamed, f"{what[0]} before {unnamed} were synced"
    assert renames > 50
    assert records > 20


def test_a_journal_line_is_synced_when_publish_returns(tmp_path, events):
    with CacheWriter.begin(tmp_path / "x") as writer:
        journal = writer.journal("a/b", {}, {})
        writer.publish(journal, small_files())
        assert events[-1] == ("sync", str(journal.path))


def small_files():
    from ckd_cache.format.workspace import ShardFiles

    return ShardFiles(0, {"a/b/c": b"1"}, {})
