"""Adding a target to a cache that is there, from the teachers that it holds."""

from __future__ import annotations

from pathlib import Path

from ckd_cache.build.outcome import Outcome
from ckd_cache.build.session import Session
from ckd_cache.build.target_request import TargetRequest
from ckd_cache.build.target_stage import fill_target
from ckd_cache.errors import MergeError
from ckd_cache.format.presence import refuse_missing_files
from ckd_cache.format.reader import open_cache
from ckd_cache.format.workspace import CacheWriter
from ckd_cache.progress import SILENT, Progress

__all__ = ["merge_cache"]


def merge_cache(
    cache: Path,
    set_name: str,
    request: TargetRequest,
    progress: Progress = SILENT,
    threads: int | None = None,
) -> Outcome:
    """Make a target; no model is loaded.

    May be interrupted and called again, like a build.

    Args:
        cache: folder of a cache.
        set_name: the set whose teachers are merged.
        request: what to make.
        progress: who listens.
        threads: to merge with; None for all cores.

    Raises:
        CacheNotFoundError: there is no cache.
        MergeError: the set does not exist, or the rule does not fit what was captured.
        MismatchError: a target of this name was made by another rule.
        CkdCacheError: anything else that stands in the way.
    """
    manifest = open_cache(cache).manifest
    if set_name not in manifest.sets:
        message = (
            f"{cache} has no set {set_name}; it has {', '.join(manifest.sets) or 'none yet'}. "
            "Name one of these with --set-name."
        )
        raise MergeError(message)
    with CacheWriter.begin(cache) as writer:
        refuse_missing_files(open_cache(cache))
        manifest = writer.manifest or manifest
        session = Session(
            writer,
            manifest.recipe,
            manifest.provenance,
            progress,
            manifest.complete,
            threads=threads,
        )
        fill_target(session, set_name, request)
        recorded = request.name if not request.stored else None
        return Outcome.of(session.manifest, session.computed, recorded)
