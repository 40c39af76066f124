"""The folder of a student: what is taken for one, what is damaged, what is overwritten."""

from __future__ import annotations

import json
import shutil

import pytest
from tests.unit.student.test_trainer import run

from ckd_cache.errors import StudentError
from ckd_student.output import RECORD_NAME, begin_output, check_output, write_record

FRESH = {"finished": False, "identity": {"a": 1}}


@pytest.fixture(scope="module")
def finished(cache, tmp_path_factory):
    """A finished student and its recipe."""
    import yaml
    from tests.unit.student.conftest import RECIPE

    folder = tmp_path_factory.mktemp("finished")
    recipe = {**RECIPE, "training": {**RECIPE["training"], "max_steps": 2, "save_steps": 1}}
    (folder / "student.yaml").write_text(yaml.safe_dump(recipe))
    run(folder / "student.yaml", cache, folder / "s")
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    """The recipe, and a copy of the student that may be harmed."""
    return finished / "student.yaml", shutil.copytree(finished / "s", tmp_path / "s")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_finished_student_that_lacks_a_file_is_not_finished(copy, cache, name):
    recipe, folder = copy
    assert not run(recipe, cache, folder, resume=True).trained_now
    (folder / name).unlink()
    with pytest.raises(StudentError, match=rf"{name} is missing now\. Restore .*--overwrite"):
        run(recipe, cache, folder, resume=True)
    assert run(recipe, cache, folder, overwrite=True).trained_now


def test_a_finished_student_with_cut_weights_is_not_finished(copy, cache):
    recipe, folder = copy
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(StudentError, match=r"model\.safetensors: the weights .* are damaged"):
        run(recipe, cache, folder, resume=True)


def test_weights_in_several_files_are_all_looked_for(copy, cache):
    recipe, folder = copy
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(StudentError, match=r"finished, but model-2\.safetensors is missing"):
        run(recipe, cache, folder, resume=True)
    shutil.copy(folder / "model-1.safetensors", folder / "model-2.safetensors")
    assert not run(recipe, cache, folder, resume=True).trained_now
    (folder / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(StudentError, match=r"index\.json: is damaged"):
        run(recipe, cache, folder, resume=True)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "\x00", '{"finished": 1}', '{"finished": true, "identity": {}}',
     '{"finished": false, "identity": []}'],
)  # fmt: skip
def test_a_damaged_record_is_an_error_that_overwrite_mends(tmp_path, text):
    (tmp_path / RECORD_NAME).write_text(text)
    (tmp_path / "model.safetensors").touch()
    for resume in (False, True):
        with pytest.raises(StudentError, match=r"json: is damaged: .*--overwrite"):
            check_output(tmp_path, {"a": 1}, resume=resume, overwrite=False)
    record = check_output(tmp_path, {"a": 1}, resume=False, overwrite=True)
    assert record == FRESH
    begin_output(tmp_path, record, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == [RECORD_NAME]
    assert check_output(tmp_path, {"a": 1}, resume=True, overwrite=False) == FRESH


def test_a_record_with_damaged_scores_is_an_error(copy, cache):
    recipe, folder = copy
    record = json.loads((folder / RECORD_NAME).read_text())
    for held_out in ([1], {"loss": 1.0}, 3):
        write_record(folder, {**record, "held_out": held_out})
        with pytest.raises(StudentError, match=r"is damaged: 'held_out' is"):
            run(recipe, cache, folder, resume=True)


def test_a_record_that_was_never_finished_is_nothing(tmp_path):
    (tmp_path / f"{RECORD_NAME}.new").write_text("{")
    assert check_output(tmp_path, {"a": 1}, resume=False, overwrite=False) == FRESH


def test_overwriting_follows_no_link(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").touch()
    student = tmp_path / "s"
    student.mkdir()
    write_record(student, FRESH)
    (student / "checkpoint-1").symlink_to(mine)
    (student / "checkpoint-2").mkdir()
    begin_output(student, FRESH, overwrite=True)
    assert [path.name for path in student.iterdir()] == [RECORD_NAME]
    assert (mine / "thesis.tex").exists()


def test_a_damaged_checkpoint_is_named(copy, cache):
    recipe, folder = copy
    record = json.loads((folder / RECORD_NAME).read_text())
    write_record(folder, {"finished": False, "identity": record["identity"]})
    shutil.rmtree(folder / "checkpoint-2")
    state = folder / "checkpoint-1" / "optimizer.pt"
    state.write_bytes(state.read_bytes()[:-50])
    with pytest.raises(StudentError, match=r"checkpoint-1: is damaged: .*Delete it"):
        run(recipe, cache, folder, resume=True)
