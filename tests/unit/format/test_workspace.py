from __future__ import annotations

import errno
import resource
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ckd_cache.errors import (
    CacheLockedError,
    DamagedCacheError,
    FormatVersionError,
    MismatchError,
    StorageError,
)
from ckd_cache.fingerprint import hash_file
from ckd_cache.format.durable import storage_errors
from ckd_cache.format.files import FileRow
from ckd_cache.format.journal import Journal, ShardLine, journal_path
from ckd_cache.format.manifest import Manifest
from ckd_cache.format.reader import open_cache
from ckd_cache.format.workspace import CacheWriter, ShardFiles

SCRIPT = Path(__file__).with_name("small_cache.py")
KEY = "text/slots/v9-0000"
EMPTY = Manifest(complete=True, recipe={}, supports={}, sets={}, provenance={})


def contents(path):
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file()}


def folders(path):
    return {str(f.relative_to(path)) for f in path.rglob("*") if f.is_dir()}


def test_the_same_inputs_give_the_same_bytes(built, small, tmp_path):
    small.build(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(built)


def test_a_finished_cache_holds_only_what_it_names(built):
    reader = open_cache(built)
    tables = {reader.manifest.files.path, reader.manifest.files.previous}
    named = {row.path for row in reader.files.rows} | {"ckd.json"} | tables
    assert set(contents(built)) == named
    for row in reader.files.rows:
        assert (row.bytes, row.sha256) == (
            (built / row.path).stat().st_size,
            hash_file(built / row.path),
        )
    assert {name.split("/")[0] for name in folders(built)} == {"supports", "text"}
    assert reader.manifest.generation == 4
    assert reader.manifest.complete


def test_building_a_finished_cache_changes_nothing(copy, small):
    before = contents(copy)
    small.build(copy)
    assert contents(copy) == before


def steps_of(small, path):
    names: list[str] = []
    small.build(path, names.append, lean=True)
    return names


def kill(path, step):
    command = [sys.executable, str(SCRIPT), str(path), str(step)]
    done = subprocess.run(command, env=environment(), capture_output=True, timeout=120)
    assert done.returncode == -9, done.stderr.decode()


def environment():
    import os

    import ckd_cache

    return {**os.environ, "PYTHONPATH": str(Path(ckd_cache.__file__).parents[1])}


def test_a_build_that_stops_at_any_step_ends_in_the_same_bytes(lean, small, tmp_path):
    """Stops by an exception; the step after, another build goes on, also stopped, and so on."""
    names = steps_of(small, tmp_path / "whole")
    kinds = {name.split()[0] for name in names}
    assert kinds == {"journal", "staged", "renamed", "placed", "recorded", "pruned", "removed"}
    wanted = contents(lean)
    for step in interesting(names):
        path = tmp_path / f"stop-{step}"
        with pytest.raises(KeyboardInterrupt):
            small.build(path, stop_at(step), lean=True)
        small.build(path, lean=True)
        assert contents(path) == wanted, names[step]
        assert folders(path) == folders(lean), names[step]


def interesting(names):
    """The first and the last step of each kind around each commit, and some of the rest."""
    first = {name.split()[0]: index for index, name in reversed(list(enumerate(names)))}
    last = {name.split()[0]: index for index, name in enumerate(names)}
    commits = [
        i + d for i, name in enumerate(names) if "ckd.json" in name for d in (-2, -1, 0, 1, 2)
    ]
    return sorted({*first.values(), *last.values(), *commits, *range(0, len(names), 41)})


def stop_at(step):
    seen = 0

    def checkpoint(_):
        nonlocal seen
        seen += 1
        if seen == step + 1:
            raise KeyboardInterrupt

    return checkpoint


def test_killed_builds_end_in_the_same_bytes(lean, small, tmp_path):
    """One cache, killed again and again, each time somewhat further on."""
    names = steps_of(small, tmp_path / "whole")
    for step in (0, 1, 3, 5, names.index("staged ckd.json"), names.index("renamed ckd.json") + 3):
        kill(tmp_path / "killed", step)
    small.build(tmp_path / "killed", lean=True)
    assert contents(tmp_path / "killed") == contents(lean)
    assert folders(tmp_path / "killed") == folders(lean)


@pytest.mark.full
def test_a_build_killed_at_any_step_ends_in_the_same_bytes(lean, small, tmp_path):
    for step in range(len(steps_of(small, tmp_path / "whole"))):
        path = tmp_path / f"killed-{step}"
        kill(path, step)
        small.build(path, lean=True)
        assert contents(path) == contents(lean), step
        assert folders(path) == folders(lean), step


def test_an_earlier_generation_stays_whole_until_the_next_commit(copy):
    with CacheWriter.begin(copy) as writer:
        assert writer.manifest is not None
        before = writer.manifest.files.path
        extra = [FileRow("ckd.txt", "p", -1, 0, "0" * 64)]
        after = writer.commit(writer.manifest, extra=extra)
        assert after.files.previous == before
        assert (copy / before).exists()
        third = writer.commit(writer.manifest, extra=[FileRow("d", "p", -1, 0, "0" * 64)])
        assert {f.name for f in copy.glob("files-*")} == {third.files.path, after.files.path}


def test_a_commit_that_adds_no_files_keeps_the_table(copy):
    with CacheWriter.begin(copy) as writer:
        assert writer.manifest is not None
        before = writer.manifest.files
        after = writer.commit(writer.manifest)
        assert after.files == before
        assert after.generation == 5
    assert open_cache(copy).manifest == after


def test_two_writers_do_not_meet(tmp_path):
    path = tmp_path / "one.ckd"
    with CacheWriter.begin(path):
        with pytest.raises(CacheLockedError, match=str(path)), CacheWriter.begin(path):
            pass
        code = f"""
            from pathlib import Path
            from ckd_cache.errors import CacheLockedError
            from ckd_cache.format.workspace import CacheWriter
            try:
                with CacheWriter.begin(Path({str(path)!r})): pass
            except CacheLockedError: raise SystemExit(7)
        """
        command = [sys.executable, "-c", textwrap.dedent(code)]
        assert subprocess.run(command, env=environment(), timeout=60).returncode == 7
    with CacheWriter.begin(path):
        pass


def test_the_lock_is_free_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), CacheWriter.begin(tmp_path / "x"):
        _ = 1 / 0
    with CacheWriter.begin(tmp_path / "x"):
        pass


