"""Folders that leave a cache: at once for readers, and never half after a crash."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import ckd_cache
from ckd_cache.errors import DamagedCacheError, IncompleteCacheError
from ckd_cache.format.files import FileRow
from ckd_cache.format.journal import journal_keys
from ckd_cache.format.reader import open_cache
from ckd_cache.format.removal import REMOVAL_PATH
from ckd_cache.format.workspace import CacheWriter, ShardFiles

TEACHER, TARGET = "text/teachers/b", "text/targets/mix"


def files_of(path):
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file()}


def folders_of(path):
    return {str(f.relative_to(path)) for f in path.rglob("*") if f.is_dir()}


def without(manifest):
    text = manifest.sets["text"]
    update = {"teachers": {"a": text.teachers["a"]}, "targets": {}}
    return manifest.model_copy(update={"sets": {"text": text.model_copy(update=update)}})


def drop(path, checkpoint=lambda _: None):
    with CacheWriter.begin(path, checkpoint) as writer:
        if "b" in writer.manifest.sets["text"].teachers:
            writer.drop(without(writer.manifest), [TEACHER, TARGET])


def commit(path, extra):
    with CacheWriter.begin(path) as writer:
        assert writer.manifest is not None
        writer.commit(writer.manifest, extra=extra)


def begin_a_part(path):
    """Leave a part of the teacher unfinished."""
    with CacheWriter.begin(path) as writer:
        journal = writer.journal(f"{TEACHER}/v2-0000", {"a": 1}, {})
        writer.publish(journal, ShardFiles(0, {f"{TEACHER}/v2-0000/x": b"some bytes"}, {}))


def test_only_the_folders_and_their_rows_are_gone(copy):
    before, rows = files_of(copy), open_cache(copy).files.rows
    begin_a_part(copy)
    drop(copy)
    cache = open_cache(copy)
    gone = (f"{TEACHER}/", f"{TARGET}/")
    assert cache.files.rows == tuple(row for row in rows if not row.path.startswith(gone))
    after = files_of(copy)
    named = {row.path for row in cache.files.rows}
    tables = {cache.manifest.files.path, cache.manifest.files.previous}
    assert set(after) == named | tables | {"ckd.json"}
    assert all(after[path] == before[path] for path in named)
    assert not {"text/targets", TEACHER, "journal", "staging"} & folders_of(copy)
    assert cache.manifest.generation == 5


def test_a_crash_at_any_step_leaves_all_or_nothing(copy, tmp_path):
    """What a crash leaves behind each step is copied there, and repaired by whoever writes next."""
    begin_a_part(copy)
    before = files_of(copy)
    steps: list[str] = []

    def keep(step):
        shutil.copytree(copy, tmp_path / f"crash-{len(steps)}")
        steps.append(step)

    drop(copy, keep)
    assert {step.split()[0] for step in steps} >= {"staged", "renamed", "deleted", "forgot"}
    wanted, seen = files_of(copy), set()
    for number, step in enumerate(steps):
        crash = tmp_path / f"crash-{number}"
        cache = open_cache(crash)
        cache.set("text").teachers["a"].read(0, 20)
        there = "b" in cache.set("text").teachers
        if there:
            cache.set("text").teachers["b"].read(0, 20)
        with CacheWriter.begin(crash):
            pass
        assert (files_of(crash) == before) == there, step
        assert (files_of(crash) == wanted) != there, step
        drop(crash)
        assert files_of(crash) == wanted, step
        assert folders_of(crash) == folders_of(copy), step
        seen.add(there)
    assert seen == {True, False}


def test_what_is_unfinished_is_kept_until_the_drop_is_committed(copy, tmp_path):
    """Of such a folder the files table says nothing, only the generation does."""
    folder, steps = "text/teachers/c", iter(range(1000))
    with CacheWriter.begin(copy) as writer:
        journal = writer.journal(f"{folder}/v0-0000", {"a": 1}, {})
        writer.publish(journal, ShardFiles(0, {f"{folder}/v0-0000/x": b"some bytes"}, {}))
    before = files_of(copy)

    def keep(step):
        shutil.copytree(copy, tmp_path / f"crash-{next(steps)}")

    with CacheWriter.begin(copy, keep) as writer:
        assert writer.manifest is not None
        writer.drop(writer.manifest, [folder])
    found = set()
    for crash in sorted(tmp_path.glob("crash-*")):
        committed = open_cache(crash).manifest.generation == 5
        with CacheWriter.begin(crash):
            pass
        assert files_of(crash) == (files_of(copy) if committed else before), crash
        found.add(committed)
    assert found == {True, False}


def test_killed_processes_leave_what_the_next_writer_finishes(copy, tmp_path):
    code = f"""
        import importlib.util, os, signal, sys
        from pathlib import Path
        spec = importlib.util.spec_from_file_location("removal", {str(Path(__file__))!r})
        removal = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(removal)
        def kill(step):
            if step.startswith(sys.argv[2]):
                os.kill(os.getpid(), signal.SIGKILL)
        removal.drop(Path(sys.argv[1]), kill)
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(ckd_cache.__file__).parents[1])}
    begin_a_part(copy)
    shutil.copytree(copy, tmp_path / "plain")
    drop(tmp_path / "plain")
    for number, step in enumerate(("renamed journal", "renamed ckd.json", f"deleted {TEACHER}")):
        killed = tmp_path / f"killed-{number}"
        shutil.copytree(copy, killed)
        command = [sys.executable, "-c", textwrap.dedent(code), str(killed), step]
        done = subprocess.run(command, env=environment, capture_output=True, timeout=120)
        assert done.returncode == -9, done.stderr.decode()
        assert (killed / REMOVAL_PATH).exists()
        with CacheWriter.begin(killed):
            assert not (killed / REMOVAL_PATH).exists()
            assert (killed / TEACHER).exists() == (number == 0)
            assert bool(journal_keys(killed)) == (number == 0)
        drop(killed)
        assert files_of(killed) == files_of(tmp_path / "plain")


