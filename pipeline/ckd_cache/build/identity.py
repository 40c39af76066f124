"""Identity fields of every artefact (docs/format.md, Fingerprints), and their comparison."""

from __future__ import annotations

from collections.abc import Mapping

from ckd_cache.build.recipe import Capture, Corpus, MaskedLm, Splits, Teacher
from ckd_cache.build.recipe_sources import Source, source_name
from ckd_cache.errors import MismatchError
from ckd_cache.fingerprint import differences
from ckd_cache.format.identities import target_part_identity, teacher_part_identity
from ckd_cache.format.spec import NUMERICS_VERSION
from ckd_cache.types import JsonObject

__all__ = [
    "refuse_change",
    "segments_identity",
    "slots_identity",
    "target_part_identity",
    "teacher_identity",
    "teacher_part_identity",
]

_SHOWN = 5
_NOT_IDENTITY = ("name", "on_error", "paths")


def segments_identity(
    corpus: Corpus, contents: Mapping[str, str], tokenizer: str, splits: Splits
) -> JsonObject:
    """Identity of an increment's segments.

    Args:
        corpus: the recipe's corpus.
        contents: fingerprint of what each source holds, by name, in reading order.
        tokenizer: fingerprint of the tokenizer's behaviour.
        splits: shares of the splits.
    """
    return {
        "sources": {
            source_name(source): _source_identity(source, contents) for source in corpus.sources
        },
        "source_order": [source_name(source) for source in corpus.sources],
        "tokenizer": tokenizer,
        "segment_tokens": corpus.segment_tokens,
        "pack": corpus.pack,
        "splits": splits.model_dump(mode="json"),
        "deduplicate": corpus.deduplicate,
    }


def slots_identity(segments: str, objective: MaskedLm, view: int) -> JsonObject:
    """Identity of one view of the segments with fingerprint ``segments``."""
    fraction = objective.mask_fraction
    return {
        "segments": segments,
        "mask_fraction": list(fraction) if isinstance(fraction, tuple) else fraction,
        "corruption": objective.corruption.model_dump(mode="json"),
        "whole_word": objective.whole_word,
        "seed": objective.seed,
        "view": view,
    }


def teacher_identity(
    weights: Mapping[str, str], config: str, teacher: Teacher, capture: Capture
) -> JsonObject:
    """Identity of what a teacher says and of what is kept of it, whatever the slots."""
    return {
        "weights": dict(weights),
        "config": config,
        "dtype": teacher.dtype,
        "attention": teacher.attention,
        "numerics": NUMERICS_VERSION,
        **capture.model_dump(mode="json"),
    }


def refuse_change(
    artefact: str, stored: JsonObject, current: JsonObject, *, named: bool = True
) -> None:
    """Check that an artefact which is in the cache is the one the recipe asks for.

    Args:
        artefact: what it is called.
        stored: its identity in the cache.
        current: the one asked for.
        named: whether it has a name of its own, so that another can stand beside it.

    Raises:
        MismatchError: it is not; names the fields, both values and the ways out.
    """
    found = list(differences(stored, current))
    if not found:
        return
    lines = [f"  {name}: in the cache {old!r}, now {new!r}" for name, old, new in found[:_SHOWN]]
    if len(found) > _SHOWN:
        lines.append(f"  and {len(found) - _SHOWN} more")
    advice = "Restore what changed, or build into another folder with --cache"
    if named:
        advice += ";\na changed teacher or target can also join this cache under another name"
    message = "\n".join([f"{artefact} is not what the cache was built from:", *lines, f"{advice}."])
    raise MismatchError(message)


def _source_identity(source: Source, contents: Mapping[str, str]) -> JsonObject:
    options: JsonObject = source.model_dump(mode="json", exclude=set(_NOT_IDENTITY))
    name = source_name(source)
    return {**options, "genre": source.genre or name, "contents": contents[name]}
