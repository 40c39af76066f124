"""Which sources of a recipe a set holds in which increment, and which are still to be added.

A set grows at its end: the recipe names the sources that the set holds, in their order, and after
them those to add. What is added in one build is one increment, which is never changed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ckd_cache.build.identity import refuse_change
from ckd_cache.errors import MismatchError
from ckd_cache.fingerprint import fingerprint
from ckd_cache.format.manifest import SetRecord
from ckd_cache.format.paths import increment_name
from ckd_cache.format.spec import Layout
from ckd_cache.types import JsonObject
from ckd_cache.wording import counted

__all__ = ["Increment", "check_increments", "due_increment", "held_increment", "layout_identity"]

_ELSEWHERE = "or build into another folder with --cache"


@dataclass(frozen=True, slots=True)
class Increment:
    """An addition to the corpus of a set.

    Attributes:
        name: four decimal digits.
        sources: names of its sources, in reading order.
        identity: of its segments; holds its own sources only.
    """

    name: str
    sources: tuple[str, ...]
    identity: JsonObject


def due_increment(corpus: JsonObject, record: SetRecord | None) -> Increment | None:
    """The increment that brings a set to the corpus of the recipe; None if it is there.

    Args:
        corpus: identity of the segments of the whole corpus.
        record: of the set, which has been checked; None if it is not in the cache yet.
    """
    held = () if record is None else _held(record)
    due = tuple(corpus["source_order"][len(held) :])
    if not due:
        return None
    number = 0 if record is None else len(record.increments)
    return Increment(increment_name(number), due, _identity_of(corpus, due))


def held_increment(record: SetRecord, name: str) -> Increment:
    """An increment that a set holds."""
    found = next(one for one in record.increments if one.name == name)
    return Increment(name, tuple(found.identity["source_order"]), found.identity)


def check_increments(
    set_name: str, record: SetRecord, corpus: JsonObject, layout: Layout, support: JsonObject
) -> None:
    """Check that the recipe's corpus begins with that of a set in the cache, cut the same way.

    Args:
        set_name: the set.
        record: its record.
        corpus: identity of the segments of the recipe's corpus.
        layout: how the recipe cuts examples.
        support: identity of what the recipe's tokens are of.

    Raises:
        MismatchError: it does not; names the sources or the fields.
    """
    name = f"the corpus of set {set_name}"
    _refuse_other_order(name, _held(record), tuple(corpus["source_order"]))
    for increment in record.increments:
        current = _identity_of(corpus, increment.identity["source_order"])
        refuse_change(name, increment.identity, current, named=False)
    stored = record.layout(layout.support_size)
    refuse_change(name, layout_identity(stored), layout_identity(layout), named=False)
    refuse_change(name, {"support": record.support}, {"support": fingerprint(support)}, named=False)


def layout_identity(layout: Layout) -> JsonObject:
    """What must be the same of how two builds of a set cut its examples."""
    return {
        "shards": {
            "examples": layout.shard_examples,
            "chunk_examples": layout.chunk_examples,
            "slots_per_example": layout.slots,
        }
    }


def _held(record: SetRecord) -> tuple[str, ...]:
    """Names of the sources of a set, in the order in which they were read."""
    return tuple(
        name for increment in record.increments for name in increment.identity["source_order"]
    )


def _identity_of(corpus: JsonObject, names: Sequence[str]) -> JsonObject:
    """Identity of the segments of some of a corpus's sources."""
    sources = corpus["sources"]
    return {
        **corpus,
        "sources": {name: sources[name] for name in names},
        "source_order": list(names),
    }


def _refuse_other_order(what: str, held: tuple[str, ...], named: tuple[str, ...]) -> None:
    missing = [name for name in held if name not in named]
    if missing:
        message = (
            f"{what}: the cache holds {counted(len(held), 'source')}, {', '.join(held)}; the "
            f"recipe does not name {', '.join(missing)}. Documents cannot be taken out of a cache: "
            f"name these sources again, in the cache's order and before any new one, {_ELSEWHERE}."
        )
        raise MismatchError(message)
    if named[: len(held)] != held:
        message = (
            f"{what}: the cache holds the sources {', '.join(held)} in this order, the recipe "
            f"names {', '.join(named)}. Name those of the cache first, in its order, and new ones "
            f"after them, {_ELSEWHERE}."
        )
        raise MismatchError(message)
