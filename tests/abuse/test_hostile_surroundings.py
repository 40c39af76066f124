"""Two builders at once, a disk that is full, and a limit on the size of files."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from tests.integration import builds

from ckd_cache.format.verify import verify_cache

PAGE = 4096


def test_of_two_builders_the_second_is_refused_and_the_first_finishes(workshop, built, tmp_path):
    cache, recipe = tmp_path / "shared.ckd", workshop / "recipe.yaml"
    first = subprocess.Popen(
        builds.command("build", recipe, "--cache", cache),
        env=builds.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    with first:
        wait_for(lambda: (cache / "journal").is_dir() or first.poll() is not None)
        # The first one holds the lock now and must not end before the second has tried.
        first.send_signal(signal.SIGSTOP)
        second = builds.run("build", recipe, "--cache", cache)
        first.send_signal(signal.SIGCONT)
        _, said = first.communicate(timeout=240)
    assert second.returncode == 1
    assert f"{cache}: another process is writing to this cache. Wait until it is" in second.stderr
    assert "Traceback" not in second.stderr
    assert first.returncode == 0, said
    assert verify_cache(cache).findings == ()
    assert builds.stored_bytes(cache) == builds.stored_bytes(built)


def wait_for(happened, seconds=120):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.005)


def mount(*arguments):
    return subprocess.run(["mount", *arguments], capture_output=True, text=True)


@pytest.fixture
def small_disk(tmp_path):
    """An empty file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root of a Linux machine can mount a small file system")
    done = mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder))
    if done.returncode != 0:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
    yield folder
    with contextlib.suppress(subprocess.CalledProcessError):
        subprocess.run(["umount", "-l", str(folder)], check=True)


def resize(disk, pages):
    done = mount("-o", f"remount,size={pages * PAGE}", str(disk))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("share", [0.15, pytest.param(0.6, marks=pytest.mark.full)])
def test_a_build_on_a_full_disk_says_so_and_goes_on_when_there_is_room(
    workshop, built, small_disk, share
):
    files = [path.stat().st_size for path in built.rglob("*") if path.is_file()]
    folders = sum(path.is_dir() for path in built.rglob("*"))
    pages = sum(-(-size // PAGE) for size in files)
    resize(small_disk, int(pages * share))
    cache, recipe = small_disk / "cache.ckd", workshop / "recipe.yaml"
    full = builds.run("build", recipe, "--cache", cache)
    assert full.returncode == 1
    assert "No space left on device. Free some space and run the same command" in full.stderr
    assert "Traceback" not in full.stderr
    resize(small_disk, 4 * (pages + folders) + 4096)
    done = builds.run("build", recipe, "--cache", cache)
    assert done.returncode == 0, done.stderr
    assert verify_cache(cache).findings == ()
    assert builds.stored_bytes(cache) == builds.stored_bytes(built)


LIMITED = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
"""
"""A file that grows beyond the limit fails with EFBIG then; that needs no rights."""


def build_limited(recipe, cache, limit):
    interpreter, option, start, *arguments = builds.command("build", recipe, "--cache", cache)
    command = [interpreter, option, LIMITED.format(limit=limit) + start, *arguments]
    return subprocess.run(command, env=builds.environment(), capture_output=True, text=True)


def largest(cache, pattern):
    return max(path.stat().st_size for path in cache.glob(pattern) if path.is_file())


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        ("text/segments/0000/0*.arrow", "File too large. Raise the limit on file sizes"),
        pytest.param("text/slots/*/*.arrow", "disk I/O error", marks=pytest.mark.full),
    ],
    ids=["a shard", "scratch"],
)
def test_a_build_that_may_write_no_large_file_says_so_and_goes_on_without_the_limit(
    workshop, built, tmp_path, refused, said
):
    cache, recipe = tmp_path / "cache.ckd", workshop / "recipe.yaml"
    limited = build_limited(recipe, cache, largest(built, refused) - 1)
    assert limited.returncode == 1
    assert said in limited.stderr
    assert "Traceback" not in limited.stderr
    done = builds.run("build", recipe, "--cache", cache)
    assert done.returncode == 0, done.stderr
    assert verify_cache(cache).findings == ()
    assert builds.stored_bytes(cache) == builds.stored_bytes(built)
