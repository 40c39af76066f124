"""Verifying a cache: what is found of files, of the files table and of the manifest."""

from __future__ import annotations

import errno
import re
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.unit.format import small_cache as small
from tests.unit.format.sound_cache import change_set, examples_of, found_in, only_finding, rewrite

from ckd_cache.errors import CkdCacheError, DamagedCacheError, StorageError
from ckd_cache.fingerprint import hash_file
from ckd_cache.format import intact, verify_groups
from ckd_cache.format.files import FileRow, encode_files, files_name
from ckd_cache.format.findings import Finding, Hit, joined, put_together
from ckd_cache.format.manifest import dumps
from ckd_cache.format.reader import open_cache
from ckd_cache.format.verify import verify_cache
from ckd_cache.format.verify_scope import check_files

A_SHARD = "text/teachers/a/v1-0000/logprobs/c/1/0/0"
SEGMENTS = "text/segments/0000/00001.arrow"
ORDER = "text/targets/mix/v0-0000/order/c/0"


def flip(path, at=-2):
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def shorten(path):
    path.write_bytes(path.read_bytes()[:-1])


def make_folder(path):
    path.unlink()
    path.mkdir()


def make_link(path):
    path.rename(path.parent / "aside")
    path.symlink_to(path.parent / "aside")


def test_a_sound_cache_is_found_sound(sound):
    found = found_in(sound)
    assert found.findings == ()
    assert found.notes == ()
    rows = open_cache(sound).files.rows
    assert (found.files, found.bytes) == (len(rows), sum(row.bytes for row in rows))
    assert found.examples == 20
    assert verify_cache(sound, quick=True).findings == ()


@pytest.mark.parametrize(
    ("harm", "problem", "detail"),
    [
        (Path.unlink, "missing", "the file is missing"),
        (shorten, "size", r"it has \d+ bytes, \d+ were written"),
        (flip, "sha256", r"its sha256 is [0-9a-f]{16}…, [0-9a-f]{16}… was written"),
        (make_folder, "kind", "no regular file"),
        (make_link, "link", f"{A_SHARD} is a link"),
    ],
)
def test_a_damaged_file_is_one_finding_of_the_most_basic_kind(cache, harm, problem, detail):
    harm(cache / A_SHARD)
    finding = only_finding(cache)
    assert (finding.path, finding.part) == (A_SHARD, "text/teachers/a/v1-0000")
    assert (finding.shard, finding.artefact, finding.problem) == (1, "teacher", problem)
    assert finding.examples == (Hit("text", 14, 18),)
    assert re.search(detail, finding.detail)


@pytest.mark.parametrize(
    ("path", "artefact", "shard", "examples"),
    [
        (SEGMENTS, "segments", 1, [*range(4, 8), *range(14, 18)]),
        ("text/slots/v1-0000/00002.arrow", "slots", 2, [18, 19]),
        ("text/targets/mix/v0-0000/weights/c/0/0/0", "target", 0, range(4)),
        ("text/targets/mix/v0-0000/weights/zarr.json", "target", -1, range(10)),
        (ORDER, "target", -1, range(10)),
        ("text/teachers/b/v1-0000/zarr.json", "teacher", -1, range(10, 20)),
        (f"supports/{small.SUPPORT}/support.json", "support", -1, range(20)),
        (f"supports/{small.SUPPORT}/tokenizer.json", "support", -1, range(20)),
        # Segments 0 to 2 and 7 to 9 are of the documents 0 to 2, which shard 0 lists.
        ("text/segments/0000/documents-00000.arrow", "documents", 0, [0, 1, 2, 7, 8, 9]),
        ("text/segments/0000/documents-00001.arrow", "documents", 1, []),
        ("text/segments/0000/documents-00002.arrow", "documents", 2, []),
    ],
)
def test_every_kind_of_file_is_read_and_says_which_examples_it_hits(
    cache, path, artefact, shard, examples
):
    flip(cache / path)
    finding = only_finding(cache)
    assert (finding.path, finding.artefact, finding.shard) == (path, artefact, shard)
    assert finding.problem == "sha256"
    wanted = list(examples)
    if artefact == "documents":
        wanted += [10 + example for example in wanted]
    assert examples_of(finding) == wanted


def test_without_any_documents_segments_are_still_checked(cache):
    for shard in range(3):
        flip(cache / f"text/segments/0000/documents-0000{shard}.arrow")
    found = found_in(cache).findings
    assert [one.artefact for one in found] == ["documents"] * 3
    assert examples_of(found[0]) == list(range(20))


def test_quick_looks_at_presence_and_sizes_and_reads_nothing(cache):
    flip(cache / A_SHARD)
    assert verify_cache(cache, quick=True).findings == ()
    (cache / SEGMENTS).unlink()
    shorten(cache / ORDER)
    found = verify_cache(cache, quick=True)
    assert [(one.path, one.problem) for one in found.findings] == [
        (SEGMENTS, "missing"),
        (ORDER, "size"),
    ]


