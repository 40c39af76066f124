"""The promises of the repository about itself: sizes, words, light start, scripts, versions."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = [ROOT / "pipeline" / "ckd_cache", ROOT / "student" / "ckd_student"]
MODULES = sorted(path for package in PACKAGES for path in package.rglob("*.py"))
SCRIPTS = sorted([*(ROOT / "workflows").rglob("*.sh"), ROOT / ".ci" / "run"])
PAGES = sorted(
    [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "workflows").rglob("*.y*ml")]
)
MAX_LINES = 400
HEAVY = {
    "dask", "matplotlib", "numpy", "pyarrow", "pydantic", "torch", "transformers", "yaml", "zarr",
}  # fmt: skip

# What people write when they mean a word of docs/concepts.md.
SYNONYMS = {
    r"soft (label|target)s?": "target",
    r"ground truth": "gold",
    r"pseudo labels?": "target",
    r"(correct|true) token": "gold",
    r"mask(ed)? positions?": "slot",
    r"prediction (site|position)s?": "slot",
    r"mixture weights?": "prediction weight",
    r"ensembles?": "mixture or target",
    r"(residual|remaining|leftover|rest) mass": "tail",
    r"log probs?": "logprob",
    r"data ?stores?": "cache",
    r"(masking|mask) (round|pass)(es)?": "view",
    r"train(ing)? split ratios?": "splits",
    r"row groups? of slots": "chunk",
}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_module_is_short_and_says_what_it_is(path: Path) -> None:
    tree = tree_of(path)
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES
    assert ast.get_docstring(tree)
    assert path.stem not in {"utils", "util", "helpers", "helper", "manager", "misc", "common"}


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_public_names_are_listed_sorted_and_documented(path: Path) -> None:
    tree = tree_of(path)
    listed = exported(tree)
    if path.name != "__init__.py":
        assert listed is not None, "every module has __all__"
    assert listed is None or listed == sorted(listed, key=constants_classes_functions)
    undocumented = [name for name, node in public(tree) if not ast.get_docstring(node)]
    assert undocumented == []


def exported(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


def constants_classes_functions(name: str) -> tuple[int, str]:
    if name.isupper():
        return 0, name
    return (1 if name[0].isupper() else 2), name


Documented = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def public(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, Documented]]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, Documented) or child.name.startswith("_"):
            continue
        if any(ast.unparse(each) in {"overload", "override"} for each in child.decorator_list):
            continue
        yield f"{prefix}{child.name}", child
        if isinstance(child, ast.ClassDef):
            yield from public(child, f"{child.name}.")


def test_the_test_of_docstrings_sees_methods() -> None:
    tree = ast.parse("class A:\n    'Doc.'\n    def b(self): ...\n    def _c(self): ...\n")
    assert [name for name, node in public(tree) if not ast.get_docstring(node)] == ["A.b"]


@pytest.mark.parametrize(
    "statement",
    [
        "import ckd_cache",
        "import ckd_student",
        "import ckd_cache.cli.main",
        "import ckd_student.cli",
        *(
            f"import {'.'.join(path.parent.relative_to(ROOT / 'pipeline').parts)}"
            for path in MODULES
            if path.name == "__init__.py" and path.parent.name not in {"ckd_cache", "ckd_student"}
        ),
    ],
)
def test_start_is_light(statement: str) -> None:
    assert loaded_after(statement) & HEAVY == set()


@pytest.mark.parametrize("group", ["ckd_cache.cli.main:cli", "ckd_student.cli:cli"])
def test_help_is_light(group: str) -> None:
    module, _, name = group.partition(":")
    loaded = loaded_after(
        f"import {module}; {module}.{name}.main(['--help'], standalone_mode=False)"
    )
    assert loaded & HEAVY == set()
    assert "click" in loaded


def loaded_after(statement: str) -> set[str]:
    """Top-level modules that are loaded after ``statement`` in a fresh interpreter."""
    code = f"{statement}\nimport sys\nsys.stderr.write(' '.join(sys.modules))"
    path = os.pathsep.join(str(package.parent) for package in PACKAGES)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stderr.split()}


def test_the_test_of_light_start_sees_heavy_modules() -> None:
    assert loaded_after("import ckd_cache.types") & HEAVY == {"numpy"}


@pytest.mark.parametrize("path", [*MODULES, *PAGES], ids=relative)
def test_words_are_those_of_the_concepts_page(path: Path) -> None:
    found = list(synonyms_in(path.read_text(encoding="utf-8")))
    assert found == [], "docs/concepts.md has a word for this"


def synonyms_in(text: str) -> Iterator[str]:
    plain = re.sub(r"[\s_-]+", " ", text).lower()
    for pattern, word in SYNONYMS.items():
        for match in re.finditer(rf"\b{pattern}\b", plain):
            yield f"{match.group()!r}: say {word}"


def test_the_test_of_words_sees_identifiers_and_line_breaks() -> None:
    assert len(list(synonyms_in("the ground\ntruth, n_mixture_weights, a log-prob"))) == 3


def test_commands_are_words_of_the_concepts_page() -> None:
    import click

    from ckd_cache.cli.main import cli
    from ckd_student.cli import cli as student

    page = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")
    for name, group in {"ckd-cache": cli, "ckd-student": student}.items():
        row = re.search(rf"^\| (.*) \| verbs of `{name}` \|$", page, re.MULTILINE)
        assert row is not None
        commands = group.list_commands(click.Context(group))
        assert commands
        assert set(commands) <= set(row.group(1).split(", "))


@pytest.mark.parametrize("path", SCRIPTS, ids=relative)
def test_scripts_are_executable_and_parse(path: Path) -> None:
    assert os.access(path, os.X_OK)
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    assert first == "#!/usr/bin/env bash" or path.name == "environment.sh"
    done = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_one_version_everywhere() -> None:
    import ckd_cache

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (\S+)", changelog, re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert headings[1] == project["version"] == ckd_cache.__version__


def test_constraints_hold_what_is_declared() -> None:
    """Every dependency and tool has a pin, tools the same one in both files."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", text, re.MULTILINE))
    pins = {normal(name): version for name, version in pins.items()}
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    tools = [
        tool
        for group in declared["dependency-groups"].values()
        for tool in group
        if str(tool) == tool
    ]
    for requirement in [
        *declared["project"]["dependencies"],
        *declared["build-system"]["requires"],
    ]:
        assert normal(re.split(r"[\[<>=]", requirement)[0]) in pins
    for tool in tools:
        name, _, version = tool.partition("==")
        assert pins[normal(name)] == version
    assert "pip" in pins
    assert not [line for line in pins.values() if "+" in line]


def test_what_is_imported_is_declared() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {normal(re.split(r"[\[<>=]", each)[0]) for each in declared["dependencies"]}
    known = {*names, "yaml", "pydantic-core", "ckd-cache", "ckd-student"}
    found = {normal(name): relative(path) for path in MODULES for name in imports_of(tree_of(path))}
    undeclared = {name: path for name, path in found.items() if name not in known}
    assert undeclared == {}


def imports_of(tree: ast.Module) -> Iterator[str]:
    """Top-level packages that a module imports anywhere, the standard library's left out."""
    for node in ast.walk(tree):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module]
        for module in modules:
            if module.partition(".")[0] not in sys.stdlib_module_names:
                yield module.partition(".")[0]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_ci_calls_the_two_scripts_and_nothing_else() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    called = [line for line in lines if line.startswith("bash ")]
    assert [line.split()[1] for line in called] == ["workflows/check.sh", "workflows/test.sh"]
    assert "export CKD_TESTS=full" in lines
