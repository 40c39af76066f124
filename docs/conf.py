"""How Sphinx builds this folder: ``bash workflows/docs.sh``."""

from __future__ import annotations

import tomllib
from pathlib import Path

_PROJECT = tomllib.loads(
    (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8")
)["project"]

project = _PROJECT["name"]
author = "the ckd-cache authors"
copyright = author
version = release = _PROJECT["version"]

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = True

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"{project} {version}"
html_static_path: list[str] = []
# Beside the pages too, under a name that programs can rely on.
html_extra_path = ["manifest.schema.json", "manifest-v1.schema.json"]
