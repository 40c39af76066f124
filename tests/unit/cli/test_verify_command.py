"""``ckd-cache verify``: its lines, its JSON and its exit codes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.unit.format import sound_cache

from ckd_cache.cli.main import cli
from ckd_cache.cli.sizes import size
from ckd_cache.format.reader import open_cache
from ckd_cache.format.verify import verify_cache

SEGMENTS = "text/segments/0000/00001.arrow"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "sound.ckd"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        sound_cache.make(path)
    return path


@pytest.fixture
def cache(sound, tmp_path):
    return Path(shutil.copytree(sound, tmp_path / "copy.ckd"))


def run(*arguments):
    return CliRunner().invoke(cli, ["verify", *map(str, arguments)])


def harm(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_sound_cache_is_said_to_be_as_it_was_written(sound):
    done = run(sound)
    assert done.exit_code == 0
    rows = open_cache(sound).files.rows
    total = size(sum(row.bytes for row in rows))
    expected = f"{len(rows)} files, {total}, 20 examples: all is as it was written\n"
    assert done.stdout == expected
    assert done.stderr.startswith(f"verify: {sum(row.bytes for row in rows):,} bytes in ")


def test_quick_does_not_say_more_than_it_knows(cache):
    harm(cache / SEGMENTS)
    done = run(cache, "--quick")
    assert done.exit_code == 0
    assert "all files are there with their sizes; what they hold was not read\n" in done.stdout


def test_damage_is_a_line_a_file_with_examples_and_what_to_type_next(cache):
    harm(cache / SEGMENTS)
    (cache / "text/slots/v1-0000/00002.arrow").unlink()
    (cache / "text/slots/v1-0000/notes.txt").write_text("x")
    done = run(cache, "--workers", 1)
    assert done.exit_code == 3
    segments, slots, note, summary = done.stdout.splitlines()
    start = f"{SEGMENTS}: 8 examples, 4-7, 14-17 of text: its sha256 is "
    assert segments.startswith(start)
    assert slots == (
        "text/slots/v1-0000/00002.arrow: 2 examples, 18-19 of text: the file is missing"
    )
    assert note.startswith("note: text/slots/v1-0000/notes.txt: ")
    assert summary.endswith("20 examples: 2 findings")
    error = done.stderr.splitlines()[-1]
    assert error.startswith(f"Error: {cache}: 2 findings in 2 parts; the cache is damaged. ")
    assert f"`ckd-cache verify {cache} --repair --recipe RECIPE`" in error
    assert error.endswith("restore the files named above from a copy.")


def test_json_is_the_verification_and_nothing_else(cache):
    harm(cache / SEGMENTS)
    done = run(cache, "--json")
    assert done.exit_code == 3
    printed = json.loads(done.stdout)
    assert printed == verify_cache(cache).json()
    (finding,) = printed["findings"]
    assert finding == {
        "path": SEGMENTS,
        "part": "text/segments/0000",
        "shard": 1,
        "artefact": "segments",
        "problem": "sha256",
        "detail": finding["detail"],
        "examples": [
            {"set": "text", "start": 4, "stop": 8},
            {"set": "text", "start": 14, "stop": 18},
        ],
    }
    assert sorted(printed) == ["bytes", "examples", "files", "findings", "notes", "quick"]


@pytest.mark.parametrize("pattern", ["ckd.json", "files-*"])
def test_a_damaged_manifest_or_files_table_has_the_readers_message(cache, pattern):
    path = next(cache.glob(pattern))
    harm(path)
    done = run(cache)
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr.startswith(f"Error: {path}: ")
    assert "is damaged" in done.stderr


@pytest.mark.parametrize(
    ("pattern", "artefact", "problem"),
    [("ckd.json", "manifest", "manifest"), ("files-*", "files table", "table")],
)
@pytest.mark.parametrize("damage", [harm, Path.unlink])
def test_json_says_that_manifest_or_files_table_is_damaged(
    cache, pattern, artefact, problem, damage
):
    path = next(cache.glob(pattern))
    damage(path)
    done = run(cache, "--json", "--quick")
    assert done.exit_code == 3
    printed = json.loads(done.stdout)
    (finding,) = printed.pop("findings")
    assert printed == {"files": 0, "bytes": 0, "examples": 0, "notes": [], "quick": True}
    assert finding == {
        "path": path.name,
        "part": "",
        "shard": -1,
        "artefact": artefact,
        "problem": problem,
        "detail": finding["detail"],
        "examples": [],
    }
    assert done.stderr.splitlines()[-1].endswith(finding["detail"].splitlines()[-1])


def test_no_cache_is_no_damage(tmp_path):
    done = run(tmp_path / "nothing")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")


def test_long_lists_are_cut_for_people_only(cache):
    for number in range(12):
        (cache / f"text/more-{number:02d}").write_text("x")
    done = run(cache)
    assert done.exit_code == 0
    assert done.stdout.count("note: text/more-") == 10
    assert "note: and 2 more notes\n" in done.stdout
    assert len(json.loads(run(cache, "--json").stdout)["notes"]) == 12


def test_an_interrupt_ends_with_130_and_one_line(sound):
    script = """
import os, signal
from ckd_cache.cli import progress
from ckd_cache.cli.main import main

def interrupt(task, amount=1):
    os.kill(os.getpid(), signal.SIGINT)

progress._PlainTask.advance = interrupt
main()
"""
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", script, "verify", str(sound)],
        env={**os.environ, "PYTHONPATH": str(root / "pipeline")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.strip() == "Interrupted."


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1,023 B"), (1024, "1.0 KiB"), (2**60, "1,024.0 PiB")]
)
def test_sizes(count, text):
    assert size(count) == text
