"""Gathered logprobs: stored, read back, and found for a merge (docs/format.md, Gathers)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ckd_cache.format.access import FileAccess
from ckd_cache.format.distributions import StoredArrays, TeacherReader
from ckd_cache.format.manifest import GatherRecord, SetRecord
from ckd_cache.format.paths import gather_part
from ckd_cache.format.spec import gather_specs
from ckd_cache.numerics.gathering import from_levels, gathered_ids, to_levels
from ckd_cache.types import Array, GatherArrays, TeacherArrays

if TYPE_CHECKING:
    from ckd_cache.format.reader import SetReader

__all__ = [
    "GatherReader",
    "decode_gather",
    "encode_gather",
    "gather_for",
    "gather_reader",
    "gather_width",
    "implied_ids",
]


@dataclass(frozen=True)
class GatherReader:
    """What was gathered of one teacher of a set.

    Attributes:
        name: of the gather.
        record: its record in the manifest.
        stored: its groups.
        members: the teachers of the group, by name.
    """

    name: str
    record: GatherRecord
    stored: StoredArrays
    members: Mapping[str, TeacherReader]

    @property
    def step(self) -> float:
        """Width in nats of the grid that logprobs were rounded to; 0 where they were not."""
        return self.record.step

    def read(
        self, start: int, stop: int, kept: Mapping[str, TeacherArrays] | None = None
    ) -> GatherArrays:
        """Decoded logprobs of examples ``start`` to ``stop``, and the ids that they are of.

        Args:
            start: first example.
            stop: example after the last one.
            kept: of teachers of the group, their distributions of the same examples, where the
                caller has read them; the others are read here.

        Raises:
            IncompleteCacheError: the range is not one of the set's, or not gathered yet.
            DamagedCacheError: a file is missing or damaged.
        """
        there = {} if kept is None else kept
        arrays = {
            name: there[name] if name in there else self.members[name].read(start, stop)
            for name in self.record.group
        }
        ids, n_valid = implied_ids(self.record, arrays)
        logprobs = np.empty(ids.shape, np.float32)
        for first, chunk in self._chunks(start, stop):
            last = first + len(chunk)
            logprobs[first:last] = decode_gather(chunk, n_valid[first:last], self.step)
        return GatherArrays(ids=ids, logprobs=logprobs, n_valid=n_valid)

    def _chunks(self, start: int, stop: int) -> Iterator[tuple[int, Array]]:
        """Stored numbers chunk by chunk, each with its first example counted from ``start``."""
        done = 0
        for piece in self.stored.pieces(start, stop):
            for chunk in self.stored.read(piece):
                yield done, chunk["logprobs"]
                done += len(chunk["logprobs"])


def implied_ids(
    record: GatherRecord, kept: Mapping[str, TeacherArrays]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The ids that a gather's logprobs are of, from what the teachers of its group keep.

    Gold is an id like any other here.

    Args:
        record: of the gather.
        kept: distributions of the same B examples, of every teacher of the group.

    Returns:
        ids: (B, M, width) int32, ascending; -1 from ``n_valid`` on.
        n_valid: (B, M) int32.
    """
    own = kept[record.teacher]
    others = [
        (kept[name].ids, kept[name].n_valid) for name in record.group if name != record.teacher
    ]
    return gathered_ids(own.ids, own.n_valid, others, record.width)


def gather_width(teacher: str, kept: Mapping[str, int], support_size: int) -> int:
    """Most ids that can be gathered of a slot.

    Args:
        teacher: whose logprobs are gathered.
        kept: k of every teacher of the group.
        support_size: entries of the support.
    """
    return min(sum(k for name, k in kept.items() if name != teacher), support_size)


def encode_gather(logprobs: Array, n_valid: Array, step: float) -> dict[str, Array]:
    """Stored arrays of a gather, by name.

    Args:
        logprobs: (B, M, width) at temperature 1; anything beyond ``n_valid``.
        n_valid: (B, M).
        step: of the grid; 0 stores float32.
    """
    if step > 0.0:
        return {"logprobs": to_levels(logprobs, n_valid, step)}
    there = np.arange(logprobs.shape[-1]) < n_valid[..., None]
    return {"logprobs": np.where(there, logprobs, 0).astype(np.float32)}


def decode_gather(stored: Array, n_valid: Array, step: float) -> NDArray[np.float32]:
    """(B, M, width) logprobs of what ``encode_gather`` gave; -inf beyond ``n_valid``."""
    if step > 0.0:
        return from_levels(stored, n_valid, step)
    there = np.arange(stored.shape[-1]) < n_valid[..., None]
    return np.where(there, stored, np.float32(-np.inf))


def gather_for(reader: SetReader, teacher: str, teachers: Sequence[str]) -> GatherReader | None:
    """What was gathered of a teacher for a group that all of some teachers are in.

    Args:
        reader: of the set.
        teacher: whose logprobs are wanted.
        teachers: whose kept ids they are wanted at; ``teacher`` may be among them.

    Returns:
        The gather of the smallest such group (by name among equals) that has every part; None if
        there is none.
    """
    wanted = {teacher, *teachers}
    parts = {part.name for part in reader.record.parts}
    found = [
        gather
        for gather in reader.gathers.values()
        if gather.record.teacher == teacher
        and wanted.issubset(gather.record.group)
        and parts.issubset(gather.record.parts)
    ]
    return min(found, key=lambda one: (len(one.record.group), one.name), default=None)


def gather_reader(
    access: FileAccess,
    set_name: str,
    record: SetRecord,
    name: str,
    teachers: Mapping[str, TeacherReader],
) -> GatherReader:
    """Reader of a gather that the manifest names.

    Args:
        access: the cache's files.
        set_name: name of the set.
        record: its record in the manifest.
        name: of the gather.
        teachers: of the set, by name.
    """
    gather = record.gathers[name]
    stored = StoredArrays(
        access,
        set_name,
        record,
        teachers[gather.teacher].stored.layout,
        f"gather {name}",
        f"Finish it with `ckd-cache build RECIPE --cache {access.path}`.",
        gather_specs(gather.width, gather.step),
        {part: gather_part(set_name, name, part) for part in gather.parts},
    )
    return GatherReader(name, gather, stored, {one: teachers[one] for one in gather.group})
