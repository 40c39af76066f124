"""The small cache of ``small_cache.py``, built once, and copies of it to damage."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from tests.unit.format import sound_cache

SCRIPT = Path(__file__).with_name("small_cache.py")


@pytest.fixture(scope="session", autouse=True)
def _no_fsync() -> Iterator[None]:
    """Nothing these tests can see depends on fsync but ``test_durable.py``, and it is slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session")
def small() -> ModuleType:
    """The module that builds the cache."""
    spec = importlib.util.spec_from_file_location("small_cache", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["small_cache"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def built(small: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete cache; not to be changed."""
    path = tmp_path_factory.mktemp("built") / "small.ckd"
    small.build(path)
    return path


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    """A copy of the complete cache, to be changed."""
    return Path(shutil.copytree(built, tmp_path / "copy.ckd"))


@pytest.fixture(scope="session")
def lean(small: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete cache with one view, one teacher and no target; not to be changed."""
    path = tmp_path_factory.mktemp("built") / "lean.ckd"
    small.build(path, lean=True)
    return path


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which every number is right, too; not to be changed."""
    path = tmp_path_factory.mktemp("sound") / "sound.ckd"
    sound_cache.make(path)
    return path


@pytest.fixture
def cache(sound: Path, tmp_path: Path) -> Path:
    """A copy of the sound cache, to be changed."""
    return Path(shutil.copytree(sound, tmp_path / "copy.ckd"))
