"""YAML text into plain values, with the line of each, and nothing that a recipe has no use for.

The YAML is that of the 1.2 core schema, not PyYAML's 1.1: ``no``, ``on`` and ``2026-01-01`` are
strings, ``1e-3`` is a number. Duplicate keys are refused; so are tags of other types, lone
surrogates, deep nesting, and aliases that would make a small file a huge one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from ckd_cache.errors import RecipeError
from ckd_cache.types import JsonValue

if TYPE_CHECKING:
    import yaml

__all__ = ["Steps", "dotted", "parse_yaml"]

Steps: TypeAlias = tuple[str | int, ...]
"""The way from the top of a document to something in it: keys and indices."""

_TAGS = "tag:yaml.org,2002:"
_SCALARS: Mapping[str, re.Pattern[str]] = {
    "bool": re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"),
    "null": re.compile(r"^(?:~|null|Null|NULL|)$"),
    "int": re.compile(r"^(?:[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+)$"),
    "float": re.compile(
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
}
_FIRST = {"bool": "tTfF", "null": ["~", "n", "N", ""], "int": "-+0123456789"}
_FIRST_OF_FLOAT = "-+.0123456789"
_MERGE = re.compile(r"^<<$")
_SURROGATE = re.compile("[\ud800-\udfff]")
_MOST_LEVELS = 64
_MOST_DIGITS = 1_000
_MOST_REPEATED = 10_000
"""Values that aliases may stand for, all together: a few lines can name more than fit anywhere."""
_SHOWN = 40


def parse_yaml(text: str, where: str) -> tuple[JsonValue, dict[Steps, int]]:
    """The value of a YAML document, and the line of everything in it by its path.

    Args:
        text: one document.
        where: its origin, for messages.

    Raises:
        RecipeError: it is no YAML, or holds what no recipe may; the message names the line.
    """
    import yaml

    loader = None
    try:
        loader = _loader_class()(text)
        node = loader.get_single_node()
        if node is None:
            return None, {}
        lines = dict(_Walk(where).lines(node, (), frozenset()))
        return _unshared(loader.construct_document(node)), lines
    except yaml.YAMLError as error:
        message = f"{where}: not valid YAML{_reason(error, text)}"
        raise RecipeError(message) from error
    finally:
        if loader is not None:
            loader.dispose()


def dotted(steps: Steps) -> str:
    """A path as messages write it: ``corpus.sources[0].paths``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return text.removeprefix(".") or "the recipe"


