"""One flipped bit anywhere, a file gone, a file cut short: always found, never read as if whole."""

from __future__ import annotations

import random

import pytest
from tests.abuse.reading import files_by_kind, read_everything, same
from tests.integration import builds

from ckd_cache.errors import CkdCacheError, DamagedCacheError, FormatVersionError
from ckd_cache.format.reader import open_cache
from ckd_cache.format.verify import verify_cache

NOT_READ = ("previous table", "tokenizer", "teachers group", "targets group")
"""Kinds of files that no reader of numbers needs."""


def places(cache, count):
    """Places of single bits, spread evenly over the kinds of files: (path, byte, bit)."""
    chance = random.Random(20)
    kinds = files_by_kind(cache)
    # Manifest and tables, support, text; arrays, their documents and the group's of both owners.
    assert len(kinds) == 3 + 2 + 3 + (9 + 2) + (8 + 2), sorted(kinds)
    for number in range(count):
        path = chance.choice(kinds[sorted(kinds)[number % len(kinds)]])
        size = (cache / path).stat().st_size
        yield path, chance.randrange(size), chance.randrange(8)


def kind_by_file(cache):
    return {path: kind for kind, paths in files_by_kind(cache).items() for path in paths}


def flipped(data, byte, bit):
    harmed = bytearray(data)
    harmed[byte] ^= 1 << bit
    return bytes(harmed)


def is_found(cache, path, *, quick=False):
    """Whether verifying says that a file, and only that file, is damaged."""
    try:
        found = verify_cache(cache, workers=1, quick=quick)
    except (DamagedCacheError, FormatVersionError) as error:
        return path in str(error)
    # The files table of the generation before is a note: nothing needs it any more.
    noted = [note.split(": ")[0] for note in found.notes]
    return [*(finding.path for finding in found.findings), *noted] == [path]


def reads(cache):
    """What a reader gets, or None if it says that something is damaged."""
    try:
        return read_everything(cache)
    except (DamagedCacheError, FormatVersionError):
        return None


@pytest.mark.parametrize("count", [30, pytest.param(300, marks=pytest.mark.full)])
def test_a_flipped_bit_is_always_found_and_never_changes_what_is_read(copy, count):
    before = read_everything(copy)
    kinds = kind_by_file(copy)
    missed, wrongly_read = [], []
    for path, byte, bit in places(copy, count):
        data = (copy / path).read_bytes()
        (copy / path).write_bytes(flipped(data, byte, bit))
        if not is_found(copy, path):
            missed.append((path, byte, bit))
        after = reads(copy)
        # A flip where no reader looks changes nothing; all others are refused.
        unnoticed = after is not None and same(before, after)
        if not (unnoticed if kinds[path] in NOT_READ else after is None):
            wrongly_read.append((path, byte, bit))
        (copy / path).write_bytes(data)
    assert missed == []
    assert wrongly_read == []


def test_the_command_says_so_too(copy):
    kinds = files_by_kind(copy)
    for kind in ("manifest", "files table", "segments", "teachers ids", "targets documents"):
        path = copy / kinds[kind][0]
        data = path.read_bytes()
        path.write_bytes(flipped(data, len(data) // 2, 3))
        done = builds.run("verify", copy, "--quick" if kind == "manifest" else "--json")
        assert done.returncode == 3, done.stderr
        assert kinds[kind][0] in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        path.write_bytes(data)
    done = builds.run("verify", copy)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(": all is as it was written\n")


def remove(path):
    path.unlink()


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [remove, halve, empty])
@pytest.mark.parametrize("every", [40, pytest.param(1, marks=pytest.mark.full)])
def test_a_file_that_is_gone_or_cut_short_is_found_and_not_read(copy, harm, every):
    access = open_cache(copy).access
    paths = [row.path for row in access.files.rows]
    kinds = kind_by_file(copy)
    for path in (*paths[::every], *files_by_kind(copy)["previous table"]):
        data = (copy / path).read_bytes()
        harm(copy / path)
        assert is_found(copy, path, quick=True)
        assert is_found(copy, path)
        with pytest.raises(DamagedCacheError, match=path):
            access.verified(path)
        assert (reads(copy) is None) == (kinds[path] not in NOT_READ)
        (copy / path).write_bytes(data)
    assert verify_cache(copy).findings == ()


@pytest.mark.parametrize("harm", [remove, halve, empty])
@pytest.mark.parametrize("kind", ["manifest", "files table"])
def test_nothing_is_read_without_manifest_or_files_table(copy, harm, kind):
    harm(copy / files_by_kind(copy)[kind][0])
    for attempt in (verify_cache, read_everything):
        with pytest.raises(CkdCacheError, match=str(copy)):
            attempt(copy)
