"""Which model a teacher is, and what is refused before anything is loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM

from ckd_cache.errors import TeacherError
from ckd_cache.fingerprint import canonical_json, hash_bytes, hash_file
from ckd_cache.teachers.identity import (
    config_fingerprint,
    teacher_files,
    teacher_folder,
    weight_files,
)

Folders = Callable[..., Path]


def test_folder_is_relative_to_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "models" / "a").mkdir(parents=True)
    assert teacher_folder("a", "models/a", None, tmp_path) == tmp_path / "models" / "a"
    assert teacher_folder("a", str(tmp_path / "models"), None, Path("/")) == tmp_path / "models"


@pytest.mark.parametrize("model", ["models/a", "bert", "./a", "a/b/c", "/nowhere/a", "a..b"])
def test_a_folder_that_does_not_exist_gets_both_readings(model: str, tmp_path: Path) -> None:
    with pytest.raises(TeacherError) as caught:
        teacher_folder("prose", model, None, tmp_path)
    message = str(caught.value)
    assert "teacher prose" in message
    assert f"no folder {(tmp_path / model).absolute()}" in message
    assert "hub" in message
    assert "relative to the recipe file" in message


def test_revision_of_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=r"revision 'v1' .* is a folder"):
        teacher_folder("a", str(tmp_path), "v1", tmp_path)


def test_weights_are_identified_by_content(tiny_teacher_folder: Folders, tmp_path: Path) -> None:
    one, other = tiny_teacher_folder(0), tiny_teacher_folder(1)
    moved = tmp_path / "moved"
    shutil.copytree(one, moved)
    files = teacher_files("a", str(one), None, tmp_path)
    assert files.weights == {"model.safetensors": hash_file(one / "model.safetensors")}
    assert teacher_files("b", str(moved), None, tmp_path).weights == files.weights
    assert teacher_files("a", str(other), None, tmp_path).weights != files.weights


def test_sharded_weights(tiny_teacher_folder: Folders, tmp_path: Path) -> None:
    folder = tmp_path / "sharded"
    model = AutoModelForMaskedLM.from_pretrained(tiny_teacher_folder(0), dtype=torch.float32)
    model.save_pretrained(folder, max_shard_size="40KB")
    found = weight_files("a", folder)
    assert len(found) > 1
    assert list(found) == sorted(path.name for path in folder.glob("*.safetensors"))
    assert found == {name: hash_file(folder / name) for name in found}
    last = list(found)[-1]
    (folder / last).unlink()
    with pytest.raises(TeacherError, match=last):
        weight_files("a", folder)


def test_shards_outside_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"")
    folder = tmp_path / "a"
    folder.mkdir()
    index = {"weight_map": {"x": "../w.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(TeacherError, match=r"\.\./w\.safetensors"):
        weight_files("a", folder)


def test_pickled_weights_are_refused_with_the_way_out(
    tiny_teacher_folder: Folders, tmp_path: Path
) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(tiny_teacher_folder(0), folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(TeacherError, match=r"pytorch_model\.bin.*save_pretrained"):
        weight_files("a", folder)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="no weights in"):
        weight_files("a", tmp_path)


def test_an_adapter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(TeacherError, match="adapter"):
        weight_files("a", tmp_path)


def write_config(folder: Path, **fields: Any) -> str:
    (folder / "config.json").write_text(json.dumps(fields), encoding="utf-8")
    return config_fingerprint("a", folder)


def test_config_fingerprint_leaves_out_what_changes_no_number(tmp_path: Path) -> None:
    plain = write_config(tmp_path, model_type="bert", layers=2)
    assert plain == hash_bytes(canonical_json({"model_type": "bert", "layers": 2}))
    assert plain == write_config(
        tmp_path,
        layers=2,
        dtype="float16",
        model_type="bert",
        transformers_version="5",
        _name_or_path="x",
    )
    assert plain != write_config(tmp_path, model_type="bert", layers=3)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot be read"),
        ("{", "no JSON"),
        ("[1]", "list"),
        ('{"a": NaN}', "NaN"),
    ],
)
def test_unusable_config(content: str | None, expected: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(TeacherError, match=expected) as caught:
        config_fingerprint("a", tmp_path)
    assert str(tmp_path / "config.json") in str(caught.value)
