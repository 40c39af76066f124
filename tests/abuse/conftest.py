"""A small finished cache with every kind of file, built by real processes, and copies to harm."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.integration import builds

DOCUMENTS = 60


@pytest.fixture(scope="session")
def workshop(tmp_path_factory, tiny_texts, tiny_teacher_folder):
    """A folder with a corpus, two teachers and a recipe."""
    folder = tmp_path_factory.mktemp("workshop")
    builds.write_corpus(folder / "corpus.txt", tiny_texts[:DOCUMENTS])
    teachers = {"a": tiny_teacher_folder(1), "b": tiny_teacher_folder(2)}
    shards = {"slots": 400, "chunk_slots": 100}
    builds.recipe(folder, teachers, shards=shards, targets=[{"name": "gold"}])
    return folder


@pytest.fixture(scope="session")
def built(workshop):
    """The finished cache of the workshop; not to be changed."""
    return builds.finished(workshop)


@pytest.fixture
def copy(built, tmp_path):
    """A copy of the finished cache, to be changed."""
    return Path(shutil.copytree(built, tmp_path / "copy.ckd"))