def test_a_link_in_place_of_a_folder_is_found(cache):
    folder = cache / "text/slots/v0-0000"
    folder.rename(cache / "aside")
    folder.symlink_to(cache / "aside")
    found = found_in(cache)
    assert [(one.path, one.problem) for one in found.findings] == [
        (f"text/slots/v0-0000/0000{n}.arrow", "link") for n in range(3)
    ]
    assert found.findings[0].detail.startswith("text/slots/v0-0000 is a link")


def test_many_damaged_files_are_all_found_in_the_same_order_by_any_number_of_workers(cache):
    rows = open_cache(cache).files.rows[::9]
    for n, row in enumerate(rows):
        (flip, Path.unlink, shorten)[n % 3](cache / row.path)
    one, four = (verify_cache(cache, workers=count) for count in (1, 4))
    assert one == four
    assert [finding.path for finding in one.findings] == [row.path for row in rows]


def test_what_the_system_refuses_is_no_damage_but_a_failing_disk_is(cache, monkeypatch):
    def refuse(number):
        def hash_or_refuse(path):
            if path.name == "00001.arrow":
                raise OSError(number, "made up", str(path))
            return hash_file(path)

        monkeypatch.setattr(intact, "hash_file", hash_or_refuse)

    refuse(errno.EIO)
    found = found_in(cache)
    assert {one.path for one in found.findings} == {
        SEGMENTS,
        "text/slots/v0-0000/00001.arrow",
        "text/slots/v1-0000/00001.arrow",
    }
    assert {one.problem for one in found.findings} == {"unreadable"}
    for number in (errno.EACCES, errno.EMFILE):
        refuse(number)
        with pytest.raises(StorageError, match=r"00001\.arrow"):
            found_in(cache)


def test_a_file_that_vanishes_between_hashing_and_decoding_is_missing(cache, monkeypatch):
    def check_and_remove(scope, part, rows, into):
        sound = check_files(scope, part, rows, into)
        for row in rows:
            if row.path == A_SHARD:
                (cache / A_SHARD).unlink()
        return sound

    monkeypatch.setattr(verify_groups, "check_files", check_and_remove)
    finding = only_finding(cache)
    assert (finding.path, finding.problem) == (A_SHARD, "missing")
    assert finding.examples == (Hit("text", 14, 18),)


@pytest.mark.parametrize("pattern", ["ckd.json", "files-*"])
def test_without_manifest_or_files_table_nothing_else_can_be_told(cache, pattern):
    path = next(cache.glob(pattern))
    flip(path)
    with pytest.raises(DamagedCacheError, match=path.name):
        found_in(cache)
    path.unlink()
    with pytest.raises(CkdCacheError, match=str(cache)):
        found_in(cache)


def test_a_files_table_that_is_not_the_manifests_is_found(cache):
    manifest = open_cache(cache).manifest
    record = manifest.files.model_copy(update={"bytes": 5})
    (cache / "ckd.json").write_bytes(dumps(manifest.model_copy(update={"files": record})))
    finding = only_finding(cache)
    assert (finding.path, finding.artefact, finding.problem) == (record.path, "files table", "size")
    record = manifest.files.model_copy(update={"rows": manifest.files.rows + 1})
    (cache / "ckd.json").write_bytes(dumps(manifest.model_copy(update={"files": record})))
    with pytest.raises(DamagedCacheError, match=r"it has \d+ rows, the manifest says \d+"):
        found_in(cache)


@pytest.mark.parametrize(
    ("harm", "detail"),
    [(Path.unlink, "the file is missing"), (shorten, "sha256 is"), (flip, "sha256 is"),
     (make_folder, "no regular file"), (make_link, "is a link")],
)  # fmt: skip
@pytest.mark.parametrize("quick", [False, True])
def test_the_table_of_the_generation_before_is_looked_at_too(cache, harm, detail, quick):
    data = encode_files(open_cache(cache).files.rows[1:])
    previous = files_name(data)
    (cache / previous).write_bytes(data)
    manifest = open_cache(cache).manifest
    record = manifest.files.model_copy(update={"previous": previous})
    (cache / "ckd.json").write_bytes(dumps(manifest.model_copy(update={"files": record})))
    before = verify_cache(cache, quick=quick)
    assert (before.findings, before.notes) == ((), ())
    harm(cache / previous)
    found = verify_cache(cache, quick=quick)
    assert (found.findings, found.files) == ((), before.files)
    note = next(one for one in found.notes if one.startswith(f"{previous}: "))
    assert detail in note


def changed(members, name, **update):
    """A copy of a mapping of records, with members changed in one of them."""
    return {**members, name: members[name].model_copy(update=update)}


