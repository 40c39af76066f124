"""A student's recipe: what it takes, and what it refuses with which words."""

from __future__ import annotations

import pytest

from ckd_cache.errors import RecipeError
from ckd_student.recipe import DataRecipe, LossRecipe, read_recipe


def problems(path, *overrides):
    with pytest.raises(RecipeError) as caught:
        read_recipe(path, overrides)
    return str(caught.value)


def test_what_is_silent_has_defaults(recipe_file):
    path = recipe_file()
    path.write_text("model: {config: {model_type: bert}}\n")
    recipe = read_recipe(path)
    assert recipe.loss == LossRecipe(distill=0.9, hard=0.1, temperature=1.0, tail="bucket")
    assert recipe.data == DataRecipe(seed=0, set="text", train="train", evaluate="test", window=16)
    assert recipe.training == {}


def test_training_takes_the_arguments_of_transformers_and_keeps_what_is_set(recipe_file):
    recipe = read_recipe(recipe_file(), ["training.learning_rate=1e-3", "training.seed=7"])
    assert recipe.training == {
        "max_steps": 6,
        "per_device_train_batch_size": 8,
        "use_cpu": True,
        "learning_rate": 0.001,
        "seed": 7,
    }


def test_all_problems_come_at_once(recipe_file):
    text = problems(
        recipe_file(),
        "loss.distil=1",
        "loss.tail=renormalise",
        "training.max_stepz=3",
        "training.learning_rate=fast",
        "training.remove_unused_columns=true",
        "data.split=train",
    )
    assert "6 problems" in text
    assert "loss.distil: unknown key; did you mean 'distill'?" in text
    assert "loss.tail: Input should be 'bucket'; found 'renormalise'" in text
    assert "training.max_stepz: unknown key; did you mean 'max_steps'?" in text
    assert "training.learning_rate: Input should be a valid number" in text
    assert (
        "training.remove_unused_columns: cannot be set here; it must stay false: it would drop"
        in text
    )
    assert "data.split: unknown key" in text


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("training.output_dir=x", "--output"),
        ("training.resume_from_checkpoint=x", "--resume"),
        ("training.label_smoothing_factor=0.1", "section 'loss'"),
        ("training.average_tokens_across_devices=false", "slots of the global step"),
        ("training.ignore_data_skip=true", "same examples again"),
        ("training.data_seed=1", r"data\.seed"),
        ("training.auto_find_batch_size=true", "order of batches"),
        ("training.use_liger_kernel=true", "replace the loss"),
        ("loss.temperature=0", "greater than 0"),
        ("loss.distill=-1", "greater than or equal to 0"),
        ("loss.distill=.nan", "finite"),
        ("data.window=0", "greater than or equal to 1"),
        ("data.evaluate=train", "would not be held out"),
        ("data.train=dev", "'train', 'fit' or 'test'"),
        ("model.path=x", "either config .* or path"),
        ("model.config={}", "config needs model_type"),
    ],
)
def test_contradictions_are_refused_with_the_reason(recipe_file, override, reason):
    path = recipe_file()
    with pytest.raises(RecipeError, match=reason):
        read_recipe(path, [override])


def test_nothing_to_learn_is_refused(recipe_file):
    assert "nothing would be learnt" in problems(recipe_file(), "loss.distill=0", "loss.hard=0")


def test_repeating_what_is_decided_is_allowed(recipe_file):
    recipe = read_recipe(recipe_file(), ["training.remove_unused_columns=false"])
    assert recipe.training["remove_unused_columns"] is False