@pytest.mark.parametrize("name", ["notes.txt", "staging/mine.txt", "journal/mine.txt"])
def test_folders_of_others_are_left_alone(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("precious")
    with pytest.raises(StorageError, match="holds no cache"), CacheWriter.begin(tmp_path):
        pass
    assert (tmp_path / name).read_text() == "precious"


def test_damaged_manifests_are_not_written_over(copy):
    data = (copy / "ckd.json").read_bytes()
    (copy / "ckd.json").write_bytes(data[:-5])
    with pytest.raises(DamagedCacheError), CacheWriter.begin(copy):
        pass
    (copy / "ckd.json").write_bytes(data.replace(b'"format_version": 2', b'"format_version": 9'))
    with pytest.raises(FormatVersionError), CacheWriter.begin(copy):
        pass


def test_files_outside_their_part_are_refused(tmp_path):
    with CacheWriter.begin(tmp_path / "x") as writer:
        journal = writer.journal("text/slots/v0-0000", {}, {})
        for path in ("elsewhere/f", "text/slots/v0-0000/../../f", "/f"):
            with pytest.raises(StorageError, match="must lie in the folder"):
                writer.publish(journal, ShardFiles(0, {path: b""}, {}))
    assert not (tmp_path / "f").exists()


def test_manifests_that_contradict_themselves_are_not_committed(copy):
    with CacheWriter.begin(copy) as writer:
        assert writer.manifest is not None
        text = writer.manifest.sets["text"]
        wrong = writer.manifest.model_copy(
            update={"sets": {"text": text.model_copy(update={"parts": text.parts[1:]})}}
        )
        with pytest.raises(StorageError, match="nothing was committed"):
            writer.commit(wrong)
    assert open_cache(copy).manifest.generation == 4


# --- journals -----------------------------------------------------------------------------------


def begun(path):
    with CacheWriter.begin(path) as writer:
        journal = writer.journal("text/slots/v0-0000", {"a": 1, "b": {"c": 2}}, {"threads": 1})
        for shard in range(3):
            files = {f"text/slots/v0-0000/{shard}": bytes(10 + shard)}
            writer.publish(journal, ShardFiles(shard, files, {"slots": shard}))
    return journal


def reopened(path, identity=None, profile=None):
    key = "text/slots/v0-0000"
    return Journal.open(path, key, identity or {"a": 1, "b": {"c": 2}}, profile or {})


def test_a_journal_goes_on_where_it_stopped(tmp_path):
    journal = begun(tmp_path / "x")
    again = reopened(tmp_path / "x", profile={"threads": 9})
    assert again.lines == journal.lines
    assert again.profile == {"threads": 1}
    assert [line.stats for line in again.lines] == [{"slots": n} for n in range(3)]
    assert [row.bytes for row in again.rows] == [10, 11, 12]


def test_another_identity_is_a_mismatch_that_names_the_fields(tmp_path):
    begun(tmp_path / "x")
    with pytest.raises(MismatchError, match=r"text/slots/v0-0000 .*b\.c was 2, is 3"):
        reopened(tmp_path / "x", {"a": 1, "b": {"c": 3}})


def test_what_a_mismatch_says_to_delete_lets_the_part_begin_anew(tmp_path, built):
    """Before the first commit a folder without journals would be taken for a stranger's."""
    shutil.copytree(built, tmp_path / "committed")
    for cache in (tmp_path / "fresh", tmp_path / "committed"):
        with CacheWriter.begin(cache) as writer:
            journal = writer.journal(KEY, {"a": 1}, {})
            writer.publish(journal, ShardFiles(0, {f"{KEY}/00000.arrow": b"old"}, {}))
        with CacheWriter.begin(cache) as writer, pytest.raises(MismatchError) as found:
            writer.journal(KEY, {"a": 2}, {})
        advice = str(found.value).split("delete ")[1].removeprefix("the folder ")
        advised = Path(advice.split("; or")[0].split(",")[0])
        assert advised == (journal_path(cache, KEY) if cache.name == "committed" else cache)
        shutil.rmtree(cache) if advised == cache else advised.unlink()
        with CacheWriter.begin(cache) as writer:
            journal = writer.journal(KEY, {"a": 2}, {})
            assert journal.lines == []
            writer.publish(journal, ShardFiles(0, {f"{KEY}/00000.arrow": b"new"}, {}))
            manifest = writer.manifest or EMPTY
            writer.commit(manifest, [journal])
        assert open_cache(cache).files.get(f"{KEY}/00000.arrow").bytes == 3
        assert (cache / KEY / "00000.arrow").read_bytes() == b"new"


def test_a_torn_last_line_does_not_count(tmp_path):
    begun(tmp_path / "x")
    path = journal_path(tmp_path / "x", "text/slots/v0-0000")
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for cut in range(last, len(whole)):
        path.write_bytes(whole[:cut])
        assert [line.shard for line in reopened(tmp_path / "x").lines] == [0, 1], cut
        assert path.read_bytes() == whole[:last]
    for torn in (whole[:last] + b"\0" * 50 + b"\n", whole[:last] + b"\0" * 50):
        path.write_bytes(torn)
        journal = reopened(tmp_path / "x")
        assert len(journal.lines) == 2
        assert path.read_bytes() == whole[:last]
    journal.append(ShardLine(2, [], {}))
    assert [line.shard for line in reopened(tmp_path / "x").lines] == [0, 1, 2]


def test_a_damaged_earlier_line_is_named(tmp_path):
    begun(tmp_path / "x")
    path = journal_path(tmp_path / "x", "text/slots/v0-0000")
    lines = path.read_bytes().splitlines(keepends=True)
    for number in (0, 1, 2):
        damaged = [*lines]
        damaged[number] = lines[number].replace(b'"', b"'", 1)
        path.write_bytes(b"".join(damaged))
        with pytest.raises(DamagedCacheError, match=f"line {number + 1} of the journal"):
            reopened(tmp_path / "x")


def test_shards_whose_files_are_gone_are_due_again(tmp_path):
    begun(tmp_path / "x")
    (tmp_path / "x/text/slots/v0-0000/1").write_bytes(b"short")
    assert [line.shard for line in reopened(tmp_path / "x").lines] == [0]
    assert [line.shard for line in reopened(tmp_path / "x").lines] == [0]


# --- the disk refuses -----------------------------------------------------------------------------


def test_a_disk_that_refuses_is_a_storage_error_that_leaves_a_usable_cache(small, lean, tmp_path):
    """A limit on the size of files stands for a full disk: both fail in the middle of a write."""
    code = f"""
        import importlib.util, resource, sys
        from pathlib import Path
        spec = importlib.util.spec_from_file_location("small_cache", {str(SCRIPT)!r})
        small = importlib.util.module_from_spec(spec)
        sys.modules["small_cache"] = small
        spec.loader.exec_module(small)
        from ckd_cache.errors import StorageError
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, resource.RLIM_INFINITY))
        try:
            small.build(Path({str(tmp_path / "full")!r}), lean=True)
        except StorageError as error:
            sys.exit(str(error))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, env=environment(), capture_output=True, timeout=120)
    message = done.stderr.decode()
    assert done.returncode == 1
    assert message.startswith(str(tmp_path / "full"))
    assert "File too large" in message
    assert "ulimit -f" in message
    small.build(tmp_path / "full", lean=True)
    assert contents(tmp_path / "full") == contents(lean)


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "Free some space"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permissions"),
        (errno.EIO, "Check the disk"),
    ],
)
def test_storage_errors_say_what_to_do(code, advice):
    with pytest.raises(StorageError, match=f"/c: could not write it: .*{advice}"):  # noqa: SIM117
        with storage_errors(Path("/c"), "write"):
            raise OSError(code, "reason")


def test_a_path_below_a_file_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file/x"), CacheWriter.begin(tmp_path / "file/x"):
        pass


def test_limits_are_as_assumed():
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY


def test_a_journal_without_shards_binds_nobody(tmp_path):
    """Left by a process that was killed before its first shard was recorded."""
    key = "text/segments/0000"
    for torn in (b"", b'{"shard": 0, "fil'):
        Journal.open(tmp_path, key, {"sources": 1}, {"threads": 1})
        with journal_path(tmp_path, key).open("ab") as file:
            file.write(torn)
        journal = Journal.open(tmp_path, key, {"sources": 2}, {"threads": 2})
        assert (journal.lines, journal.profile) == ([], {"threads": 2})
        journal.append(ShardLine(0, [], {}))
        with pytest.raises(MismatchError, match="sources was 2, is 1"):
            Journal.open(tmp_path, key, {"sources": 1}, {})
        journal.remove()
