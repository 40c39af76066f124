"""What transformers refuses of the section ``training``: exit code 2, and nothing is left."""

from __future__ import annotations

import pytest
from tests.unit.student.test_student_cli import call
from tests.unit.student.test_trainer import run

from ckd_cache.errors import RecipeError, StudentError

CONFIG = "model.config"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training.warmup_steps=-1"], r"training\.warmup_steps: .*found -1"),
        (
            ["training.fp16=true", "training.bf16=true"],
            r"training\.bf16 \(True\), training\.fp16 \(True\): transformers refuses this",
        ),
        (["training.deepspeed=x.json"], r"training\.deepspeed \('x\.json'\)"),
        (
            ["training.accelerator_config=gone.json", "training.deepspeed=x.json"],
            r"accelerator_config \('gone\.json'\), training\.deepspeed \('x\.json'\)",
        ),
        (["training.accelerator_config={x: 1}"], r"accelerator_config \(\{'x': 1\}\).*TypeError"),
        (["training.load_best_model_at_end=true"], r"load_best_model_at_end \(True\)"),
        (["training.optim_args=x"], r"training\.optim_args \('x'\)"),
        (["training.lr_scheduler_type=cosine_with_min_lr"], r"lr_scheduler_type .*min_lr"),
        (["training.lr_scheduler_kwargs={a: 1}"], r"lr_scheduler_kwargs \(\{'a': 1\}\)"),
        (["training.save_strategy=best"], r"training\.save_strategy \('best'\)"),
        (["data.evaluate=none", "training.eval_strategy=steps"], "eval_strategy asks for the held"),
        (["data.evaluate=none", "training.eval_on_start=true"], "eval_on_start asks for the held"),
        ([f"{CONFIG}.hidden_size=abc"], r"model\.config\.hidden_size \('abc'\)"),
        ([f"{CONFIG}.hidden_act=gluu"], r"model\.config\.hidden_act \('gluu'\)"),
        ([f"{CONFIG}.num_attention_heads=3"], r"model\.config\.num_attention_heads \(3\)"),
        ([f"{CONFIG}.model_type=brt"], r"model\.config\.model_type: 'brt' is not known"),
    ],
)
def test_what_cannot_work_is_the_recipes_fault_and_leaves_nothing(
    recipe_file, cache, tmp_path, overrides, message
):
    output = tmp_path / "above" / "s"
    with pytest.raises(RecipeError, match=message) as caught:
        run(recipe_file(), cache, output, *overrides)
    assert "student.yaml: " in str(caught.value)
    assert not output.parent.exists()


def test_a_config_that_does_not_run_is_refused_before_the_first_step(recipe_file, cache, tmp_path):
    with pytest.raises(RecipeError, match=r"chunk_size_feed_forward \(97\).*does not run on the"):
        run(recipe_file(), cache, tmp_path / "s", f"{CONFIG}.chunk_size_feed_forward=97")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("override", "target", "code"),
    [
        ("training.seed=-1", "mix", 2),
        ("training.optim=foo", "mix", 2),
        ("training.deepspeed=x.json", "mix", 2),
        ("model.config.hidden_size=-4", "mix", 2),
        ("loss.distill=0.5", None, 2),
        ("loss.temperature=3", "mix", 1),
        ("data.set=other", "mix", 1),
        ("loss.hard=1", "gold", 1),
        ("loss.hard=1", "partial", 1),
        ("model.config.vocab_size=9", "mix", 1),
    ],
)
def test_exit_codes_say_where_the_fault_is(recipe_file, cache, tmp_path, override, target, code):
    named = [] if target is None else ["--target", target]
    done = call("train", recipe_file(), "--cache", cache, "-o", tmp_path / "s", *named, "--set",
                override)  # fmt: skip
    assert done.exit_code == code, done.stderr
    assert done.stderr.startswith("Error: ")
    assert not (tmp_path / "s").exists()


def test_a_refused_recipe_leaves_a_student_alone(recipe_file, cache, tmp_path):
    run(recipe_file(training={"max_steps": 1}), cache, tmp_path / "s")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "s").rglob("*")}
    for override in ("training.optim_args=x", "model.config.hidden_act=gluu"):
        with pytest.raises((RecipeError, StudentError)):
            run(recipe_file(), cache, tmp_path / "s", override, overwrite=True)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "s").rglob("*")}
