"""YAML into models: all problems at once, each with its path and what was probably meant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from ckd_cache.errors import RecipeError
from ckd_cache.settings import (
    apply_override,
    did_you_mean,
    load_yaml,
    one_line,
    parse_settings,
    read_settings,
)


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Files(Section):
    kind: Literal["files"]
    paths: list[str]


class Lines(Section):
    kind: Literal["lines"]
    column: str = "text"


class Recipe(Section):
    sources: list[Annotated[Files | Lines, Field(discriminator="kind")]] = []
    rate: float = 0.0
    mode: Literal["gold", "uniform"] = "gold"
    inner: Lines | None = None
    named: dict[str, Files] = {}


def read(tmp_path: Path, text: str, *overrides: str) -> Recipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return read_settings(path, Recipe, overrides)


def problems(tmp_path: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, text, *overrides)
    return [line.strip() for line in str(caught.value).splitlines()]


def test_all_problems_come_at_once_with_path_line_and_nearest_name(tmp_path):
    text = """\
sources:
  - {kind: files, pathz: [a]}
  - {kind: lines, colum: x}
  - {kind: linez}
mode: golt
rate: fast
inner: {kind: lines, colunm: y}
named: {one: {kind: files, paths: [], path: 1}}
"""
    head, *found = problems(tmp_path, text)
    assert head.endswith("recipe.yaml: 8 problems")
    assert found == [
        "sources[0].paths (line 2): is missing",
        "sources[0].pathz (line 2): unknown key; did you mean 'paths'?",
        "sources[1].colum (line 3): unknown key; did you mean 'column'?",
        "sources[2] (line 4): unknown kind 'linez'; did you mean 'lines'?",
        "rate (line 6): Input should be a valid number, unable to parse string as a number; found 'fast'",  # noqa: E501
        "mode (line 5): Input should be 'gold' or 'uniform'; found 'golt'; did you mean 'gold'?",
        "inner.colunm (line 7): unknown key; did you mean 'column'?",
        "named.one.path (line 8): unknown key; did you mean 'paths'?",
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("2026-01-01", "2026-01-01"),
        ("12:30", "12:30"),
        ("010", "010"),
        ("true", True),
        ("1e-3", 0.001),
        ("-2", -2),
        (".5", 0.5),
        ("~", None),
        ("", None),
        ('"1"', "1"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(tmp_path, text, value):
    (tmp_path / "r.yaml").write_text(f"a: {text}\n")
    assert load_yaml(tmp_path / "r.yaml") == {"a": value}


def test_overrides_replace_add_and_index(tmp_path):
    text = "sources: [{kind: lines}, {kind: files, paths: [a]}]\nrate: 1"
    recipe = read(
        tmp_path, text, "rate=1e-3", "sources.0.column=c", "sources[1].paths=[x, y]",
        "inner.kind=lines", "mode=uniform",
    )  # fmt: skip
    assert recipe == Recipe(
        sources=[Lines(kind="lines", column="c"), Files(kind="files", paths=["x", "y"])],
        rate=1e-3,
        inner=Lines(kind="lines"),
        mode="uniform",
    )


def test_bad_overrides_are_reported_beside_other_problems(tmp_path):
    found = problems(
        tmp_path, "sources: []\nrate: 1\nmod: gold", "rate.x=1", "sources.0.kind=lines", "mode",
        "mode=[", "rats=2",
    )  # fmt: skip
    assert "6 problems" in found[0]
    text = "\n".join(found)
    for part in (
        "--set 'rate.x=1': rate is the value 1, so it has no 'x'",
        "--set 'sources.0.kind=lines': sources is a list of 0 items, so it has no item 0",
        "--set 'mode': expected PATH=VALUE",
        "--set 'mode=[': not valid YAML",
        "mod (line 3): unknown key; did you mean 'mode'?",
        "rats: unknown key; did you mean 'rate'?",
    ):
        assert part in text


def test_an_overridden_value_has_no_line_of_the_file(tmp_path):
    assert problems(tmp_path, "rate: 1", "rate=fast")[1].startswith("rate: Input should be")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", r"line 3: a stands a second time \(first on line 1\)"),
        ("a: {b: 1, b: 2}", r"a\.b stands a second time"),
        ("a: 1\n\tb: 2", "never tabs"),
        ("- 1", "found a list at the top, expected a mapping"),
        ("just text", "found the value 'just text' at the top"),
        ("", "found nothing at the top"),
        ("a: [1,", "not valid YAML at line 1"),
        ("1: 2", "the key '1' in the recipe is not a string"),
        ("? [a]\n: 2", "the key 'a list or mapping'"),
        ("a: &x [*x]", "an alias contains itself"),
        ("a: !!python/object:os.system 1", "line 1: found '1' with the tag !!python/object"),
        ("a: 1\n---\nb: 1", "expected a single document"),
        ("a: 1\nb: \x01", r"at line 2: found the control character U\+0001"),
        ("\x1b[31m: 1", r"at line 1: found the control character U\+001B"),
        ("a: 1\nb: !!int x", "line 2: found 'x' with the tag !!int"),
        ("a: !!float x", "found 'x' with the tag !!float"),
        ("a: !!bool x", "found 'x' with the tag !!bool"),
        ("a: !!null x", "found 'x' with the tag !!null"),
        ("a: !!timestamp x", "found 'x' with the tag !!timestamp"),
        ("a: !!binary x", "found 'x' with the tag !!binary"),
        ("a: !!set {x, y}", "found a list or mapping with the tag !!set"),
        ("a: !!omap [x: 1]", "found a list or mapping with the tag !!omap"),
        ("a: 1\nb: " + "9" * 5000, "line 2: found an integer of 5,000 digits"),
        ("a: 0x" + "f" * 5000, "found an integer of 5,002 digits"),
        ("a: 1\nb: " + "[" * 3000, "at line 2, .*nested more than 64 deep"),
        ("a: " + "[" * 3000 + "]" * 3000, "nested more than 64 deep"),
        ("".join(f"{' ' * level}a:\n" for level in range(3000)), "at line 65, .*more than 64"),
        ('a: 1\nb: "\\ud800"', "line 2: .* holds half of a surrogate pair"),
        ('"\\udfff": 1', "line 1: .* holds half of a surrogate pair"),
    ],
)
def test_what_is_no_recipe_is_refused_with_its_place(tmp_path, text, message):
    assert_refused = pytest.raises(RecipeError, match=message)
    (tmp_path / "r.yaml").write_text(text)
    with assert_refused:
        load_yaml(tmp_path / "r.yaml")


def laughs(line: str) -> str:
    """YAML of forty lines, each of which names the one before several times."""
    return "a0: &a0 {k: 1}\n" + "".join(
        f"a{at}: &a{at} {line.format(f'*a{at - 1}')}\n" for at in range(1, 40)
    )


@pytest.mark.parametrize("line", ["[{0}, {0}, {0}]", "{{<<: [{0}, {0}]}}", "{{x: {0}, y: {0}}}"])
def test_aliases_cannot_make_a_small_file_a_huge_one(tmp_path, line):
    (tmp_path / "r.yaml").write_text(laughs(line))
    with pytest.raises(RecipeError, match=r"line \d+: aliases .* more than 10,000 times"):
        load_yaml(tmp_path / "r.yaml")


def test_levels_that_a_recipe_may_have_are_read(tmp_path):
    (tmp_path / "r.yaml").write_text("a: " + "[" * 60 + "]" * 60)
    assert list(load_yaml(tmp_path / "r.yaml")) == ["a"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("rate=\udce9", "a byte that is no text in this locale"),
        ("rate=\x01", r"control character U\+0001"),
        ("rate=!!int x", "with the tag !!int"),
        ("rate=" + "9" * 5000, "an integer of 5,000 digits"),
        ("rate=" + "[" * 3000, "nested more than 64 deep"),
        ("sources." + "9" * 5000 + ".kind=x", "sources is a list of 0 items, so it has no '999"),
        (".".join(["x"] * 3000) + "=1", "expected PATH=VALUE"),
        ("rat\udce9=1", "1 problem"),
    ],
)
def test_overrides_that_are_no_yaml_are_refused(tmp_path, override, said):
    with pytest.raises(RecipeError, match=said) as caught:
        read(tmp_path, "sources: []", override)
    assert len(str(caught.value)) < 700


def test_an_override_changes_one_of_those_that_an_alias_repeats(tmp_path):
    text = "sources: [&x {kind: files, paths: [a]}, *x]"
    recipe = read(tmp_path, text, "sources.1.paths.0=b")
    assert [source.paths for source in recipe.sources if source.kind == "files"] == [["a"], ["b"]]


def test_an_empty_recipe_is_told_which_keys_there_are(tmp_path):
    assert problems(tmp_path, "")[0].endswith(
        "found nothing at the top, expected a mapping with keys such as sources, rate, mode, inner."
    )


def test_long_values_are_not_repeated_whole(tmp_path):
    (problem,) = problems(tmp_path, "rate: " + "x" * 100_000)[1:]
    assert len(problem) < 300


@pytest.mark.parametrize("value", ["", "  ", "a\nb", "a\x00b", "a\x7f", "a\u2028b", "\x85"])
def test_a_line_of_text_is_no_blank_and_has_no_control_characters(value):
    with pytest.raises(ValueError, match="found"):
        one_line(value)


@pytest.mark.parametrize("value", ["a b", "déjà/日本*.txt", "a\u00a0b", "👩\u200d👩"])
def test_all_other_characters_may_stand_in_a_line_of_text(value):
    assert one_line(value) == value


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(RecipeError, match=r"none\.yaml: there is no such recipe file"):
        load_yaml(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"a: caf\xe9")
    with pytest.raises(RecipeError, match="byte 6 is not UTF-8"):
        load_yaml(tmp_path / "latin.yaml")


def test_merge_keys_and_aliases_work(tmp_path):
    (tmp_path / "r.yaml").write_text("x: &x {kind: lines}\ny: {<<: *x, column: b}\nz: *x")
    assert load_yaml(tmp_path / "r.yaml")["y"] == {"kind": "lines", "column": "b"}


def test_mappings_without_a_file_are_named_by_their_origin():
    assert parse_settings({"rate": 2}, Recipe, "manifest").rate == 2.0
    with pytest.raises(RecipeError, match=r"^manifest: 1 problem\n  rat: unknown key"):
        parse_settings({"rat": 2}, Recipe, "manifest")


def test_hints():
    assert did_you_mean("temprature", ["temperature", "tau"]) == "did you mean 'temperature'?"
    assert did_you_mean("zzz", ["b", "a"]) == "known: a, b"
    assert did_you_mean("zzz", []) == "nothing may be named here"


def test_override_gives_the_path_it_set():
    data: dict[str, object] = {}
    assert apply_override(data, "a.b=c") == ("a", "b")
    assert data == {"a": {"b": "c"}}
