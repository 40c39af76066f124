"""Training from a cache: the loss and its scaling, the folder, resuming."""

from __future__ import annotations

import json
import math
import sys

import pytest
import torch
from transformers import AutoModelForMaskedLM, BertConfig, BertForMaskedLM, TrainingArguments

from ckd_cache.errors import MismatchError, RecipeError, StudentError
from ckd_cache.format.reader import open_cache
from ckd_cache.progress import SILENT
from ckd_student.evaluation import HeldOut
from ckd_student.genres import GenreLookup
from ckd_student.losses import slot_loss_sum
from ckd_student.recipe import LossRecipe
from ckd_student.request import TrainRequest
from ckd_student.stream import open_stream
from ckd_student.train import train
from ckd_student.trainer import StudentData, StudentTrainer


def run(recipe, cache, output, *overrides, target="mix", progress=SILENT, **flags):
    return train(TrainRequest(recipe, cache, target, output, overrides, **flags), progress)


class CountedProgress:
    """Remembers notes, and of each task where it began, how many were done, and its total."""

    def __init__(self):
        self.tasks, self.notes = {}, []

    def task(self, name, *, total, unit, already=0):
        return self.tasks.setdefault(name, CountedTask(already, total))

    def note(self, text):
        self.notes.append(text)


class CountedTask:
    def __init__(self, already, total):
        self.already, self.count, self.total, self.ended = already, 0, total, False

    def advance(self, amount=1):
        self.count += amount

    def done(self):
        self.ended = True


def weights(folder):
    return AutoModelForMaskedLM.from_pretrained(folder).state_dict()


def assert_same_weights(one, other):
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=1e-5, atol=1e-6, msg=name)


def trainer_of(cache, output, loss=LossRecipe(), target="mix", **arguments):  # noqa: B008
    text = open_cache(cache).set("text")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=text.support.record.size,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    held_out = HeldOut(
        open_stream(cache, target=target, split="test", window=0),
        GenreLookup(text),
        text.support.record.size,
        text.support.record.pad_id,
    )
    args = TrainingArguments(
        output_dir=str(output),
        remove_unused_columns=False,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **arguments,
    )
    record = text.support.record
    stream = open_stream(cache, target=target, window=4)
    data = StudentData(stream, held_out, record.size, record.pad_id, [])
    return StudentTrainer(BertForMaskedLM(config), args, data, loss)


def test_training_improves_the_held_out_loss_and_the_folder_is_plain_transformers(
    recipe_file, cache, tmp_path
):
    from transformers import pipeline

    recipe = recipe_file(training={"max_steps": 40, "learning_rate": 1e-2})
    short = run(recipe, cache, tmp_path / "short", "training.max_steps=1")
    trained = run(recipe, cache, tmp_path / "student")
    assert trained.steps == 40
    assert trained.held_out.loss < short.held_out.loss - 1.0
    assert trained.held_out.kl < short.held_out.kl - 1.0
    fill = pipeline("fill-mask", model=str(tmp_path / "student"))
    assert len(fill("the [MASK] of")) == 5


def test_the_record_says_where_the_student_comes_from(recipe_file, cache, tmp_path):
    trained = run(recipe_file(), cache, tmp_path / "s", "model.seed=5")
    record = json.loads((tmp_path / "s" / "ckd_student.json").read_text())
    manifest = json.loads((cache / "ckd.json").read_text())
    assert record["finished"] is True
    assert record["cache_digest"] == manifest["digest"]
    assert record["steps"] == 6
    assert record["held_out"]["loss"] == trained.held_out.loss
    assert record["identity"]["model"]["seed"] == 5
    filled = manifest["sets"]["text"]["targets"]["mix"]["parts"]
    assert record["identity"]["target_parts"] == {
        name: part["fingerprint"] for name, part in filled.items()
    }


def test_the_loss_of_a_batch_is_that_of_plain_transformers_logits(cache, tmp_path):
    trainer = trainer_of(cache, tmp_path, LossRecipe(distill=0.7, hard=0.3))
    assert trainer.at_slots
    batch = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(trainer.model, batch)
    inputs = {n: batch[n] for n in ("input_ids", "attention_mask", "token_type_ids")}
    logits = trainer.model(**inputs).logits
    total, count = torch.zeros(()), 0
    for row in range(logits.shape[0]):
        for slot in range(batch["labels"].shape[1]):
            if batch["labels"][row, slot] >= 0:
                target = tuple(
                    batch[f"target_{n}"][row, slot][None]
                    for n in ("ids", "logprobs", "n_valid", "tail")
                )
                at = logits[row, batch["slot_positions"][row, slot]][None]
                total += slot_loss_sum(at, batch["labels"][row, slot][None], target, 0.7, 0.3)
                count += 1
    torch.testing.assert_close(loss, total / count)