def test_fingerprints_that_their_identities_do_not_make_are_found(cache):
    text = open_cache(cache).set("text").record
    other = "0" * 64
    increments = [text.increments[0].model_copy(update={"identity": {"segment_tokens": 9}})]
    teacher = changed(text.teachers["a"].parts, "v0-0000", fingerprint=other)
    target = changed(text.targets["mix"].parts, "v1-0000", fingerprint=other)
    cases: list[tuple[dict[str, Any], dict[str, range]]] = [
        ({"increments": increments}, {"text/segments/0000": range(20)}),
        (
            {"parts": [text.parts[0].model_copy(update={"identity": {}}), text.parts[1]]},
            {"text/slots/v0-0000": range(10)},
        ),
        (
            {"teachers": changed(text.teachers, "b", identity={"dtype": "float64"})},
            {f"text/teachers/b/v{v}-0000": range(10 * v, 10 * v + 10) for v in (0, 1)},
        ),
        (
            {"teachers": changed(text.teachers, "a", parts=teacher)},
            {
                "text/teachers/a/v0-0000": range(10),
                "text/targets/mix/v0-0000": range(10),
            },
        ),
        (
            {"targets": changed(text.targets, "mix", parts=target)},
            {"text/targets/mix/v1-0000": range(10, 20)},
        ),
    ]
    for members, wanted in cases:
        rewrite(cache, {}, change_set(**members))
        for quick in (False, True):
            found = verify_cache(cache, quick=quick).findings
            assert {one.part: examples_of(one) for one in found} == {
                part: list(examples) for part, examples in wanted.items()
            }
            assert {(one.path, one.problem) for one in found} == {("ckd.json", "manifest")}
        rewrite(cache, {}, change_set(**{name: getattr(text, name) for name in members}))
    assert found_in(cache).findings == ()


def test_a_files_table_that_lacks_a_file_is_found(cache):
    rewrite(cache, {}, rows=lambda rows: [row for row in rows if row.path != A_SHARD])
    found = found_in(cache)
    (finding,) = found.findings
    assert (finding.path, finding.problem, finding.shard) == (A_SHARD, "unlisted", 1)
    assert finding.examples == (Hit("text", 14, 18),)
    assert found.notes == (f"{A_SHARD}: the files table does not name this file; it is never read",)


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("text/teachers/z/v0-0000/ids/c/0/0/0", "text/teachers/z/v0-0000"),
        ("text/teachers/a/v1-0000/logprobs/c/3/0/0", "text/teachers/a/v1-0000"),
        ("text/segments/0000/more.arrow", "text/segments/0000"),
    ],
)
def test_rows_that_the_manifest_does_not_call_for_are_strays(cache, path, part):
    rewrite(cache, {}, rows=lambda rows: [*rows, FileRow(path, part, 0, 1, "0" * 64)])
    finding = only_finding(cache)
    assert (finding.path, finding.part, finding.problem) == (path, part, "stray")


def test_a_row_of_another_shard_is_misplaced(cache):
    def moved(rows):
        return [
            FileRow(row.path, row.part, 0, row.bytes, row.sha256) if row.path == A_SHARD else row
            for row in rows
        ]

    rewrite(cache, {}, rows=moved)
    finding = only_finding(cache)
    assert (finding.path, finding.problem) == (A_SHARD, "misplaced")
    assert "shard 0 of text/teachers/a/v1-0000, expected shard 1" in finding.detail


def test_files_that_nobody_names_are_notes(cache):
    (cache / "text/slots/v0-0000/backup").write_text("x")
    (cache / "files-old.parquet").write_text("x")
    (cache / "staging/attempt-1").mkdir(parents=True)
    (cache / "staging/attempt-1/0").write_text("x")
    unfinished = cache / "text/teachers/c/v0-0000/ids/c/0/0"
    unfinished.mkdir(parents=True)
    (unfinished / "0").write_text("x")
    (cache / "journal").mkdir()
    (cache / "journal/text%2Fteachers%2Fc%2Fv0-0000.jsonl").write_text("")
    found = found_in(cache)
    assert found.findings == ()
    assert found.notes == (
        "files-old.parquet: the files table does not name this file; it is never read",
        "text/slots/v0-0000/backup: the files table does not name this file; it is never read",
        "text/teachers/c/v0-0000: a build of this part is not finished; 1 of its files are there",
    )


def test_being_interrupted_ends_the_threads(cache):
    class Task:
        def advance(self, amount=1):
            signal.raise_signal(signal.SIGINT)

        def done(self):
            raise AssertionError

    class Report:
        def task(self, name, *, total, unit, already=0):
            return Task()

        def note(self, text):
            raise AssertionError

    with pytest.raises(KeyboardInterrupt):
        verify_cache(cache, workers=2, progress=Report())
    assert not [one for one in threading.enumerate() if one.name.startswith("verify")]


def test_hits_and_findings_are_put_together():
    hits = [Hit("b", 0, 2), Hit("a", 4, 6), Hit("a", 0, 4), Hit("a", 5, 9), Hit("a", 11, 12)]
    assert joined(hits) == (Hit("a", 0, 9), Hit("a", 11, 12), Hit("b", 0, 2))
    first, second = (
        Finding("x", "p", 0, "teacher", "mass", f"at {n}", (Hit("a", n, n + 1),)) for n in (3, 4)
    )
    other = Finding("w", "p", 0, "teacher", "mass", "", ())
    assert put_together([second, first, other]) == (
        other,
        Finding("x", "p", 0, "teacher", "mass", "at 3", (Hit("a", 3, 5),)),
    )
