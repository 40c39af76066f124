"""What a build or a merge says when it is done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ckd_cache.format.manifest import Manifest
from ckd_cache.wording import counted

__all__ = ["Outcome"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one run.

    Attributes:
        shards: shards that this run computed, of all stages.
        complete: whether the cache has everything that its recipe asks for.
        examples: examples in the cache.
        slots: used slots in the cache.
        teachers: names of the teachers in the cache.
        targets: names of the targets in the cache.
        recorded: name of the target whose rule alone was recorded by this run, if any.
    """

    shards: int
    complete: bool
    examples: int
    slots: int
    teachers: tuple[str, ...]
    targets: tuple[str, ...]
    recorded: str | None = None

    @classmethod
    def of(cls, manifest: Manifest, shards: int, recorded: str | None = None) -> Self:
        """The result of a run that computed ``shards`` shards and left this manifest."""
        sets = manifest.sets.values()
        own = [record for record in sets if record.twin_of is None]
        return cls(
            shards=shards,
            complete=manifest.complete,
            examples=sum(record.examples for record in own),
            slots=sum(part.slots for record in own for part in record.parts),
            teachers=tuple(dict.fromkeys(name for record in sets for name in record.teachers)),
            targets=tuple(dict.fromkeys(name for record in sets for name in record.targets)),
            recorded=recorded,
        )

    def sentence(self, cache: Path) -> str:
        """One line for a person, and what to type next."""
        what = (
            f"{counted(self.examples, 'example')}, {counted(self.slots, 'slot')}; "
            f"{_listed('teacher', self.teachers)}; {_listed('target', self.targets)}"
        )
        state = "is complete" if self.complete else "is not complete yet"
        done = f"{counted(self.shards, 'shard')} computed" if self.shards else "nothing was due"
        if self.recorded is not None:
            done = f"the rule of {self.recorded} is recorded, use it as live:{self.recorded}"
        return f"{cache} {state}: {done}. It holds {what}."


def _listed(noun: str, names: tuple[str, ...]) -> str:
    plural = noun if len(names) == 1 else f"{noun}s"
    return f"{plural} {', '.join(names) or 'none'}"