def test_readers_of_what_stays_are_not_disturbed(copy):
    early, late = open_cache(copy).set("text"), open_cache(copy).set("text")
    wanted = early.teachers["a"].read(0, 20)
    early.teachers["b"].read(0, 4)
    drop(copy)
    for turn in range(3):
        commit(copy, extra=[FileRow(f"{turn}", "p", -1, 0, "0" * 64)])
        # One has read its files table before, the other finds it pruned and takes a newer one.
        for text in (early, late):
            found = text.teachers["a"].read(0, 20)
            for name in wanted.keys():  # noqa: SIM118
                np.testing.assert_array_equal(found[name], wanted[name])
            text.examples.read(0, 20)
            text.examples.documents(range(7))


@pytest.mark.parametrize("commits", [0, 2])
def test_readers_of_what_was_dropped_are_told_that_there_is_a_newer_generation(copy, commits):
    early, late = open_cache(copy).set("text"), open_cache(copy).set("text")
    early.teachers["b"].read(0, 20)
    drop(copy)
    for turn in range(commits):
        commit(copy, extra=[FileRow(f"{turn}", "p", -1, 0, "0" * 64)])
    for text in (early, late):
        for read in (text.teachers["b"].read, text.targets["mix"].read):
            with pytest.raises(IncompleteCacheError) as caught:
                read(0, 20)
            message = str(caught.value)
            assert f"opened in generation 4 and has a newer one, {5 + commits}," in message
            assert "Open the cache again" in message
            assert "damaged" not in message.partition("is gone")[0]


def test_another_file_in_the_place_of_a_dropped_one_is_not_read(copy, small, tmp_path):
    """The teacher was captured anew: same places, other numbers."""
    text = open_cache(copy).set("text")
    text.teachers["a"].read(0, 20)
    path = "text/teachers/b/v0-0000/tail/c/0/0/0"
    data = (copy / path).read_bytes() + b"more"
    drop(copy)
    with CacheWriter.begin(copy) as writer:
        journal = writer.journal("text/teachers/b/v0-0000", {}, {})
        writer.publish(journal, ShardFiles(0, {path: data}, {}))
        assert writer.manifest is not None
        writer.commit(writer.manifest, [journal])
    with pytest.raises(IncompleteCacheError, match=r"newer one, 6,.* computed again since"):
        text.teachers["b"].read(0, 4)


def test_a_missing_file_that_a_newer_generation_still_has_is_damage(copy):
    text = open_cache(copy).set("text")
    drop(copy)
    (copy / "text/teachers/a/v0-0000/tail/c/0/0/0").unlink()
    with pytest.raises(DamagedCacheError, match="tail/c/0/0/0 is damaged: the file is missing"):
        text.teachers["a"].read(0, 4)


@pytest.mark.parametrize("link", [TEACHER, "text/teachers"])
def test_links_are_not_followed(copy, tmp_path, link):
    aside = tmp_path / "aside"
    (copy / link).rename(aside)
    (copy / link).symlink_to(aside)
    before = files_of(aside)
    with pytest.raises(DamagedCacheError, match="is a link, or lies behind one"):
        drop(copy)
    assert files_of(aside) == before
    assert "b" in open_cache(copy).manifest.sets["text"].teachers
    assert not (copy / REMOVAL_PATH).exists()


def test_links_inside_of_a_folder_go_and_their_ends_stay(copy, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/precious").write_text("x")
    (copy / TEACHER / "link").symlink_to(tmp_path / "mine")
    (copy / TEACHER / "dangling").symlink_to(tmp_path / "nowhere")
    drop(copy)
    assert (tmp_path / "mine/precious").read_text() == "x"
    assert not (copy / TEACHER).exists()


@pytest.mark.parametrize("folder", ["../mine", "/mine", "text/../../mine"])
def test_a_made_up_list_deletes_nothing_outside(copy, folder, tmp_path):
    from ckd_cache.format.removal import Removal, encode_removal

    mine = copy.parent / "mine"
    mine.mkdir()
    (mine / "precious").write_text("x")
    (copy / "journal").mkdir()
    (copy / REMOVAL_PATH).write_bytes(encode_removal(Removal(1, (folder,))))
    with pytest.raises(DamagedCacheError, match="the list of folders"), CacheWriter.begin(copy):
        pass
    assert (mine / "precious").exists()


def test_a_list_never_deletes_what_the_files_table_names(copy):
    from ckd_cache.format.removal import Removal, encode_removal

    before = files_of(copy)
    (copy / "journal").mkdir()
    (copy / REMOVAL_PATH).write_bytes(encode_removal(Removal(1, ("text", TEACHER))))
    with CacheWriter.begin(copy):
        pass
    assert files_of(copy) == before


def test_a_damaged_list_is_said(copy):
    (copy / "journal").mkdir()
    for data in (b"", b"{}", b"[1]", json.dumps({"generation": 1, "folders": 3}).encode()):
        (copy / REMOVAL_PATH).write_bytes(data)
        with pytest.raises(DamagedCacheError, match="Delete this file"), CacheWriter.begin(copy):
            pass
