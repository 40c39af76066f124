"""Recipes: defaults, overrides, and every problem named at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from ckd_cache.build.recipe import read_recipe
from ckd_cache.errors import RecipeError

SMALL = """
corpus:
  sources:
    - {kind: text, paths: ["*.txt"]}
teachers:
  - {name: a, model: models/a}
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(tmp_path: Path, text: str, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        read_recipe(written(tmp_path, text), overrides)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_defaults_are_those_of_the_documentation(tmp_path):
    recipe = read_recipe(written(tmp_path, SMALL))
    text = recipe.each_set()["text"]
    assert (text.corpus.segment_tokens, text.corpus.pack) == (128, True)
    assert (text.objective.mask_fraction, text.objective.views) == (0.15, 1)
    assert text.objective.corruption.model_dump() == {"mask": 0.8, "random": 0.1, "keep": 0.1}
    assert recipe.capture.model_dump() == {
        "top_k": 32,
        "temperatures": (1.0,),
        "max_nats": 1e-4,
        "top_p": 1.0,
    }
    assert [(t.name, t.weighting) for t in recipe.targets] == [
        ("gold", "gold"),
        ("uniform", "uniform"),
    ]
    assert recipe.tokenizer_of(text) == ("models/a", None)


def test_overrides_replace_values(tmp_path):
    recipe = read_recipe(
        written(tmp_path, SMALL),
        ["capture.top_k=64", "runtime.device=cuda", "objective.mask_fraction=[0.1, 0.3]"],
    )
    assert recipe.capture.top_k == 64
    assert recipe.runtime.device == "cuda"
    assert recipe.each_set()["text"].objective.mask_fraction == (0.1, 0.3)


def test_runtime_is_no_part_of_the_identity(tmp_path):
    path = written(tmp_path, SMALL)
    changed = read_recipe(path, ["runtime.device=cuda", "runtime.batch_tokens=1"])
    assert read_recipe(path).identity() == changed.identity()
    assert "runtime" not in changed.identity()


def test_all_problems_are_named_at_once_with_their_paths(tmp_path):
    text = """
corpus:
  sources:
    - {kind: text, path: ["*.txt"]}
  segment_tokns: 64
teachers:
  - {name: a, model: m, dtype: float23}
capture: {top_k: 0}
shard: {slots: 5}
"""
    message = problems(tmp_path, text)
    for expected in (
        "corpus.sources[0].paths",
        "corpus.segment_tokns",
        "'segment_tokens'",
        "teachers[0].dtype",
        "capture.top_k",
        "'shards'",
    ):
        assert expected in message


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("objective.mask_fraction=0", "mask_fraction"),
        ("objective.mask_fraction=[0.5, 0.1]", "mask_fraction"),
        ("objective.mask_fraction=[0.0, 0.0]", "mask_fraction"),
        ("objective.corruption.mask=0.9", "expected 1"),
        ("splits.test=0.99", "nothing is left to train on"),
        ("capture.temperatures=[2.0]", "1.0 among them"),
        ("capture.max_nats=1e-15", "expected 0"),
        ("runtime.workers=4", "one worker"),
        ("targets=[{name: t, tau: .inf}]", "targets[0].tau"),
        ("capture.temperatures=[1.0, 1e-9]", "distinct temperatures"),
        ("targets=[{name: t, teachers: []}]", "targets[0].teachers"),
        ("targets=[{name: t, teachers: [a, a]}]", "found more than once: a"),
        ("corpus.sources=[{kind: docstrings, on_error: skip}]", "on_error"),
        ("teachers.0.tokenizer=corpus", "corpus.tokenizer"),
        ("teachers=[]", "name `corpus.tokenizer`"),
        ("targets=[{name: t, temperature: 2.0}]", "temperature 2 is not captured"),
        ("targets=[{name: t, teachers: [z]}]", "no teacher called z"),
        ("targets=[{name: t}, {name: t}]", "found more than once: t"),
        ("teachers.0.name=../../etc", "teachers[0].name"),
        ("corpus.sources.0.kind=txt", "'text'"),
        ("capture.topk=3", "'top_k'"),
        ('teachers.0.model=""', "teachers[0].model"),
        ("teachers.0.revision=' '", "teachers[0].revision"),
        ("corpus.tokenizer=''", "corpus.tokenizer"),
        ("corpus.sources.0.paths=['']", "corpus.sources[0].paths[0]"),
        ('corpus.sources.0.genre="a\\nb"', "corpus.sources[0].genre"),
        ('corpus.sources.0.genre="a\\eb"', "corpus.sources[0].genre"),
        ('corpus.sources.0.name="a\\n"', "corpus.sources[0].name"),
        ('teachers.0.name="a\\n"', "teachers[0].name"),
        ("runtime.device=cuda:99999999999", "cuda or cuda:N"),
        ("runtime.device=gpu", "runtime.device"),
        ("corpus.pack=yes", "corpus.pack"),
        ("corpus.pack=1", "corpus.pack"),
        ("splits.fit=true", "splits.fit"),
        ('splits.fit="0.1"', "splits.fit"),
        ("objective.mask_fraction=true", "objective.mask_fraction"),
        ('objective.mask_fraction=[0.1, "0.2"]', "objective.mask_fraction"),
        ("capture.temperatures=[true]", "capture.temperatures[0]"),
    ],
)
def test_values_that_cannot_be_used(tmp_path, override, said):
    assert said in problems(tmp_path, SMALL, override)


