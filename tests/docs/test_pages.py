"""README and documentation: links lead somewhere, commands exist, code blocks run.

A block that cannot run here is preceded by the comment ``<!-- not run: reason -->``.
"""

import contextlib
import importlib
import io
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest

from ckd_cache.build.recipe import Recipe
from ckd_cache.settings import load_yaml, parse_settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SHELL = {"bash", "console", "sh", "shell"}
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>.+?) -->\n+)?^```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page."""

    page: Path
    language: str
    text: str
    line: int
    runs: bool


def blocks_in(page: Path) -> Iterator[Block]:
    content = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(content):
        line = content.count("\n", 0, match.start("text")) + 1
        yield Block(page, match["language"], match["text"], line, not match["reason"])


BLOCKS = [block for page in PAGES for block in blocks_in(page)]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def place(block: Block) -> str:
    return f"{relative(block.page)}:{block.line}"


def anchors_of(page: Path) -> set[str]:
    """Anchors of the headings, as GitHub and MyST make them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#{1,6} (.+)$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.strip().lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    broken = [
        link
        for link in re.findall(r"\]\(([^)\s]+)\)", text)
        if not re.match(r"https?://|mailto:", link) and not leads_somewhere(page, link)
    ]
    assert broken == []


def leads_somewhere(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = page.parent / name if name else page
    if not target.exists():
        return False
    return not anchor or anchor in anchors_of(target)


def test_the_test_of_links_sees_broken_ones(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One `two`, three\n", encoding="utf-8")
    assert leads_somewhere(page, "#one-two-three")
    assert leads_somewhere(page, "page.md")
    assert not leads_somewhere(page, "page.md#four")
    assert not leads_somewhere(page, "other.md")


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"(?<![\w/.-])((?:workflows|docs|tests|\.ci)/[\w./-]+\w)", text)
    missing = [name for name in named if not (ROOT / name).exists() and "_build" not in name]
    assert missing == []


def commands_in(text: str) -> Iterator[list[str]]:
    """Calls of the two commands and of bash in a shell block, split into words."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        if words and words[0] in {"ckd-cache", "ckd-student", "bash"}:
            yield words


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in SHELL], ids=place)
def test_commands_exist(block: Block) -> None:
    for words in commands_in(block.text):
        if words[0] == "bash":
            assert words[1] == "-c" or (ROOT / words[1]).is_file(), words
        else:
            assert problems_of(words) == [], words


def problems_of(words: list[str]) -> list[str]:
    """What a command line says that the command does not know."""
    group = group_of(words[0])
    context = click.Context(group)
    if len(words) == 1 or words[1].startswith("-"):
        return unknown_options(group, words[1:])
    command = group.get_command(context, words[1])
    if command is None:
        return [f"no command {words[1]}"]
    return unknown_options(command, words[2:])


def unknown_options(command: click.Command, words: list[str]) -> list[str]:
    context = click.Context(command, help_option_names=["-h", "--help"])
    known = {option for each in command.get_params(context) for option in each.opts}
    given = (word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word))
    return [f"{command.name} has no {option}" for option in given if option not in known]


def group_of(script: str) -> click.Group:
    """The group that a console script calls."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    module = importlib.import_module(declared["project"]["scripts"][script].partition(":")[0])
    return next(value for value in vars(module).values() if isinstance(value, click.Group))


def test_the_test_of_commands_sees_wrong_ones() -> None:
    assert problems_of(["ckd-cache", "build", "r.yaml", "--cache", "c"]) == []
    assert problems_of(["ckd-cache", "build", "r.yaml", "--kache", "c"]) != []
    assert problems_of(["ckd-cache", "bild", "r.yaml"]) != []


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "yaml"], ids=place)
def test_recipes_are_valid(block: Block, tmp_path: Path) -> None:
    """Whole recipes fit the model of recipes; fragments are at least mappings in YAML."""
    path = tmp_path / "recipe.yaml"
    path.write_text(block.text, encoding="utf-8")
    data = load_yaml(path)
    if block.runs and "teachers" in data and ("corpus" in data or "sets" in data):
        parse_settings(data, Recipe, place(block))


@pytest.fixture(scope="module")
def quickstart_folder(tmp_path_factory: pytest.TempPathFactory, tiny_texts: list[str]) -> Path:
    """A folder like a checkout after the quickstart, with a cache of very little text."""
    from click.testing import CliRunner

    from ckd_cache.cli.main import cli

    folder = tmp_path_factory.mktemp("docs")
    (folder / "text.txt").write_text("\n\n".join(tiny_texts[:80]), encoding="utf-8")
    cache = folder / "runs" / "quickstart" / "quick.ckd"
    cache.parent.mkdir(parents=True)
    source = f"{{kind: text, genre: technical, paths: ['{folder / 'text.txt'}']}}"
    recipe = str(ROOT / "workflows" / "quickstart.yaml")
    settings = ["--set", f"corpus.sources=[{source}]", "--set", "splits={fit: 0.1, test: 0.1}"]
    done = CliRunner().invoke(cli, ["build", recipe, "--cache", str(cache), *settings])
    assert done.exit_code == 0, done.output
    (folder / "runs" / "quick.ckd").symlink_to(cache, target_is_directory=True)
    return folder


@pytest.mark.parametrize(
    "page", sorted({b.page for b in BLOCKS if b.language == "python" and b.runs}), ids=relative
)
def test_python_blocks_run(
    page: Path, quickstart_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks of a page run in order in one namespace, as a reader would type them."""
    monkeypatch.chdir(quickstart_folder)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks_in(page):
        if block.language == "python" and block.runs:
            # Line numbers of the page, so that a traceback points into it.
            code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
            with contextlib.redirect_stdout(io.StringIO()):
                exec(code, namespace)
