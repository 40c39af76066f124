"""The golden caches, and one of them while it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.golden.making_v1.corpus import Increment

from ckd_cache.format import manifest
from ckd_cache.format.arrow_io import SegmentRows, SlotRows
from ckd_cache.format.journal import Journal
from ckd_cache.format.spec import Capture, Layout, capture_of, shard_count, shard_range
from ckd_cache.format.workspace import CacheWriter, ShardFiles
from ckd_cache.merge.rule import TargetRule
from ckd_cache.types import Array, JsonObject

SET = "text"
SLOTS = 3
PROFILE = {"made_by": "tests/golden/make_v1.py"}


@dataclass(frozen=True)
class Plan:
    """One golden cache.

    Attributes:
        name: of its folder.
        size: of the support.
        views: of each increment.
        words: of the documents of each increment.
        captures: by teacher.
        target: name and rule of its target.
        zeros: whether teacher a gives probability 0 to half of the ids at one slot. Not in v1.
    """

    name: str
    size: int
    views: int
    words: tuple[tuple[int, ...], ...]
    captures: Mapping[str, Capture]
    target: tuple[str, TargetRule]
    zeros: bool = False

    @property
    def target_capture(self) -> Capture:
        """How its target is stored."""
        rule = self.target[1]
        most = max(capture.max_nats for capture in self.captures.values())
        return capture_of(rule.top_k, (rule.temperature,), most)

    @property
    def layout(self) -> Layout:
        """Shards of four examples, chunks of two."""
        return Layout(SLOTS, 2, 4, self.size)


PLANS = (
    Plan(
        "compact",
        50,
        1,
        ((6, 7, 4, 3, 9, 5, 8), (4, 9, 2, 6)),
        {
            "a": capture_of(4, (0.5, 1.0), 1e-4),
            "b": capture_of(4, (0.5, 1.0), 1e-4, top_p=0.8),
        },
        ("gold", TargetRule("gold", 1.0, 1.0, 5, ("a", "b"))),
    ),
    Plan(
        "exact",
        300,
        2,
        ((8, 3, 5, 7),),
        {"a": capture_of(3, (1.0, 2.0), 0.0), "b": capture_of(5, (1.0, 2.0), 0.0)},
        ("uniform", TargetRule("uniform", 1.0, 2.0, 4, ("b", "a"))),
    ),
    Plan(
        "wide",
        70_000,
        1,
        ((5, 6, 3, 9),),
        {"a": capture_of(6, (1.0,), 1e-9)},
        ("gold", TargetRule("gold", 0.5, 1.0, 6, ("a",))),
    ),
)


@dataclass
class Making:
    """A cache while it is made, and what a reader must see of it."""

    plan: Plan
    writer: CacheWriter
    increments: list[Increment] = field(default_factory=list)
    parts: list[tuple[SegmentRows, SlotRows]] = field(default_factory=list)
    arrays: dict[str, list[dict[str, Array]]] = field(default_factory=dict)

    @property
    def committed(self) -> manifest.Manifest:
        """The manifest as it was committed last."""
        assert self.writer.manifest is not None
        return self.writer.manifest

    @property
    def record(self) -> manifest.SetRecord:
        """The set as it was committed last."""
        return self.committed.sets[SET]

    def commit(self, journals: Sequence[Journal], **update: object) -> None:
        """Commit a changed set."""
        text = self.record.model_copy(update=update)
        changed = self.committed.model_copy(update={"sets": {SET: text}})
        self.writer.commit(changed, journals)

    def fill(self, key: str, identity: JsonObject, shards: Mapping[int, ShardFiles]) -> Journal:
        """Publish the shards of a part."""
        journal = self.writer.journal(key, identity, PROFILE)
        for files in shards.values():
            self.writer.publish(journal, files)
        return journal


def shards_of(plan: Plan, examples: int) -> list[tuple[int, int, int]]:
    """Number, first example and the one after the last of each shard of a part."""
    count = shard_count(examples, plan.layout)
    return [(shard, *shard_range(shard, examples, plan.layout)) for shard in range(count)]
