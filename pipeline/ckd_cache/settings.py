"""Recipes: a YAML file and ``--set`` values into a validated model, all problems at once.

The YAML is that of the 1.2 core schema, not PyYAML's 1.1: ``no``, ``on`` and ``2026-01-01`` are
strings, ``1e-3`` is a number. Duplicate keys are refused.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from ckd_cache.errors import RecipeError
from ckd_cache.types import JsonObject, JsonValue

if TYPE_CHECKING:
    import yaml
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

__all__ = ["apply_override", "did_you_mean", "load_yaml", "parse_settings", "read_settings"]

Model = TypeVar("Model", bound="BaseModel")
Steps = tuple[str | int, ...]

_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_NULL = re.compile(r"^(?:~|null|Null|NULL|)$")
_INT = re.compile(r"^(?:[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+)$")
_FLOAT = re.compile(
    r"^(?:[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_MANY = 12


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
    data, lines = _load(path)
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
    return _load(path)[0]


def apply_override(data: JsonObject, override: str) -> Steps:
    """Put the value of one ``a.b=c`` into ``data``, in place; the path that was set.

    Raises:
        RecipeError: the text has no ``=`` or no path, or the path does not exist in ``data``.
    """
    dotted, equals, text = override.partition("=")
    steps = _steps(dotted.strip())
    if not equals or not steps:
        message = f"--set {override!r}: expected PATH=VALUE, for example --set training.seed=1"
        raise RecipeError(message)
    value = _parse(text, f"--set {override!r}")[0]
    node: JsonValue = data
    for depth, step in enumerate(steps):
        _check_step(node, step, _dotted(steps[:depth]), override)
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


def _load(path: Path) -> tuple[JsonObject, dict[Steps, int]]:
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
    data, lines = _parse(text, str(path))
    if not isinstance(data, dict):
        message = (
            f"{path}: found {_kind(data)} at the top, expected a mapping such as "
            "'training: {max_steps: 100}'."
        )
        raise RecipeError(message)
    return data, lines


def _parse(text: str, where: str) -> tuple[JsonValue, dict[Steps, int]]:
    import yaml

    loader = _loader_class()(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, {}
        lines = dict(_lines(node, (), where, set()))
        data = loader.construct_document(node)
    except yaml.YAMLError as error:
        message = f"{where}: not valid YAML{_yaml_reason(error, text)}"
        raise RecipeError(message) from error
    finally:
        loader.dispose()
    return data, lines


def _loader_class() -> type[yaml.SafeLoader]:
    """PyYAML's safe loader with the scalars of YAML 1.2 (merge keys stay)."""
    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own protocol

    for tag, pattern, first in (
        ("bool", _BOOL, "tTfF"),
        ("null", _NULL, ["~", "n", "N", ""]),
        ("int", _INT, "-+0123456789"),
        ("float", _FLOAT, "-+.0123456789"),
        ("merge", re.compile(r"^<<$"), "<"),
    ):
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", pattern, list(first))
    return Loader


def _lines(
    node: yaml.Node, steps: Steps, where: str, above: set[int]
) -> Iterator[tuple[Steps, int]]:
    """Line of everything in a document by its path; refuses repeated keys and odd ones."""
    import yaml

    yield steps, node.start_mark.line + 1
    if id(node) in above:
        message = f"{where}, line {node.start_mark.line + 1}: an alias contains itself."
        raise RecipeError(message)
    inside = above | {id(node)}
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _lines(item, (*steps, index), where, inside)
    if isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            name = _key_name(key, steps, where)
            if name in first:
                message = (
                    f"{where}, line {line}: {_dotted((*steps, name))} stands a second time "
                    f"(first on line {first[name]}). Keep one of the two."
                )
                raise RecipeError(message)
            first[name] = line
            yield from (
                (path, line if path == (*steps, name) else at)
                for path, at in _lines(value, (*steps, name), where, inside)
            )


def _key_name(key: yaml.Node, steps: Steps, where: str) -> str:
    import yaml

    if isinstance(key, yaml.ScalarNode) and key.tag.rsplit(":", 1)[-1] in {"str", "merge"}:
        return str(key.value)
    shown = key.value if isinstance(key, yaml.ScalarNode) else "a list or mapping"
    message = (
        f"{where}, line {key.start_mark.line + 1}: the key {shown!r} in {_dotted(steps)} is not a "
        "string. Put it in quotes."
    )
    raise RecipeError(message)


def _yaml_reason(error: yaml.YAMLError, text: str) -> str:
    mark = getattr(error, "problem_mark", None)
    said = [getattr(error, name, None) for name in ("context", "problem")]
    problem = ", ".join(part for part in said if part) or str(error)
    if mark is None:
        return f": {problem}."
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    hint = " YAML indents with spaces, never tabs." if "\t" in line else ""
    return f" at line {mark.line + 1}, column {mark.column + 1}: {problem}.{hint}"


def _steps(dotted: str) -> Steps:
    names = re.sub(r"\[(\d+)\]", r".\1", dotted).split(".")
    if not all(names):
        return ()
    return tuple(int(name) if name.isdecimal() else name for name in names)


def _check_step(node: JsonValue, step: str | int, path: str, override: str) -> None:
    fits = (isinstance(node, dict) and isinstance(step, str)) or (
        isinstance(node, list) and isinstance(step, int) and step < len(node)
    )
    if not fits:
        found = f"a list of {len(node)}" if isinstance(node, list) else _kind(node)
        message = f"--set {override!r}: {path} is {found}, so it has no {step!r}"
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
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return RecipeError("\n  ".join([f"{where}: {count}", *problems]))


def _problem(
    error: ErrorDetails, data: JsonObject, model_class: type[Any], lines: Mapping[Steps, int]
) -> str:
    steps = _data_steps(error, data)
    line = lines.get(steps, lines.get(steps[:-1]) if error["type"] == "missing" else None)
    at = _dotted(steps) + (f" (line {line})" if line else "")
    if error["type"] == "extra_forbidden":
        hint = did_you_mean(str(error["loc"][-1]), _known_names(model_class, error["loc"][:-1]))
        return f"{at}: unknown key; {hint}"
    if error["type"] == "missing":
        return f"{at}: is missing"
    if error["type"] == "union_tag_invalid":
        tag, tags = str(error["ctx"]["tag"]), str(error["ctx"]["expected_tags"])
        hint = did_you_mean(tag, re.findall(r"'([^']*)'", tags))
        return f"{at}: unknown kind {tag!r}; {hint}"
    text = error["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    found = error["input"]
    if error["type"] == "value_error" or isinstance(found, dict | list):
        return f"{at}: {text}"
    expected = error.get("ctx", {}).get("expected", "")
    near = difflib.get_close_matches(str(found), re.findall(r"'([^']*)'", str(expected)), n=1)
    return f"{at}: {text}; found {found!r}" + (f"; did you mean {near[0]!r}?" if near else "")


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


def _dotted(steps: Steps) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return text.removeprefix(".") or "the recipe"


def _kind(value: JsonValue) -> str:
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return "nothing" if value is None else f"the value {value!r}"
