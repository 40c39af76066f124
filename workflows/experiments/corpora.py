"""Makes the text of the experiments from public corpora: one JSON Lines file a kind of text.

    python workflows/experiments/corpora.py --corpora FOLDER [--output runs/experiments/text]

FOLDER holds, as they are downloaded,

* of NLTK's data: movie_reviews.zip, state_union.zip, inaugural.zip
  (``python -m nltk.downloader -d FOLDER movie_reviews state_union inaugural`` puts them into
  FOLDER/corpora, which will do as well);
* wiki.valid.raw, the validation part of WikiText-2, raw.

``technical`` is made of the docstrings of packages that the quickstart's teachers were not trained
on; they are there once the environment has its development tools (environment.sh dev).

What is written, below the output folder:

* ``<kind>.jsonl``: every document of a kind, what its expert is trained on;
* ``mixed/<kind>.jsonl``: the same lines, most of them blank: about as much text of every kind, for
  the cache that mixes them. Ids of documents, and with them splits, are made of the name of the
  source, the name of the file and the number of the line, so they agree in both.

Changing what a file holds, or its order, moves documents between splits: train the experts anew.

A line of text that an earlier document has is left out, so that no split repeats another.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from ckd_cache.corpus.docstrings import docstring_files, read_docstrings
from ckd_cache.corpus.records import DocstringsSource, ReadReport
from ckd_cache.numerics.splits import SPLIT_NAMES, split_of

FIT, TEST = 0.1, 0.2
"""Splits of every recipe here."""
CHARACTERS = {"train": 50_000, "fit": 200_000, "test": 400_000}
"""Of each kind in the mixed text, if it has as many."""
PACKAGES = ("docutils", "fontTools", "hypothesis", "matplotlib", "sphinx")
"""Whose docstrings are read; the quickstart's teachers were trained before any was installed."""
SHORTEST = 200
"""Characters of the shortest document."""
TELLING = 24
"""Letters and digits from which on a repeated line is no coincidence."""

_NOT_WORDS = re.compile(r"[\W_]+")
_HEADING = re.compile(r"^ = ([^=].*[^=]) = $")
_JOINED = re.compile(r" @(.)@ ")


class MissingCorpusError(Exception):
    """A file is not there; the message says how to get it."""


def main() -> None:
    """Write the text of every kind."""
    arguments = _arguments()
    if arguments.corpora is None:
        message = "Name the folder of the corpora: --corpora FOLDER, or CKD_CORPORA."
        raise SystemExit(message)
    try:
        # All is found before anything is written.
        kinds = {kind: list(read(arguments.corpora)) for kind, read in KINDS.items()}
    except MissingCorpusError as error:
        raise SystemExit(str(error)) from error
    for kind, documents in kinds.items():
        print(write_kind(arguments.output, kind, list(without_repeats(documents))))


def without_repeats(documents: Iterable[str]) -> Iterator[str]:
    """The documents without the lines that an earlier one has, and without very short ones.

    Lines are compared by their letters and digits; short ones may repeat.
    """
    seen: set[str] = set()
    for document in documents:
        own: set[str] = set()
        kept = []
        for line in document.splitlines():
            key = _NOT_WORDS.sub("", line.lower())
            if key not in seen:
                kept.append(line)
            if len(key) >= TELLING:
                own.add(key)
        seen |= own
        text = "\n".join(kept).strip()
        if len(text) >= SHORTEST:
            yield text


def write_kind(folder: Path, kind: str, documents: list[str]) -> str:
    """Write the files of a kind; a line that says what is in them."""
    name = f"{kind}.jsonl"
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in documents]
    splits = [
        SPLIT_NAMES[split_of(f"{kind}/{name}#{number}", FIT, TEST)]
        for number in range(1, len(documents) + 1)
    ]
    mixed = _some_of_each(documents, splits)
    (folder / "mixed").mkdir(parents=True, exist_ok=True)
    _write(folder / name, lines)
    _write(folder / "mixed" / name, [line if n in mixed else "" for n, line in enumerate(lines)])
    counts = ", ".join(f"{split} {splits.count(split):,}" for split in SPLIT_NAMES)
    size = sum(map(len, documents))
    whole = f"{kind}: {len(documents):,} documents ({counts}), {size:,} characters"
    return f"{whole}; mixed: {len(mixed):,} documents"