def test_a_model_that_needs_its_whole_output_gives_the_same_loss(cache, tmp_path):
    trainer = trainer_of(cache, tmp_path)
    batch = next(iter(trainer.get_train_dataloader()))
    at_slots = trainer.compute_loss(trainer.model, batch)
    trainer.at_slots = False
    torch.testing.assert_close(trainer.compute_loss(trainer.model, batch), at_slots)


@pytest.mark.parametrize("loss", [LossRecipe(), LossRecipe(distill=0.0, hard=1.0)])
def test_four_batches_of_two_give_the_step_of_one_batch_of_eight(cache, tmp_path, loss):
    """Examples have 1, 2 or 3 slots: a mean of means would differ."""
    target = None if loss.distill == 0.0 else "mix"
    common = {"max_steps": 3, "learning_rate": 1e-2, "optim": "sgd", "max_grad_norm": 0.0}
    one = trainer_of(cache, tmp_path / "1x8", loss, target, per_device_train_batch_size=8, **common)
    one.train()
    four = trainer_of(
        cache,
        tmp_path / "4x2",
        loss,
        target,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
        **common,
    )
    four.train()
    for (name, first), second in zip(
        one.model.named_parameters(), four.model.parameters(), strict=True
    ):
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6, msg=name)
    losses = [
        [h["train_loss"] for h in t.state.log_history if "train_loss" in h] for t in (one, four)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_the_sampler_follows_the_epochs(cache, tmp_path):
    trainer = trainer_of(cache, tmp_path, num_train_epochs=2, per_device_train_batch_size=16)
    seen = []
    compute = trainer.compute_loss

    def watching(model, inputs, **kwargs):
        seen.append(inputs["input_ids"].sum().item())
        return compute(model, inputs, **kwargs)

    trainer.compute_loss = watching
    trainer.train()
    half = len(seen) // 2
    assert sum(seen[:half]) == sum(seen[half:])
    assert seen[:half] != seen[half:]


def test_held_out_loss_is_a_mean_over_slots(cache, tmp_path):
    trainer = trainer_of(cache, tmp_path, per_device_eval_batch_size=3)
    # The text has 20 tokens: a head that prefers them hits now and then.
    trainer.model.cls.predictions.bias.data[5:25] += torch.linspace(4.0, 5.0, 20)
    training = trainer.model.training
    metrics = trainer.evaluate()
    text = open_cache(cache).set("text")
    examples = text.examples.read(0, text.n_examples)
    nats, ranks = 0.0, []
    for number in open_stream(cache, target=None, split="test", window=0).numbers():
        length = int(examples.attention_mask[number].sum())
        ids = torch.from_numpy(examples.input_ids[number, :length])[None]
        with torch.no_grad():
            logits = trainer.model(input_ids=ids).logits[0]
        used = examples.slot_mask[number]
        places, golds = examples.slot_positions[number][used], examples.gold_ids[number][used]
        for at, gold in zip(places, golds, strict=True):
            nats -= torch.log_softmax(logits[at], dim=0)[gold].item()
            ranks.append(logits[at].argsort(descending=True, stable=True).tolist().index(gold))
    assert metrics["eval_slots"] == len(ranks)
    assert metrics["eval_loss"] == pytest.approx(nats / len(ranks), rel=1e-5)
    assert {0, 1, 2, 3} < set(ranks)
    assert metrics["eval_top1"] == pytest.approx(sum(rank < 1 for rank in ranks) / len(ranks))
    assert metrics["eval_top5"] == pytest.approx(sum(rank < 5 for rank in ranks) / len(ranks))
    assert trainer.model.training is training


def test_genres_are_those_of_the_slots_documents(cache, tmp_path, student_cache):
    trainer = trainer_of(cache, tmp_path)
    tally = trainer.measure()
    by_genre = tally.by_genre()
    assert set(by_genre) == set(student_cache.GENRES)
    assert sum(scores.slots for scores in by_genre.values()) == tally.scores().slots
    text = open_cache(cache).set("text")
    examples = text.examples.read(0, text.n_examples)
    first_half = sum(
        int(position < examples.attention_mask[number].sum() // 2)
        for number in open_stream(cache, target=None, split="test", window=0).numbers()
        for position in examples.slot_positions[number][examples.slot_mask[number]]
    )
    assert by_genre["fiction"].slots == first_half


def test_shares_of_the_held_out_examples_add_up(cache, tmp_path):
    from ckd_student.evaluation import evaluate_held_out, merged

    trainer = trainer_of(cache, tmp_path)
    held_out = trainer.student_data.held_out
    parts = [
        evaluate_held_out(trainer.model, held_out, batch_size=4, share=(rank, 3))
        for rank in range(3)
    ]
    assert merged(parts).scores().to_json() == pytest.approx(trainer.measure().scores().to_json())


def test_evaluation_during_training(cache, tmp_path):
    trainer = trainer_of(cache, tmp_path, max_steps=4, eval_strategy="steps", eval_steps=2)
    trainer.train()
    assert [h["step"] for h in trainer.state.log_history if "eval_loss" in h] == [2, 4]


def test_everything_that_takes_long_is_reported_to_its_end(recipe_file, cache, tmp_path):
    seen = CountedProgress()
    run(recipe_file(), cache, tmp_path / "s", progress=seen)
    text = open_cache(cache).set("text")
    held_out = open_stream(cache, target=None, split="test")
    chunks = sum(
        math.ceil((shard.stop - shard.start) / text.layout.chunk_examples)
        for shard in text.shards()
    )
    totals = {name: task.total for name, task in seen.tasks.items()}
    assert totals == {
        "examples of split train": chunks,
        "examples of split test": chunks,
        "training": 6,
        "evaluating": len(held_out),
    }
    assert all(task.count == task.total and task.ended for task in seen.tasks.values())


def test_folders_in_use_are_refused(recipe_file, cache, tmp_path):
    recipe = recipe_file(training={"max_steps": 1})
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("mine")
    for flags in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(StudentError, match="holds files, but no student"):
            run(recipe, cache, foreign, **flags)
    assert (foreign / "thesis.tex").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(StudentError, match="is a file"):
        run(recipe, cache, tmp_path / "file")
    run(recipe, cache, tmp_path / "s")
    with pytest.raises(StudentError, match=r"holds a finished student.*--resume.*--overwrite"):
        run(recipe, cache, tmp_path / "s")
    with pytest.raises(MismatchError, match=r"loss\.hard: then 0\.1, now 0\.2"):
        run(recipe, cache, tmp_path / "s", "loss.hard=0.2", resume=True)
    assert run(recipe, cache, tmp_path / "s", "loss.hard=0.2", overwrite=True).steps == 1


def test_nothing_is_left_behind_when_the_recipe_does_not_work(recipe_file, cache, tmp_path):
    with pytest.raises(RecipeError, match="has no field"):
        run(recipe_file(), cache, tmp_path / "s", "model.config.hidden=3")
    assert not (tmp_path / "s").exists()


def test_a_student_that_diverged_is_no_success(recipe_file, cache, tmp_path):
    with pytest.raises(StudentError, match="diverged"):
        run(recipe_file(), cache, tmp_path / "s", "training.learning_rate=1e30")
    assert not json.loads((tmp_path / "s" / "ckd_student.json").read_text())["finished"]


def test_the_temperature_must_be_that_of_the_target(recipe_file, cache, tmp_path):
    with pytest.raises(StudentError, match=r"temperature is 1, .*'warm'.* at temperature 2"):
        run(recipe_file(), cache, tmp_path / "s", target="warm")
    trained = run(recipe_file(), cache, tmp_path / "s", "loss.temperature=2", target="warm")
    assert math.isfinite(trained.held_out.kl)


def test_a_target_is_needed_unless_the_student_learns_from_gold_alone(recipe_file, cache, tmp_path):
    with pytest.raises(RecipeError, match=r"--target .*mix, partial, warm"):
        run(recipe_file(), cache, tmp_path / "s", target=None)
    hard = ("loss.distill=0", "loss.hard=1")
    trained = run(recipe_file(), cache, tmp_path / "s", *hard, target=None)
    assert trained.held_out.kl is None


def test_an_existing_model_goes_on_from_its_weights(
    recipe_file, cache, tmp_path, tiny_teacher_folder
):
    folder = tiny_teacher_folder(7)
    recipe = recipe_file(training={"max_steps": 1, "learning_rate": 0.0})
    run(recipe, cache, tmp_path / "s", "model.config=null", f"model.path={folder}")
    assert_same_weights(tmp_path / "s", folder)


def test_no_module_that_runs_teachers_is_ever_imported(recipe_file, cache, tmp_path):
    import subprocess

    code = (
        "import sys; from pathlib import Path; from ckd_student.train import train;"
        "from ckd_student.request import TrainRequest;"
        f"train(TrainRequest(Path({str(recipe_file())!r}), Path({str(cache)!r}), 'mix',"
        f" Path({str(tmp_path / 's')!r}), ['training.max_steps=1']));"
        "never = ('ckd_cache.teachers', 'ckd_cache.corpus', 'ckd_cache.build', 'dask');"
        "loaded = [name for name in sys.modules if name.startswith(never)];"
        "assert not loaded, loaded"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 0, done.stderr


def environment():
    import os

    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
