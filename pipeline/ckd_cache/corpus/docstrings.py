"""The docstrings of the standard library: real English on every machine.

Modules are parsed, never imported.
"""

from __future__ import annotations

import ast
import inspect
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from ckd_cache.corpus.decoding import is_storable
from ckd_cache.corpus.files import SourceFile, hash_files
from ckd_cache.corpus.records import DocstringsSource, Document, ReadReport
from ckd_cache.errors import CorpusError

__all__ = ["docstring_files", "hash_docstrings", "read_docstrings"]

_NOT_LIBRARY = frozenset(
    {"__pycache__", "dist-packages", "idle_test", "site-packages", "test", "tests"}
)
_OF_THE_MACHINE = ("_sysconfigdata", "sitecustomize", "usercustomize")
_SUITES = ("body", "handlers", "orelse", "finalbody", "cases")

_Definition: TypeAlias = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def read_docstrings(spec: DocstringsSource, report: ReadReport) -> Iterator[Document]:
    """One document for each docstring of a module, class or function, modules sorted by name.

    Ids are ``<source>/<module>.<qualified name>``; later ones of the same name get ``#2``, ….

    Raises:
        CorpusError: there is no standard library to read.
    """
    seen: Counter[str] = Counter()
    for file in docstring_files(spec):
        for name, text in _docstrings_of(file, report):
            seen[name] += 1
            place = f"#{seen[name]}" if seen[name] > 1 else ""
            if is_storable(text):
                yield Document(f"{spec.name}/{name}{place}", text, spec.name, spec.genre)


def hash_docstrings(spec: DocstringsSource) -> str:
    """sha256 over the (path, sha256) pairs of the modules read.

    Raises:
        CorpusError: there is no standard library to read.
    """
    return hash_files(docstring_files(spec))


def docstring_files(spec: DocstringsSource) -> list[SourceFile]:
    """The modules that are read, sorted by name; tests and installed packages are left out.

    Raises:
        CorpusError: the folder of the standard library holds no modules.
    """
    folder = spec.folder or Path(sysconfig.get_path("stdlib"))
    paths = sorted((_module_of(path, folder), path) for path in _python_files(folder))
    if not paths:
        message = (
            f"{folder}: found no Python modules, expected the standard library's source. "
            "Use another source of documents, or a Python that ships its library as files."
        )
        raise CorpusError(message)
    return [SourceFile(path, path.relative_to(folder).as_posix()) for _, path in paths]


def _python_files(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.is_dir():
            if path.name not in _NOT_LIBRARY and not path.is_symlink():
                yield from _python_files(path)
        elif path.suffix == ".py" and not path.name.startswith(_OF_THE_MACHINE):
            yield path


def _module_of(path: Path, folder: Path) -> str:
    parts = path.relative_to(folder).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _docstrings_of(file: SourceFile, report: ReadReport) -> Iterator[tuple[str, str]]:
    folder = file.path.parents[file.name.count("/")]
    module = _module_of(file.path, folder)
    try:
        tree = _parse(file.path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, OSError) as error:
        report.skip(f"{file.path}: the module does not parse ({error})")
        return
    yield from _documented(module, tree)
    for name, definition in _definitions(tree, module):
        yield from _documented(name, definition)


def _parse(source: bytes) -> ast.Module:
    with warnings.catch_warnings():
        # What old library code is warned about is no business of who reads its docstrings.
        warnings.simplefilter("ignore")
        return ast.parse(source)


def _documented(name: str, node: ast.Module | _Definition) -> Iterator[tuple[str, str]]:
    raw = ast.get_docstring(node, clean=False)
    if raw is not None:
        yield name, inspect.cleandoc(raw)


def _definitions(node: ast.AST, name: str) -> Iterator[tuple[str, _Definition]]:
    """Classes and functions below a node in the order of the source, with qualified names."""
    for child in _statements(node):
        if isinstance(child, _DEFINITIONS):
            qualified = f"{name}.{child.name}"
            yield qualified, child
            yield from _definitions(child, qualified)
        else:
            yield from _definitions(child, name)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    for suite in _SUITES:
        yield from getattr(node, suite, ())