def _unshared(value: JsonValue) -> JsonValue:
    """A copy in which what an alias repeats is a value of its own, so that one can be changed."""
    if isinstance(value, dict):
        return {key: _unshared(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unshared(item) for item in value]
    return value


def _loader_class() -> type[yaml.SafeLoader]:
    """PyYAML's safe loader with the scalars of YAML 1.2 (merge keys stay) and bounded depth."""
    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own protocol
        levels = 0

        def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
            if self.levels > _MOST_LEVELS:
                problem = f"lists and mappings are nested more than {_MOST_LEVELS} deep"
                untyped: Any = self
                mark = untyped.peek_event().start_mark
                raise yaml.composer.ComposerError(problem=problem, problem_mark=mark)
            self.levels += 1
            try:
                return super().compose_node(parent, index)
            finally:
                self.levels -= 1

    for name, pattern in _SCALARS.items():
        first = list(_FIRST.get(name, _FIRST_OF_FLOAT))
        Loader.add_implicit_resolver(f"{_TAGS}{name}", pattern, first)
    Loader.add_implicit_resolver(f"{_TAGS}merge", _MERGE, ["<"])
    return Loader


class _Walk:
    """One pass over the nodes of a document, before anything is made of them."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._seen: set[int] = set()
        self._repeated = 0

    def lines(
        self, node: yaml.Node, steps: Steps, above: frozenset[int]
    ) -> Iterator[tuple[Steps, int]]:
        """Line of everything by its path; refuses repeated keys and whatever is not plain."""
        import yaml

        yield steps, node.start_mark.line + 1
        self._count(node, above)
        inside = above | {id(node)}
        if isinstance(node, yaml.ScalarNode):
            self._check_scalar(node)
        elif node.tag not in {f"{_TAGS}seq", f"{_TAGS}map"}:
            raise RecipeError(self._bad_tag("a list or mapping", node.tag, node))
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                yield from self.lines(item, (*steps, index), inside)
        elif isinstance(node, yaml.MappingNode):
            yield from self._lines_of_mapping(node, steps, inside)

    def _lines_of_mapping(
        self, node: yaml.MappingNode, steps: Steps, inside: frozenset[int]
    ) -> Iterator[tuple[Steps, int]]:
        first: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            name = self._key_name(key, steps)
            path = (*steps, name)
            if name in first:
                message = (
                    f"{self._at(key)}: {dotted(path)} stands a second time "
                    f"(first on line {first[name]}). Keep one of the two."
                )
                raise RecipeError(message)
            first[name] = line
            yield from (
                (found, line if found == path else at)
                for found, at in self.lines(value, path, inside)
            )

    def _key_name(self, key: yaml.Node, steps: Steps) -> str:
        import yaml

        if isinstance(key, yaml.ScalarNode) and key.tag in {f"{_TAGS}str", f"{_TAGS}merge"}:
            self._check_text(key)
            return str(key.value)
        shown = repr(key.value) if isinstance(key, yaml.ScalarNode) else "'a list or mapping'"
        message = (
            f"{self._at(key)}: the key {shown} in {dotted(steps)} is not a string. "
            "Put it in quotes."
        )
        raise RecipeError(message)

    def _count(self, node: yaml.Node, above: frozenset[int]) -> None:
        if id(node) in above:
            message = f"{self._at(node)}: an alias contains itself."
            raise RecipeError(message)
        self._repeated += id(node) in self._seen
        self._seen.add(id(node))
        if self._repeated > _MOST_REPEATED:
            message = (
                f"{self._at(node)}: aliases (*) repeat this and other values more than "
                f"{_MOST_REPEATED:,} times. Write the recipe without aliases of aliases."
            )
            raise RecipeError(message)

    def _check_scalar(self, node: yaml.ScalarNode) -> None:
        self._check_text(node)
        name = node.tag.removeprefix(_TAGS)
        pattern = _SCALARS.get(name)
        if name == "str" or (pattern is not None and pattern.fullmatch(node.value)):
            if name == "int" and len(node.value) > _MOST_DIGITS:
                message = f"{self._at(node)}: found an integer of {len(node.value):,} digits."
                raise RecipeError(message)
            return
        raise RecipeError(self._bad_tag(_short(node.value), node.tag, node))

    def _bad_tag(self, found: str, tag: str, node: yaml.Node) -> str:
        return (
            f"{self._at(node)}: found {found} with the tag {tag.replace(_TAGS, '!!')}, expected "
            "strings, numbers, true, false, null, lists and mappings without tags. Remove the tag, "
            "or put a string in quotes."
        )

    def _check_text(self, node: yaml.ScalarNode) -> None:
        if _SURROGATE.search(node.value):
            message = (
                f"{self._at(node)}: {_short(node.value)} holds half of a surrogate pair, which is "
                "no character. Write the character itself."
            )
            raise RecipeError(message)

    def _at(self, node: yaml.Node) -> str:
        return f"{self._where}, line {node.start_mark.line + 1}"


def _short(value: str) -> str:
    return repr(value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…")


def _reason(error: yaml.YAMLError, text: str) -> str:
    import yaml

    if isinstance(error, yaml.reader.ReaderError):
        return _bad_character(error.position, text)
    mark = getattr(error, "problem_mark", None)
    said = [getattr(error, name, None) for name in ("context", "problem")]
    problem = ", ".join(part for part in said if part) or str(error)
    if mark is None:
        return f": {problem}."
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    hint = " YAML indents with spaces, never tabs." if "\t" in line else ""
    return f" at line {mark.line + 1}, column {mark.column + 1}: {problem}.{hint}"


def _bad_character(position: int, text: str) -> str:
    line = text.count("\n", 0, position) + 1
    found = text[position]
    if _SURROGATE.match(found):
        return (
            f" at line {line}: there is a byte that is no text in this locale. "
            "Use a UTF-8 locale, such as LC_ALL=C.UTF-8."
        )
    return f" at line {line}: found the control character U+{ord(found):04X}. Remove it."