def _some_of_each(documents: list[str], splits: list[str]) -> set[int]:
    """Places of documents drawn until each split has its characters."""
    left = dict(CHARACTERS)
    drawn = set()
    # Neighbours are alike: modules of a package, speeches of a decade.
    for place in random.Random(0).sample(range(len(documents)), len(documents)):
        if left[splits[place]] > 0:
            drawn.add(place)
            left[splits[place]] -= len(documents[place])
    return drawn


def reviews(corpora: Path) -> Iterator[str]:
    """Reviews of films, one document each."""
    yield from _zipped(corpora, "movie_reviews", "/cv")


def speeches(corpora: Path) -> Iterator[str]:
    """Speeches of presidents of the United States, one document each."""
    for package in ("inaugural", "state_union"):
        yield from _zipped(corpora, package, "/1", "/2")


def technical(corpora: Path) -> Iterator[str]:
    """Docstrings of Python's modules: all of a module are one document.

    So methods that repeat each other stay in one split.
    """
    del corpora
    folders = map(_folder_of, PACKAGES)
    for folder in folders:
        source = DocstringsSource("docs", "technical", folder)
        names = {
            ".".join(Path(file.name).with_suffix("").parts).removesuffix(".__init__")
            for file in docstring_files(source)
        }
        modules: dict[str, list[str]] = {}
        for document in read_docstrings(source, ReadReport()):
            name = document.id.removeprefix("docs/").partition("#")[0]
            while name not in names and "." in name:
                name = name.rpartition(".")[0]
            modules.setdefault(name, []).append(document.text)
        for name in sorted(modules):
            yield "\n\n".join(modules[name])


def wiki(corpora: Path) -> Iterator[str]:
    """Articles of an encyclopaedia, one document each."""
    path = corpora / "wiki.valid.raw"
    if not path.is_file():
        message = (
            f"{path}: there is no such file. It is the validation part of WikiText-2 (raw), also "
            "called wiki.valid.raw in the archive wikitext-2-raw-v1.zip."
        )
        raise MissingCorpusError(message)
    article: list[str] = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        heading = _HEADING.match(line)
        if heading and article:
            yield "\n".join(article)
            article = []
        article.append(_JOINED.sub(r"\1", line).strip(" ="))
    yield "\n".join(article)


KINDS: dict[str, Callable[[Path], Iterator[str]]] = {
    "reviews": reviews,
    "speeches": speeches,
    "technical": technical,
    "wiki": wiki,
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = os.environ.get("CKD_CORPORA")
    parser.add_argument(
        "--corpora",
        type=Path,
        default=Path(default) if default else None,
        help="folder of the corpora; default: the environment variable CKD_CORPORA",
    )
    parser.add_argument("--output", type=Path, default=Path("runs/experiments/text"))
    return parser.parse_args()


def _zipped(corpora: Path, package: str, *starts: str) -> Iterator[str]:
    """Texts of the files of a package of NLTK's, sorted by name."""
    places = [corpora / f"{package}.zip", corpora / "corpora" / f"{package}.zip"]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        message = (
            f"{places[0]}: there is no such file, nor {places[1]}. Get it with "
            f"`python -m nltk.downloader -d {corpora} {package}`."
        )
        raise MissingCorpusError(message)
    with zipfile.ZipFile(found) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".txt") and any(start in name for start in starts):
                yield archive.read(name).decode("utf-8", errors="replace")


def _folder_of(package: str) -> Path:
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        message = f"{package}: the package is not installed. Install this project's requirements."
        raise MissingCorpusError(message)
    return Path(next(iter(found.submodule_search_locations)))


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
