"""What the checks of one verification share, and how they say what they found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from threading import Event

import numpy as np
from numpy.typing import NDArray

from ckd_cache.errors import DamagedCacheError
from ckd_cache.format.example_checks import Broken, Documents
from ckd_cache.format.files import FileRow
from ckd_cache.format.findings import Finding, Hit, joined
from ckd_cache.format.intact import IntactFiles
from ckd_cache.format.inventory import PartFiles
from ckd_cache.format.reader import CacheReader, SetReader
from ckd_cache.types import JsonObject

__all__ = ["Outcome", "Scope", "broken_finding", "check_files", "undecodable"]


@dataclass(frozen=True)
class Scope:
    """What all checks of one verification share; shared by threads.

    Attributes:
        reader: the cache.
        intact: looks at its files.
        quick: nothing is decoded.
        unusable: folders of parts that cannot be decoded, since a file of the whole part is
            damaged.
        documents: of each set, known before its segments are checked.
        stopped: set when no further work is wanted.
    """

    reader: CacheReader
    intact: IntactFiles
    quick: bool
    unusable: set[str] = field(default_factory=set)
    documents: dict[str, Documents] = field(default_factory=dict)
    stopped: Event = field(default_factory=Event)

    def rows(self, part: PartFiles, shard: int) -> list[FileRow]:
        """Those files of a shard that the files table names."""
        found = (self.reader.files.get(path) for path in part.required[shard])
        return [row for row in found if row is not None]

    def set_of(self, part: PartFiles) -> SetReader:
        """The set of a part."""
        return self.reader.sets[part.set_name]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What checking a piece of a cache gave.

    Attributes:
        findings: what is wrong.
        tallies: what adds up over shards, by folder, kind of file and shard.
        documents: those that a file lists, by set, increment and shard.
        sizes: bytes of the files looked at.
    """

    findings: list[Finding] = field(default_factory=list)
    tallies: dict[tuple[str, str, int], JsonObject] = field(default_factory=dict)
    documents: dict[tuple[str, str, int], Documents] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)


def check_files(scope: Scope, part: PartFiles, rows: Iterable[FileRow], into: Outcome) -> bool:
    """Look at files of one part; whether they may be decoded.

    Raises:
        StorageError: the system would not let one be read.
    """
    sound = not scope.quick
    for row in rows:
        if scope.stopped.is_set():
            return False
        damage = scope.intact.damage_of(row)
        into.sizes.append(row.bytes)
        if damage is not None:
            sound = False
            into.findings.append(
                Finding(
                    path=row.path,
                    part=part.folder,
                    shard=row.shard,
                    artefact=part.artefact_of(row.path),
                    problem=damage.problem,
                    detail=damage.detail,
                    examples=part.hits(row.shard),
                )
            )
    return sound and not scope.stopped.is_set()


def undecodable(
    scope: Scope, part: PartFiles, shard: int, rows: Sequence[FileRow], error: DamagedCacheError
) -> Finding:
    """What a reader's complaint says of a part; of a file that is gone by now, that it is gone.

    Args:
        scope: of the verification.
        part: what was read.
        shard: of it.
        rows: the files that were read, at least one.
        error: the complaint.
    """
    message = str(error)
    named = next((row for row in rows if row.path in message), rows[0])
    damage = scope.intact.now(named)
    found = message.partition(" is damaged: ")[2].partition(". Restore")[0] or message
    return Finding(
        path=named.path,
        part=part.folder,
        shard=shard,
        artefact=part.artefact_of(named.path),
        problem="undecodable" if damage is None else damage.problem,
        detail=found if damage is None else damage.detail,
        examples=part.hits(shard),
    )


def broken_finding(
    part: PartFiles, shard: int, path: str, broken: Broken, rows: NDArray[np.bool_]
) -> Finding:
    """What does not hold of some rows of a shard, in every view that has them.

    Args:
        part: of the shard.
        shard: its number.
        path: the file that says so.
        broken: what does not hold.
        rows: (shard's rows,) where.
    """
    starts = [place.hit(shard) for place in part.places]
    hits = joined(
        Hit(whole.set_name, whole.start + row, whole.start + row + 1)
        for whole in starts
        for row in np.flatnonzero(rows).tolist()
    )
    artefact = part.artefact_of(path)
    return Finding(path, part.folder, shard, artefact, broken.problem, broken.detail, hits)
