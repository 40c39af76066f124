"""Students that were stopped go on, and end with the weights of an uninterrupted run."""

from __future__ import annotations

import shutil

import pytest
from tests.unit.student.test_trainer import CountedProgress, assert_same_weights, run

from ckd_student.callbacks import GentleStop
from ckd_student.output import newest_checkpoint
from ckd_student.train import StoppedEarly
from ckd_student.trainer import StudentTrainer


@pytest.mark.parametrize(("dropout", "accumulate"), [(0.0, 1), (0.2, 2)])
def test_resuming_gives_the_weights_of_an_uninterrupted_run(
    recipe_file, cache, tmp_path, dropout, accumulate, monkeypatch
):
    """An epoch has 11 batches: one resumes in the middle of an epoch, one in a later epoch."""
    training = {"max_steps": 16, "save_steps": 5, "gradient_accumulation_steps": accumulate}
    recipe = recipe_file(training=training)
    overrides = [f"model.config.hidden_dropout_prob={dropout}"]
    run(recipe, cache, tmp_path / "whole", *overrides)
    stop_after(monkeypatch, 13)
    with pytest.raises(StoppedEarly, match="13"):
        run(recipe, cache, tmp_path / "cut", *overrides)
    monkeypatch.undo()
    assert newest_checkpoint(tmp_path / "cut").name == "checkpoint-13"
    if dropout == 0.0:
        shutil.rmtree(tmp_path / "cut" / "checkpoint-13")
    last = newest_checkpoint(tmp_path / "cut")
    assert last is not None
    half_written = tmp_path / "cut" / "checkpoint-15"
    shutil.copytree(last, half_written)
    (half_written / "trainer_state.json").write_text("{")
    assert newest_checkpoint(tmp_path / "cut") == last
    seen = CountedProgress()
    resumed = run(recipe, cache, tmp_path / "cut", *overrides, resume=True, progress=seen)
    begun = int(last.name.removeprefix("checkpoint-"))
    steps = seen.tasks["training"]
    assert (steps.already, steps.count, resumed.steps) == (begun, 16 - begun, 16)
    assert len(seen.notes) == 1
    assert seen.notes[0].startswith("going on from ")
    assert_same_weights(tmp_path / "cut", tmp_path / "whole")


def stop_after(monkeypatch, step):
    """As if Ctrl-C were pressed during a step."""
    told = GentleStop.on_step_end

    def press(self, args, state, control, **kwargs):
        self.asked = self.asked or state.global_step == step
        told(self, args, state, control, **kwargs)

    monkeypatch.setattr(GentleStop, "on_step_end", press)


def test_resume_without_a_checkpoint_begins_and_finished_students_stay(
    recipe_file, cache, tmp_path
):
    recipe = recipe_file()
    seen = CountedProgress()
    first = run(recipe, cache, tmp_path / "s", resume=True, progress=seen)
    assert first.trained_now
    assert seen.notes == [], "there was nothing to go on from"
    again = run(recipe, cache, tmp_path / "s", resume=True)
    assert not again.trained_now
    assert again.held_out == first.held_out


def test_resuming_a_student_stopped_before_its_first_checkpoint_says_so(
    recipe_file, cache, tmp_path, monkeypatch
):
    monkeypatch.setattr(StudentTrainer, "measure", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(recipe_file(training={"save_strategy": "no"}), cache, tmp_path / "s")
    monkeypatch.undo()
    seen = CountedProgress()
    run(recipe_file(), cache, tmp_path / "s", resume=True, progress=seen)
    assert seen.notes == ["going on from the beginning: there is no checkpoint yet"]
