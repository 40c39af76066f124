"""The figures of a part, added up again from what its shards hold."""

from __future__ import annotations

from collections.abc import Callable

from ckd_cache.format.inventory import PartFiles
from ckd_cache.format.manifest import FilledPart, Manifest
from ckd_cache.format.reader import CacheReader
from ckd_cache.format.stats import add_stats, gather_stats, target_stats, teacher_stats
from ckd_cache.types import JsonObject

__all__ = ["with_figures_of"]


def with_figures_of(reader: CacheReader, part: PartFiles) -> Manifest:
    """The manifest with the figures of one part of a teacher, target or gather as they are now.

    What quantising cost, and what was carried over from another support, cannot be read from a
    cache; it stays as it was.

    Raises:
        DamagedCacheError: a shard of the part cannot be read.
    """
    record = reader.manifest.sets[part.set_name]
    kind = f"{part.artefact}s"
    owners = dict(getattr(record, kind))
    filled: FilledPart = owners[part.owner].parts[part.name]
    found = _figures(reader, part)
    stats = {**filled.stats, **found}
    parts = {**owners[part.owner].parts, part.name: filled.model_copy(update={"stats": stats})}
    owners[part.owner] = owners[part.owner].model_copy(update={"parts": parts})
    sets = {**reader.manifest.sets, part.set_name: record.model_copy(update={kind: owners})}
    return reader.manifest.model_copy(update={"sets": sets})


def _figures(reader: CacheReader, part: PartFiles) -> JsonObject:
    one_set = reader.set(part.set_name)
    shards = [shard for shard in one_set.shards() if shard.part == part.name]
    of_range: Callable[[int, int], JsonObject]
    if part.artefact == "teacher":
        teacher = one_set.teachers[part.owner]

        def of_range(start: int, stop: int) -> JsonObject:
            return teacher_stats(teacher.read(start, stop), teacher.temperatures)
    elif part.artefact == "gather":
        gather = one_set.gathers[part.owner]

        def of_range(start: int, stop: int) -> JsonObject:
            kept = {name: one.read(start, stop) for name, one in gather.members.items()}
            used = kept[gather.record.teacher].n_valid > 0
            return gather_stats(gather.read(start, stop, kept), used)
    else:
        target = one_set.targets[part.owner]

        def of_range(start: int, stop: int) -> JsonObject:
            return target_stats(target.read(start, stop), target.teachers)

    return add_stats([of_range(shard.start, shard.stop) for shard in shards])
