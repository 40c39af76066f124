"""A student's recipe: what it takes, and what it refuses with which words."""

from __future__ import annotations

import importlib.util

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
        ("training.parallelism_config=3", "object of Python"),
        ("training.learning_rate=-1", r"training\.learning_rate.*equal to 0; found -1"),
        ("training.per_device_train_batch_size=0", "equal to 1; found 0"),
        ("training.per_device_eval_batch_size=-8", "equal to 1; found -8"),
        ("training.gradient_accumulation_steps=0", "equal to 1; found 0"),
        ("training.seed=-1", "equal to 0; found -1"),
        ("training.save_steps=0", "greater than 0; found 0"),
        ("training.adam_beta1=2", "less than 1; found 2"),
        ("training.max_steps=0", "expected at least 1, or -1 .*; found 0"),
        ("training.max_steps=-2", "expected at least 1, or -1 .*; found -2"),
        ("training.num_train_epochs=0", "greater than 0; found 0"),
        ("training.optim=adamm", r"training\.optim: 'adamm' is not known; did you mean"),
        ("training.lr_scheduler_type=quadratic", "'quadratic' is not known"),
        ("training.save_strategy=sometimes", "'sometimes' is not known"),
        ("training.log_level=loud", "'loud' is not known"),
        ("training.torch_compile_mode=slow", "'slow' is not known"),
        ("training.metric_for_best_model=bleu", "'bleu' is not known"),
        ("training.report_to=banana", r"training\.report_to: 'banana' cannot be used"),
        ("training.report_to=[none, 3]", "found 3|'none' cannot"),
        ("training.gradient_checkpointing_kwargs=3", "found 3"),
        ("training.per_device_train_batch_size='32'", "valid integer; found '32'"),
        ("training.per_device_train_batch_size=true", "valid integer; found True"),
        ("training.per_device_train_batch_size=8.0", r"valid integer; found 8\.0"),
        ("training.learning_rate='1e-3'", "valid number; found '1e-3'"),
        ("training.learning_rate=true", "valid number; found True"),
        ("training.bf16=1", "valid boolean; found 1"),
        ("data.seed='3'", "valid integer; found '3'"),
        ("data.window=true", "valid integer; found True"),
        ("data.evaluate=tets", r"found 'tets'; did you mean 'test'"),
        ("loss.distill='0.9'", r"valid number; found '0\.9'"),
        ("loss.hard=false", "valid number; found False"),
        ("model.seed=true", "valid integer; found True"),
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


def test_trackers_must_be_installed(recipe_file):
    if importlib.util.find_spec("wandb") is not None:
        pytest.skip("wandb is installed here")
    assert "'wandb' cannot be used: " in problems(recipe_file(), "training.report_to=wandb")
    assert "requires wandb" in problems(recipe_file(), "training.report_to=[wandb]")


@pytest.mark.parametrize(
    "override",
    [
        "training.learning_rate=1",
        "training.learning_rate=0.0",
        "training.max_steps=-1",
        "training.save_total_limit=null",
        "training.eval_steps=0.5",
        "training.report_to=none",
        "training.report_to=all",
        "training.gradient_checkpointing_kwargs={use_reentrant: false}",
        "training.metric_for_best_model=eval_kl",
        "training.save_strategy=no",
        "data.evaluate=none",
        "data.evaluate=fit",
        "loss.distill=1",
    ],
)
def test_values_that_make_sense_are_taken(recipe_file, override):
    read_recipe(recipe_file(), [override])
