"""Dropping teachers and targets: what is given back; what builds, merges and readers do then."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from tests.integration import builds
from tests.integration.builds import Notes, rebuild, stopped

import ckd_cache
from ckd_cache.build.dropping import DropRequest, drop_from_cache, plan_drop
from ckd_cache.build.merging import merge_cache
from ckd_cache.build.target_request import TargetRequest
from ckd_cache.cli.main import cli
from ckd_cache.errors import IncompleteCacheError, MergeError, MismatchError
from ckd_cache.format.inventory import inventory_of
from ckd_cache.format.journal import journal_keys
from ckd_cache.format.reader import open_cache
from ckd_cache.format.verify import verify_cache
from ckd_cache.format.workspace import CacheWriter
from ckd_cache.inspection.summary import summarise
from ckd_cache.inspection.text import view_example
from ckd_student.stream import open_stream

ONE, TWO = ({"name": name, "kind": "text", "paths": [f"{name}.txt"]} for name in ("one", "two"))


@pytest.fixture(scope="module")
def yard(tmp_path_factory, tiny_texts, tiny_teacher_folder):
    """A folder with two sources, two teachers, a recipe of one source, and the cache of it."""
    folder = tmp_path_factory.mktemp("yard")
    builds.write_corpus(folder / "one.txt", tiny_texts[:25])
    builds.write_corpus(folder / "two.txt", tiny_texts[25:40])
    teachers = {"a": tiny_teacher_folder(1), "b": tiny_teacher_folder(2)}
    builds.recipe(folder, teachers, corpus={"sources": [ONE], "segment_tokens": 32})
    rebuild(folder, folder / "whole.ckd")
    return folder


@pytest.fixture
def copy(yard, tmp_path) -> Path:
    """A copy of all of it."""
    return Path(shutil.copytree(yard, tmp_path / "yard"))


def change(folder: Path, **sections) -> Path:
    path = folder / "recipe.yaml"
    content = yaml.safe_load(path.read_text())
    corpus = {**content["corpus"], **sections.pop("corpus", {})}
    path.write_text(yaml.safe_dump({**content, **sections, "corpus": corpus}))
    return path


def recipe_of(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "recipe.yaml").read_text())


def only_a(folder: Path) -> list[dict[str, Any]]:
    return [one for one in recipe_of(folder)["teachers"] if one["name"] == "a"]


def command(*arguments: object):
    return CliRunner().invoke(cli, [str(each) for each in arguments])


def kept_files(cache: Path) -> dict[str, bytes]:
    files = builds.stored_bytes(cache)
    return {path: data for path, data in files.items() if path.startswith(("text/", "supports/"))}


def used(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_the_space_of_a_teacher_is_given_back_and_the_rest_keeps_its_bytes(copy):
    cache = copy / "whole.ckd"
    before, size = builds.stored_bytes(cache), used(cache / "text/teachers/b")
    done = command("drop", cache, "--teacher", "b", "--dry-run")
    assert (done.exit_code, "nothing was changed" in done.stdout) == (0, True), done.output
    assert builds.stored_bytes(cache) == before
    done = command("drop", cache, "--teacher", "b")
    assert done.exit_code == 0, done.output
    first, kept, last = done.stdout.splitlines()
    assert first == f"teacher b of set text: 2 parts, {size / 1024:.1f} KiB"
    assert kept == (
        "targets gold, warm of set text keep all that was made of teacher b; parts that are added "
        "later would need it."
    )
    assert last.startswith(f"{cache} gave back {size / 1024:.1f} KiB. A build whose recipe still")
    after = builds.stored_bytes(cache)
    files = {path for path in before if path.startswith(("text/", "supports/"))}
    gone = {path for path in files if path.startswith("text/teachers/b/")}
    assert all(after[path] == before[path] for path in files - gone)
    assert not gone & set(after)
    manifest = open_cache(cache).manifest
    assert manifest.complete
    assert [one["name"] for one in manifest.recipe["teachers"]] == ["a"]
    assert sorted(manifest.sets["text"].targets) == ["gold", "warm"]
    assert manifest.sets["text"].targets["gold"].teachers == ["a", "b"]
    assert command("drop", cache, "--teacher", "b").exit_code == 1


def test_without_the_teacher_in_the_recipe_nothing_is_due(copy):
    cache = copy / "whole.ckd"
    drop_from_cache(cache, DropRequest(teachers=("b",)))
    change(copy, teachers=only_a(copy))
    outcome = rebuild(copy, cache)
    assert (outcome.shards, outcome.complete, outcome.teachers) == (0, True, ("a",))


def test_targets_that_cannot_grow_are_said_and_do_not_stop_a_build(copy):
    cache = copy / "whole.ckd"
    merge_cache(cache, "text", TargetRequest("own", "gold", teachers=("a",)))
    merge_cache(cache, "text", TargetRequest("both", "uniform"))
    drop_from_cache(cache, DropRequest(teachers=("b",)))
    path = change(copy, teachers=only_a(copy), corpus={"sources": [ONE, TWO]})
    notes = Notes()
    outcome = builds.build(path, cache, progress=notes)
    assert not outcome.complete
    assert sorted(line.split()[1] for line in notes.lines) == ["both", "gold", "warm"]
    assert all("lacks the new parts v0-0001, v1-0001" in line for line in notes.lines)
    assert all("Add b to it; or drop the target" in line for line in notes.lines)
    record = open_cache(cache).set("text").record
    assert len(record.parts) == len(record.teachers["a"].parts) == 4
    assert len(record.targets["own"].parts) == 4
    assert len(record.targets["gold"].parts) == 2
    with pytest.raises(IncompleteCacheError, match="gold"):
        open_stream(cache, target="gold")
    # Both ways out that the note names.
    drop_from_cache(cache, DropRequest(targets=("gold", "warm", "both")))
    outcome = builds.build(path, cache, progress=notes)
    assert outcome.complete
    assert open_cache(cache).set("text").targets["gold"].teachers == ("a",)


def test_a_teacher_in_the_recipe_is_captured_anew_with_the_same_bytes(copy, yard):
    cache = copy / "whole.ckd"
    assert rebuild(copy, cache).shards == 0
    drop_from_cache(cache, DropRequest(teachers=("b",)))
    assert rebuild(copy, cache).shards > 0
    before, after = (kept_files(each / "whole.ckd") for each in (yard, copy))
    assert before == after
    one, two = (open_cache(each / "whole.ckd").manifest.files.path for each in (yard, copy))
    assert one == two
    change(copy, corpus={"sources": [ONE, TWO]})
    assert rebuild(copy, cache).complete
    text = open_cache(cache).set("text")
    assert len(text.targets["gold"].read(0, text.n_examples)) == text.n_examples


def test_another_teacher_may_not_take_the_name_that_targets_know(copy, tiny_teacher_folder):
    cache = copy / "whole.ckd"
    drop_from_cache(cache, DropRequest(teachers=("b",)))
    other = {"name": "b", "model": str(tiny_teacher_folder(9))}
    change(copy, teachers=[*only_a(copy), other])
    before = builds.stored_bytes(cache)
    with pytest.raises(MismatchError, match=r"target gold .* was made of another teacher b than"):
        rebuild(copy, cache)
    assert builds.stored_bytes(cache) == before
    drop_from_cache(cache, DropRequest(targets=("gold", "warm")))
    assert rebuild(copy, cache).complete


def test_targets_are_whole_without_any_teacher(copy):
    cache = copy / "whole.ckd"
    gold = ckd_cache.open(cache).targets["gold"].read(0, 40)
    drop_from_cache(cache, DropRequest(teachers=("a", "b")))
    assert not (cache / "text/teachers").exists()
    found = ckd_cache.open(cache).targets["gold"].read(0, 40)
    for name in gold.keys():  # noqa: SIM118
        np.testing.assert_array_equal(found[name], gold[name])
    assert summarise(cache)["teachers"] == {}
    view = view_example(cache, "text", None, "gold", 3)
    assert view.slots[0].target is not None
    assert next(iter(open_stream(cache, target="gold")))["target_ids"].shape[-1] == 8
    for named in (None, ("a",)):
        with pytest.raises(MergeError, match="no teacher at all") as caught:
            merge_cache(cache, "text", TargetRequest("x", "gold", teachers=named))
        assert "Name some of these" not in str(caught.value)
        assert "run `ckd-cache build` with a recipe that names them" in str(caught.value)


def test_a_cache_that_something_was_dropped_from_verifies(copy):
    cache = copy / "whole.ckd"
    drop_from_cache(cache, DropRequest(teachers=("a", "b")))
    found = verify_cache(cache)
    assert (found.findings, found.notes) == ((), ())


def test_what_is_dropped_while_a_cache_is_verified_is_no_damage(copy, monkeypatch):
    from ckd_cache.format import verify

    cache = copy / "whole.ckd"
    inventory = inventory_of

    def dropping(manifest):
        drop_from_cache(cache, DropRequest(teachers=("b",)))
        return inventory(manifest)

    monkeypatch.setattr(verify, "inventory_of", dropping)
    found = verify_cache(cache)
    assert found.findings == ()
    assert [("newer one" in note) for note in found.notes] == [True]


def test_names_that_are_not_there_are_answered_with_those_that_are(copy):
    cache = copy / "whole.ckd"
    before = builds.stored_bytes(cache)
    for arguments, answer in (
        (["--teacher", "zebra"], "No teacher 'zebra' in"),
        (["--teacher", "a", "--target", "zebra"], "there is 'gold', 'warm'. Nothing was dropped."),
        (["--teacher", "a", "--set-name", "zebra"], "has no set zebra; it has text."),
    ):
        done = command("drop", cache, *arguments)
        assert (done.exit_code, answer in done.stderr) == (1, True), done.output
    assert command("drop", cache).exit_code == 2
    assert command("drop", copy / "gone.ckd", "--teacher", "a").exit_code == 1
    assert not (copy / "gone.ckd").exists()
    assert builds.stored_bytes(cache) == before


def test_what_is_unfinished_of_a_teacher_goes_too(copy, monkeypatch):
    cache = copy / "new.ckd"
    shards = len(open_cache(copy / "whole.ckd").set("text").shards()) // 2
    # Segments, support, two views of slots, and the metadata documents of teacher a.
    stopped(copy, cache, monkeypatch, 3 * shards + 2)
    assert journal_keys(cache) == ["text/teachers/a/v0-0000"]
    (found,) = plan_drop(cache, DropRequest(teachers=("a",)))
    assert (found.parts, found.unfinished, found.bytes) == (0, 1, used(cache / "text/teachers/a"))
    drop_from_cache(cache, DropRequest(teachers=("a",)))
    assert not journal_keys(cache)
    assert not (cache / "text/teachers").exists()
    assert rebuild(copy, cache).complete


def test_a_damaged_teacher_can_be_dropped_and_captured_anew(copy):
    cache = copy / "whole.ckd"
    shutil.rmtree(cache / "text/teachers/b/v0-0000/tail")
    drop_from_cache(cache, DropRequest(teachers=("b",)))
    assert rebuild(copy, cache).complete
    assert builds.run("verify", cache).returncode == 0


def test_of_two_sets_one_or_both_lose_a_teacher(copy):
    cache = copy / "two.ckd"
    content = recipe_of(copy)
    text = {"corpus": content.pop("corpus"), "objective": content.pop("objective")}
    short = {"corpus": {"sources": [TWO], "segment_tokens": 16}}
    content["sets"] = {"text": text, "short": short}
    (copy / "recipe.yaml").write_text(yaml.safe_dump(content))
    rebuild(copy, cache)
    (one,) = drop_from_cache(cache, DropRequest(teachers=("b",), set_name="short"))
    assert one.folder == "short/teachers/b"
    manifest = open_cache(cache).manifest
    assert "b" in manifest.sets["text"].teachers
    assert not manifest.complete, "the recipe asks for it in both sets"
    assert len(manifest.recipe["teachers"]) == 2
    assert rebuild(copy, cache).complete
    assert len(drop_from_cache(cache, DropRequest(targets=("warm",)))) == 2
    manifest = open_cache(cache).manifest
    assert [one["name"] for one in manifest.recipe["targets"]] == ["gold"]
    assert manifest.complete


def test_a_held_lock_refuses_every_other_writer(copy):
    cache = copy / "whole.ckd"
    before = builds.stored_bytes(cache)
    with CacheWriter.begin(cache):
        for arguments in (
            ("drop", cache, "--teacher", "b"),
            ("merge", cache, "--name", "x"),
            ("build", copy / "recipe.yaml", "--cache", cache),
        ):
            done = command(*arguments)
            assert done.exit_code == 1, done.output
            assert f"{cache}: another process is writing to this cache." in done.stderr
        assert command("drop", cache, "--teacher", "b", "--dry-run").exit_code == 0
    assert builds.stored_bytes(cache) == before


READER = """
import sys
from pathlib import Path
import ckd_cache
cache = ckd_cache.open(Path(sys.argv[1]))
lazy = cache.teachers["b"].dask()
print("open", flush=True)
sys.stdin.readline()
count = len(cache.examples)
print(len(cache.teachers["a"].read(0, count)), len(cache.targets["gold"].read(0, count)), count)
for read in (lambda: cache.teachers["b"].read(0, 4), lambda: lazy.tail[:4].compute()):
    try:
        read()
    except ckd_cache.CkdCacheError as error:
        print(type(error).__name__, "newer" in str(error) or "was dropped since" in str(error))
"""


def test_a_process_that_reads_meanwhile_is_not_disturbed(copy):
    cache = copy / "whole.ckd"
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(cache)],
        env=builds.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "open\n"
        drop_from_cache(cache, DropRequest(teachers=("b",)))
        change(copy, teachers=only_a(copy), corpus={"sources": [ONE, TWO]}, targets=[])
        rebuild(copy, cache)
        said, _ = process.communicate("go\n", timeout=120)
    first, *errors = said.splitlines()
    assert len(set(first.split())) == 1
    assert errors == ["IncompleteCacheError True"] * 2
