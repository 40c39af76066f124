"""Everything that can be read of a cache, and the kinds of its files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

import ckd_cache
from ckd_cache.format.reader import open_cache
from ckd_cache.types import Array


def read_everything(cache: Path) -> dict[str, Array]:
    """Every array and every row that readers give, by name."""
    # The way people open a cache must not differ from what it is made of.
    ckd_cache.open(cache)
    text = open_cache(cache).set("text")
    whole = (0, text.n_examples)
    examples = text.examples.read(*whole)
    read = {f"examples/{name}": examples[name] for name in examples.keys()}  # noqa: SIM118
    read["splits"] = text.examples.splits(*whole)
    segments = text.examples.segments(*whole)
    for name in ("input_ids", "word_starts"):
        read[f"segments/{name}"] = np.concatenate(getattr(segments, name))
    spans = [span for row in segments.spans for span in row]
    read["spans"] = np.array([[getattr(s, f) for f in type(s).__slots__] for s in spans])
    documents = text.examples.documents({span.document for span in spans})
    read["documents"] = np.array([repr(row) for row in documents.values()])
    support = text.support.files
    read["support"] = np.array([support.kind, support.size, repr(support.special)])
    for kind, readers in (("teachers", text.teachers), ("targets", text.targets)):
        for name, reader in readers.items():
            arrays = reader.read(*whole)
            read |= {f"{kind}/{name}/{a}": arrays[a] for a in arrays.keys()}  # noqa: SIM118
    return read


def same(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    """Whether everything read is the same to the last bit."""
    return one.keys() == other.keys() and all(
        array.dtype == other[name].dtype and array.tobytes() == other[name].tobytes()
        for name, array in one.items()
    )


def files_by_kind(cache: Path) -> dict[str, list[str]]:
    """The files of a cache, by what they are: arrays of teachers and targets by their name."""
    kinds: dict[str, list[str]] = {}
    for row in open_cache(cache).files.rows:
        kinds.setdefault(_kind(row.path), []).append(row.path)
    kinds["manifest"] = ["ckd.json"]
    record = open_cache(cache).manifest.files
    kinds["files table"] = [str(record.path)]
    kinds["previous table"] = [str(record.previous)]
    return kinds


def _kind(path: str) -> str:
    steps = path.split("/")
    if steps[0] == "supports":
        return "support.json" if steps[-1] == "support.json" else "tokenizer"
    if steps[1] in {"segments", "slots"}:
        return "documents" if "documents-" in path else steps[1]
    if steps[-1] == "zarr.json":
        return f"{steps[1]} {'group' if len(steps) == 5 else 'documents'}"
    return f"{steps[1]} {steps[4]}"
