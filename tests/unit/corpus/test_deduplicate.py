from __future__ import annotations

import pytest

from ckd_cache.corpus.deduplicate import Deduplicator
from ckd_cache.errors import StorageError


def test_texts_are_compared_without_white_space_at_their_ends(tmp_path):
    with Deduplicator(tmp_path / "seen") as seen:
        assert seen.is_new("a text")
        assert not seen.is_new("  a text\n")
        assert seen.is_new("a  text")
        assert not seen.is_new("a text")


def test_agrees_with_a_set(tmp_path):
    texts = [f"text {number * number % 5003}" for number in range(20_000)]
    known: set[str] = set()
    with Deduplicator(tmp_path / "seen") as seen:
        for text in texts:
            assert seen.is_new(text) == (text not in known)
            known.add(text)


def test_what_an_earlier_run_left_counts_for_nothing(tmp_path):
    path = tmp_path / "seen"
    with Deduplicator(path) as seen:
        assert seen.is_new("x")
    with Deduplicator(path) as seen:
        assert seen.is_new("x")
    path.write_bytes(b"not a database at all" * 100)
    with Deduplicator(path) as seen:
        assert seen.is_new("x")


def test_no_place_for_the_file(tmp_path):
    with pytest.raises(StorageError, match="cannot keep the list of texts"):
        Deduplicator(tmp_path / "gone" / "seen")
