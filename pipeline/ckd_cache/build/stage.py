"""A stage: one part that is filled shard by shard, and the loop that fills it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ckd_cache.build.profile import profile_changes
from ckd_cache.errors import CorpusError
from ckd_cache.format.journal import Journal
from ckd_cache.format.workspace import CacheWriter, ShardFiles
from ckd_cache.progress import Progress
from ckd_cache.types import JsonObject

__all__ = ["Stage", "run_stage"]


@dataclass(frozen=True)
class Stage:
    """What fills one part.

    Attributes:
        key: the part's folder in the cache, such as ``text/teachers/a/v0-0000``.
        identity: named fields of the part's fingerprint.
        profile: the execution profile wanted.
        shards: given the journal, yields the shards that it does not list yet, in order.
    """

    key: str
    identity: JsonObject
    profile: JsonObject
    shards: Callable[[Journal], Iterator[ShardFiles]]


def run_stage(writer: CacheWriter, stage: Stage, progress: Progress) -> tuple[Journal, int]:
    """Publish every shard of a stage that is not in its journal yet.

    Returns:
        The journal, with a line for every shard (nothing is committed), and how many were
        published by this call.

    Raises:
        CorpusError: the sources give nothing; a part that has no shard yet is given up.
        MismatchError: the part was begun with another identity.
        StorageError: the disk refused.
    """
    journal = writer.journal(stage.key, stage.identity, stage.profile)
    for name, stored, current in profile_changes(journal.profile, stage.profile):
        progress.note(
            f"{stage.key}: begun with {name} {stored}, goes on with {current}; "
            "its bytes may differ from those of an uninterrupted build"
        )
    before = len(journal.lines)
    try:
        for files in stage.shards(journal):
            writer.publish(journal, files)
    except CorpusError:
        if not journal.lines:
            # Else it would refuse the recipe once its sources are corrected.
            journal.remove()
        raise
    return journal, len(journal.lines) - before