def test_without_teachers_there_are_no_targets(tmp_path):
    path = written(tmp_path, SMALL)
    recipe = read_recipe(path, ["teachers=[]", "corpus.tokenizer=models/t"])
    assert (recipe.teachers, recipe.targets) == ([], [])
    assert recipe.tokenizer_of(recipe.each_set()["text"]) == ("models/t", None)
    assert recipe.identity()["teachers"] == []


def test_every_set_names_its_tokenizer_where_there_are_no_teachers(tmp_path):
    text = """
sets:
  a: {corpus: {sources: [{kind: docstrings}], tokenizer: models/t}}
  b: {corpus: {sources: [{kind: docstrings}]}}
teachers: []
"""
    assert "no teachers to take a tokenizer from" in problems(tmp_path, text)
    whole = read_recipe(written(tmp_path, text), ["sets.b.corpus.tokenizer=models/t"])
    assert list(whole.each_set()) == ["a", "b"]


def test_targets_without_teachers_are_refused(tmp_path):
    overrides = ["teachers=[]", "corpus.tokenizer=models/t", "targets=[{name: t}]"]
    message = problems(tmp_path, SMALL, *overrides)
    assert "`teachers` is empty" in message
    assert "leave `targets` out" in message


def test_teachers_are_never_left_out_by_mistake(tmp_path):
    message = problems(tmp_path, SMALL.partition("teachers")[0])
    assert "teachers" in message
    assert "is missing" in message


INTEGERS = (
    "capture.top_k",
    "corpus.segment_tokens",
    "objective.seed",
    "objective.views",
    "runtime.batch_tokens",
    "runtime.threads",
    "runtime.workers",
    "shards.chunk_slots",
    "shards.slots",
)


@pytest.mark.parametrize("field", INTEGERS)
@pytest.mark.parametrize("value", ["1e30", str(10**30), str(10**400), '"1"', "true", "1.0"])
def test_integers_are_integers_of_a_size_that_can_be(tmp_path, field, value):
    message = problems(tmp_path, SMALL, f"{field}={value}")
    assert "1 problem" in message
    assert f"\n  {field}: Input should be " in message


@pytest.mark.parametrize("value", [str(10**400), "1e400"])
def test_fractions_that_no_float_holds_are_refused(tmp_path, value):
    assert "splits.fit" in problems(tmp_path, SMALL, f"splits.fit={value}")


def test_integers_will_do_for_fractions(tmp_path):
    overrides = ["objective.mask_fraction=[0, 1]", "capture.max_nats=0", "capture.temperatures=[1]"]
    recipe = read_recipe(written(tmp_path, SMALL), overrides)
    assert recipe.each_set()["text"].objective.mask_fraction == (0.0, 1.0)
    assert (recipe.capture.max_nats, recipe.capture.temperatures) == (0.0, (1.0,))


def test_an_empty_recipe_is_offered_the_keys_of_a_build(tmp_path):
    assert "keys such as corpus, objective, sets, teachers" in problems(tmp_path, "")


def test_a_recipe_has_a_corpus_or_sets(tmp_path):
    both = SMALL + "sets: {other: {corpus: {sources: [{kind: docstrings}]}}}\n"
    assert "either `corpus`" in problems(tmp_path, both)
    several = """
sets:
  one: {corpus: {sources: [{kind: docstrings}]}}
  two: {corpus: {sources: [{kind: docstrings}]}, objective: {views: 2}}
teachers: [{name: a, model: m}]
"""
    recipe = read_recipe(written(tmp_path, several))
    assert list(recipe.each_set()) == ["one", "two"]


def test_sets_need_names_that_are_free(tmp_path):
    for name in ("journal", "staging", "supports"):
        text = f"""
sets: {{{name}: {{corpus: {{sources: [{{kind: docstrings}}]}}}}}}
teachers: [{{name: a, model: m}}]
"""
        assert f"cannot be called {name}" in problems(tmp_path, text)
    assert "sets" in problems(tmp_path, "sets: {}\nteachers: [{name: a, model: m}]\n")


def test_the_recipe_in_the_manifest_is_resolved(tmp_path):
    stored = read_recipe(written(tmp_path, SMALL)).identity()
    corpus = stored["sets"]["text"]["corpus"]
    assert corpus["tokenizer"] == "models/a"
    assert (corpus["sources"][0]["name"], corpus["sources"][0]["genre"]) == ("text", "text")
    assert stored["targets"][0]["top_k"] == 32


def test_the_tokenizer_is_of_the_first_teachers_revision(tmp_path):
    recipe = read_recipe(written(tmp_path, SMALL), ["teachers.0.revision=v1"])
    assert recipe.tokenizer_of(recipe.each_set()["text"]) == ("models/a", "v1")


def test_the_recipes_that_ship_are_valid(repository_root):
    recipe = read_recipe(repository_root / "workflows" / "quickstart.yaml")
    root = repository_root / "workflows"
    for teacher in recipe.teachers:
        assert (root / teacher.model / "model.safetensors").is_file()
