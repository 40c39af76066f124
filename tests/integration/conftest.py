"""A small workshop and the cache that is built from it, for all integration tests."""

from __future__ import annotations

import pytest
from tests.integration import builds


@pytest.fixture(scope="session")
def workshop(tmp_path_factory, tiny_texts, tiny_teacher_folder):
    """A folder with a corpus, two teachers and a recipe."""
    folder = tmp_path_factory.mktemp("workshop")
    builds.write_corpus(folder / "corpus.txt", tiny_texts)
    teachers = {"a": tiny_teacher_folder(1), "b": tiny_teacher_folder(2)}
    builds.recipe(folder, teachers)
    return folder


@pytest.fixture(scope="session")
def built(workshop):
    """The finished cache of the workshop, built without interruption in its own process."""
    return builds.finished(workshop)
