"""Nothing depends on the time of day: clocks jump, and machines that share a cache disagree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

CLOCKS = {
    ("time", "time"),
    ("time", "time_ns"),
    ("time", "gmtime"),
    ("time", "localtime"),
    ("time", "ctime"),
    ("time", "strftime"),
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("datetime", "today"),
    ("date", "today"),
}
STAMPS = {"st_mtime", "st_ctime", "st_atime", "st_mtime_ns", "st_ctime_ns", "st_atime_ns"}
STAMPS |= {"getmtime", "getctime", "getatime", "utime", "birthtime", "st_birthtime"}
OPAQUE = "pipeline/ckd_cache/format/access.py"
"""Compares a stamp with itself, for equality: has the file been replaced since it was hashed?"""


def uses_of_clocks(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            owner = getattr(node.value, "id", getattr(node.value, "attr", ""))
            if (owner, node.attr) in CLOCKS or node.attr in STAMPS:
                yield f"{path}:{node.lineno}: {owner}.{node.attr}"
        elif isinstance(node, ast.ImportFrom):
            for name in node.names:
                if node.module == "datetime" or (node.module, name.name) in CLOCKS:
                    yield f"{path}:{node.lineno}: from {node.module} import {name.name}"


@pytest.mark.parametrize("root", ["pipeline", "student"])
def test_no_module_asks_for_the_time_of_day(repository_root, root):
    modules = sorted((repository_root / root).rglob("*.py"))
    assert len(modules) > 20
    found = [
        use
        for module in modules
        if module != repository_root / OPAQUE
        for use in uses_of_clocks(module)
    ]
    assert found == []


def test_the_stamp_of_a_file_is_only_compared_for_equality(repository_root):
    uses = [use.rpartition(": ")[2] for use in uses_of_clocks(repository_root / OPAQUE)]
    assert uses == ["stat.st_mtime_ns"]


@pytest.mark.parametrize(
    "text",
    [
        "import time\ntime.time()",
        "import datetime\ndatetime.datetime.now()",
        "from datetime import UTC",
        "from time import time",
        "path.stat().st_mtime",
        "os.path.getmtime(path)",
    ],
)
def test_uses_are_found(tmp_path, text):
    (tmp_path / "module.py").write_text(text)
    assert list(uses_of_clocks(tmp_path / "module.py"))
