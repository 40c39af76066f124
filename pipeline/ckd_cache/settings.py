"""Recipes: a YAML file and ``--set`` values into a validated model, all problems at once.

`ckd_cache.yaml_text` says which YAML.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from ckd_cache.errors import RecipeError
from ckd_cache.types import JsonObject, JsonValue
from ckd_cache.wording import counted
from ckd_cache.yaml_text import Steps, dotted, parse_yaml

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

__all__ = [
    "apply_override",
    "did_you_mean",
    "load_yaml",
    "one_line",
    "parse_settings",
    "read_settings",
]

Model = TypeVar("Model", bound="BaseModel")

_MANY = 12
_FEW = 4
_BREAKING = {"Cc", "Zl", "Zp"}
"""Categories of Unicode that hold control characters and line ends."""
_DEEPEST = 32
_INDEX = re.compile(r"[0-9]{1,9}")
_LONGEST = 120
"""Characters of a value that a message repeats."""


def read_settings(path: Path, model_class: type[Model], overrides: Sequence[str] = ()) -> Model:
    """The recipe at ``path``, changed by ``overrides`` (``a.b=c``), as a ``model_class``.

    Args:
        path: a YAML file.
        model_class: the pydantic model that the recipe must fit.
        overrides: values that replace those of the file; ``c`` is read as YAML, list items are
            named by their index (``teachers.0.dtype=bfloat16``).

    Raises:
        RecipeError: the file cannot be read or is not YAML, or something in it or in the
            overrides is wrong; the message lists every problem.
    """
    data, lines = _load(path, list(model_class.model_fields))
    problems: list[str] = []
    for override in overrides:
        try:
            steps = apply_override(data, override)
        except RecipeError as error:
            problems.append(str(error))
        else:
            for overridden in [known for known in lines if known[: len(steps)] == steps]:
                del lines[overridden]
    return _validate(data, model_class, str(path), lines, problems)


def parse_settings(data: JsonObject, model_class: type[Model], where: str) -> Model:
    """``data`` as a ``model_class``; ``where`` names its origin in messages.

    Raises:
        RecipeError: ``data`` does not fit; the message lists every problem.
    """
    return _validate(data, model_class, where, {}, [])


def load_yaml(path: Path) -> JsonObject:
    """The mapping in a YAML file.

    Raises:
        RecipeError: the file cannot be read, is not YAML, is not a mapping, or repeats a key.
    """
    return _load(path, [])[0]


def apply_override(data: JsonObject, override: str) -> Steps:
    """Put the value of one ``a.b=c`` into ``data``, in place; the path that was set.

    Raises:
        RecipeError: the text has no ``=`` or no path, or the path does not exist in ``data``.
    """
    path, equals, text = override.partition("=")
    steps = _steps(path.strip())
    where = f"--set {_shown(override)}"
    if not equals or not steps:
        message = f"{where}: expected PATH=VALUE, such as --set section.key=1"
        raise RecipeError(message)
    value = parse_yaml(text, where)[0]
    node: JsonValue = data
    for depth, step in enumerate(steps):
        _check_step(node, step, dotted(steps[:depth]), where)
        if depth == len(steps) - 1:
            node[step] = value
        elif isinstance(node, dict) and node.get(step) is None:
            node[step] = {}
        node = node[step]
    return steps


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest known one, or all of them if they are few."""
    names = sorted(set(known))
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    if not names:
        return "nothing may be named here"
    listed = ", ".join(names[:_MANY]) + (", …" if len(names) > _MANY else "")
    return f"known: {listed}"


def one_line(value: str) -> str:
    """The text, for a field that is a name or a path.

    Raises:
        ValueError: it is blank, or holds a line end or another control character.
    """
    if not value.strip():
        message = f"found {value!r}, expected some text"
        raise ValueError(message)
    bad = next((each for each in value if unicodedata.category(each) in _BREAKING), None)
    if bad is not None:
        message = f"found {_shown(value)}, expected one line without control characters ({bad!r})"
        raise ValueError(message)
    return value


