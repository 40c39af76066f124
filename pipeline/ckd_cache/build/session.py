"""What the stages of one build share, and how they move the manifest on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ckd_cache.build.stage import Stage, run_stage
from ckd_cache.format.journal import Journal, journal_keys, journal_path
from ckd_cache.format.manifest import Manifest, SetRecord
from ckd_cache.format.reader import SetReader, open_cache
from ckd_cache.format.workspace import CacheWriter
from ckd_cache.progress import Progress
from ckd_cache.types import JsonObject

__all__ = ["Session"]


@dataclass
class Session:
    """A build or merge under way.

    Attributes:
        writer: holds the cache's lock.
        recipe: what the manifest shall say was asked for.
        provenance: what the manifest shall say of this run.
        progress: who listens.
        complete: what the manifest shall say at the next commit: false while a recipe is being
            built, for a merge what it said before.
        computed: shards published by this run.
        threads: to merge with; None for all cores. Changes no number.
    """

    writer: CacheWriter
    recipe: JsonObject
    provenance: JsonObject
    progress: Progress
    complete: bool = False
    computed: int = 0
    threads: int | None = None

    @property
    def manifest(self) -> Manifest:
        """The manifest as last committed; an empty one before the first commit."""
        found = self.writer.manifest
        if found is not None:
            return found
        return Manifest(
            complete=False, recipe=self.recipe, supports={}, sets={}, provenance=self.provenance
        )

    def record(self, set_name: str) -> SetRecord:
        """Record of a set that is in the cache."""
        return self.manifest.sets[set_name]

    def reader(self, set_name: str) -> SetReader:
        """Reader of what is committed of a set."""
        return open_cache(self.writer.path).sets[set_name]

    def fill(self, stage: Stage) -> Journal:
        """Publish the shards of a stage that are missing."""
        journal, computed = run_stage(self.writer, stage, self.progress)
        self.computed += computed
        return journal

    def commit(self, manifest: Manifest, journals: Sequence[Journal] = ()) -> None:
        """Make finished parts, and the manifest that names them, the cache's state."""
        update = {"recipe": self.recipe, "provenance": self.provenance, "complete": self.complete}
        self.writer.commit(manifest.model_copy(update=update), journals)

    def commit_set(self, name: str, record: SetRecord, journals: Sequence[Journal]) -> None:
        """Commit a set's new record."""
        sets = {**self.manifest.sets, name: record}
        self.commit(self.manifest.model_copy(update={"sets": sets}), journals)

    def finish(self, *, complete: bool) -> None:
        """Commit whether everything asked for is there, unless the manifest says so already."""
        manifest = self.writer.manifest
        stated = None if manifest is None else (manifest.complete, manifest.recipe)
        if stated != (complete, self.recipe):
            self.complete = complete
            self.commit(self.manifest)
        for key in journal_keys(self.writer.path):
            self.progress.note(
                f"{key} was begun by another recipe and is unfinished; delete "
                f"{journal_path(self.writer.path, key)} to give it up"
            )