def _load(path: Path, keys: Sequence[str]) -> tuple[JsonObject, dict[Steps, int]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        message = f"{path}: there is no such recipe file. Check the path."
        raise RecipeError(message) from error
    except OSError as error:
        message = f"{path}: the recipe cannot be read ({error.strerror}). Name a readable file."
        raise RecipeError(message) from error
    except UnicodeDecodeError as error:
        message = f"{path}: byte {error.start} is not UTF-8. Save the recipe as UTF-8 text."
        raise RecipeError(message) from error
    data, lines = parse_yaml(text, str(path))
    if not isinstance(data, dict):
        named = f" with keys such as {', '.join(keys[:_FEW])}" if keys else ", KEY: VALUE"
        message = f"{path}: found {_kind(data)} at the top, expected a mapping{named}."
        raise RecipeError(message)
    return data, lines


def _steps(path: str) -> Steps:
    names = re.sub(r"\[([0-9]+)\]", r".\1", path).split(".")
    if not all(names) or len(names) > _DEEPEST:
        return ()
    return tuple(int(name) if _INDEX.fullmatch(name) else name for name in names)


def _check_step(node: JsonValue, step: str | int, path: str, where: str) -> None:
    fits = (isinstance(node, dict) and isinstance(step, str)) or (
        isinstance(node, list) and isinstance(step, int) and step < len(node)
    )
    if not fits:
        missing = f"item {step}" if isinstance(step, int) else _shown(step)
        found = f"a list of {counted(len(node), 'item')}" if isinstance(node, list) else _kind(node)
        message = f"{where}: {path} is {found}, so it has no {missing}"
        raise RecipeError(message)


def _validate(
    data: JsonObject,
    model_class: type[Model],
    where: str,
    lines: Mapping[Steps, int],
    problems: list[str],
) -> Model:
    from pydantic import ValidationError

    try:
        model = model_class.model_validate(data)
    except ValidationError as error:
        found = [_problem(each, data, model_class, lines) for each in error.errors()]
        raise _refusal(where, [*problems, *dict.fromkeys(found)]) from error
    if problems:
        raise _refusal(where, problems)
    return model


def _refusal(where: str, problems: list[str]) -> RecipeError:
    return RecipeError("\n  ".join([f"{where}: {counted(len(problems), 'problem')}", *problems]))


def _problem(
    error: ErrorDetails, data: JsonObject, model_class: type[Any], lines: Mapping[Steps, int]
) -> str:
    steps = _data_steps(error, data)
    line = lines.get(steps, lines.get(steps[:-1]) if error["type"] == "missing" else None)
    at = dotted(steps) + (f" (line {line})" if line else "")
    if error["type"] == "extra_forbidden":
        hint = did_you_mean(str(error["loc"][-1]), _known_names(model_class, error["loc"][:-1]))
        return f"{at}: unknown key; {hint}"
    if error["type"] == "missing":
        return f"{at}: is missing"
    if error["type"] == "union_tag_invalid":
        tag, tags = str(error["ctx"]["tag"]), str(error["ctx"]["expected_tags"])
        hint = did_you_mean(tag, re.findall(r"'([^']*)'", tags))
        return f"{at}: unknown kind {_shown(tag)}; {hint}"
    text = error["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    text = text.replace("a valid tuple", "a valid list")
    found = error["input"]
    if error["type"] == "value_error" or isinstance(found, dict | list):
        return f"{at}: {text}"
    expected = error.get("ctx", {}).get("expected", "")
    near = difflib.get_close_matches(str(found), re.findall(r"'([^']*)'", str(expected)), n=1)
    return f"{at}: {text}; found {_shown(found)}" + (f"; did you mean {near[0]!r}?" if near else "")


def _data_steps(error: ErrorDetails, data: JsonValue) -> Steps:
    """The path of an error in the file: pydantic's, without its tags of union members."""
    steps: list[str | int] = []
    last = len(error["loc"]) - 1
    for depth, step in enumerate(error["loc"]):
        inside = (isinstance(data, dict) and step in data) or (
            isinstance(data, list) and isinstance(step, int) and step < len(data)
        )
        if inside:
            data = data[step]
        if inside or (depth == last and error["type"] == "missing"):
            steps.append(step)
    return tuple(steps)


def _known_names(model_class: object, loc: Sequence[str | int]) -> set[str]:
    """Field names of the models that pydantic may have been filling at ``loc``."""
    kinds = list(_members(model_class))
    for step in loc:
        inner = [member for kind in kinds for member in _inside(kind, step)]
        tagged = [kind for kind in kinds if _is_tagged(kind, step)]
        kinds = inner or tagged or kinds
    return {
        field.alias or name
        for kind in kinds
        for name, field in getattr(kind, "model_fields", {}).items()
    }


def _inside(kind: object, step: str | int) -> Iterator[Any]:
    """Types that a value of type ``kind`` may have at ``step``."""
    origin, args = get_origin(kind), get_args(kind)
    if isinstance(step, int) and origin in {list, tuple, Sequence} and args:
        yield from _members(args[0])
    elif origin in {dict, Mapping} and args:
        yield from _members(args[1])
    else:
        for name, field in getattr(kind, "model_fields", {}).items():
            if step in {name, field.alias}:
                yield from _members(field.annotation)


def _members(annotation: object) -> Iterator[Any]:
    """The members of a union, each without ``Annotated``."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _members(get_args(annotation)[0])
    elif origin in {Union, UnionType}:
        for member in get_args(annotation):
            yield from _members(member)
    else:
        yield annotation


def _is_tagged(kind: object, step: str | int) -> bool:
    fields = getattr(kind, "model_fields", {}).values()
    literals = [field.annotation for field in fields if get_origin(field.annotation) is Literal]
    return getattr(kind, "__name__", None) == step or any(step in get_args(x) for x in literals)


def _kind(value: JsonValue) -> str:
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return "nothing" if value is None else f"the value {_shown(value)}"


def _shown(value: JsonValue) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
