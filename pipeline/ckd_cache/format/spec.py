"""Names, versions, shapes and codec settings of the format: the only place that states them.

Everything here is written down in docs/format.md; the two must say the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ckd_cache.numerics.quantise import GRID_STEP, level_dtype, step_of
from ckd_cache.numerics.splits import SPLIT_NAMES
from ckd_cache.types import JsonValue

__all__ = [
    "ARROW_ZSTD_LEVEL",
    "DOCUMENT_ROWS",
    "FAST",
    "FORMAT_NAME",
    "FORMAT_VERSION",
    "GRID_STEP",
    "MANIFEST_NAME",
    "NUMERICS_VERSION",
    "ORDER_ARRAY",
    "SLOW",
    "SPLIT_NAMES",
    "SUPPORT_NAME",
    "WHOLE_PART",
    "ArraySpec",
    "Capture",
    "Layout",
    "capture_of",
    "gather_specs",
    "id_dtype",
    "layout_of",
    "shard_count",
    "shard_range",
    "target_specs",
    "teacher_specs",
]

FORMAT_NAME: Final = "ckd-cache"
FORMAT_VERSION = 2
NUMERICS_VERSION = 1
"""Of the rules by which logits become distributions and these a mixture; part of fingerprints."""
MANIFEST_NAME = "ckd.json"
SUPPORT_NAME = "support.json"
ORDER_ARRAY = "order"
"""Array of a group that says which id each stored number means."""

WHOLE_PART = -1
"""Shard number of files that belong to a whole part."""
DOCUMENT_ROWS = 4096
"""Rows of a record batch of documents."""
ARROW_ZSTD_LEVEL = 3
FAST, SLOW = 1, 5
"""Levels of the chunks' compression. Drops are coded best, and fastest, when the compressor does
not look for repetitions; everything else has some."""

_UINT16_IDS = 65536


@dataclass(frozen=True, slots=True)
class Layout:
    """How the examples of a set are cut.

    Attributes:
        slots: slots of an example, M.
        chunk_examples: examples of a chunk.
        shard_examples: examples of a full shard, a multiple of ``chunk_examples``.
        support_size: entries of the set's support.
    """

    slots: int
    chunk_examples: int
    shard_examples: int
    support_size: int


@dataclass(frozen=True, slots=True)
class Capture:
    """What is kept of a distribution, and how exactly.

    Attributes:
        k: entries kept of a slot.
        temperatures: of ``tail``, ``logsumexp`` and ``entropy``; a teacher's contain 1.0, a
            target has exactly one.
        max_nats: what quantising may cost a slot; 0 stores float32.
        step: sqrt(24 · max_nats), 0.0 when exact.
        top_p: fewer than ``k`` entries are kept where these hold this mass at temperature 1.
    """

    k: int
    temperatures: tuple[float, ...]
    max_nats: float
    step: float
    top_p: float = 1.0

    @property
    def exact(self) -> bool:
        """Whether logprobs are stored as float32 instead of quantised."""
        return self.max_nats == 0.0


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One array of a group.

    Attributes:
        name: its folder.
        last: name of the third dimension, ``rank``, ``temperature``, ``teacher`` or ``gathered``;
            None if the array has two.
        size: length of the third dimension; 0 if there is none.
        dtype: of the stored numbers, little endian.
        encoding: how stored numbers become values, see docs/format.md.
        step: of the encodings ``drops``, ``levels`` and ``grid``.
        effort: level of the compression.
    """

    name: str
    last: str | None
    size: int
    dtype: str
    encoding: str
    step: float | None = None
    effort: int = SLOW

    def shape(self, examples: int, slots: int) -> tuple[int, ...]:
        """Shape of the array over ``examples`` examples of ``slots`` slots."""
        return (examples, slots) if self.last is None else (examples, slots, self.size)

    @property
    def dimension_names(self) -> tuple[str, ...]:
        """``example``, ``slot`` and the name of the third dimension if there is one."""
        return ("example", "slot") if self.last is None else ("example", "slot", self.last)

    @property
    def attributes(self) -> Mapping[str, JsonValue]:
        """The attributes of the array in its ``zarr.json``."""
        step = {} if self.step is None else {"step": self.step}
        return {"encoding": self.encoding, **step}


def id_dtype(support_size: int) -> str:
    """Name of the dtype of stored ids: uint16 up to 65,536 entries of the support, else uint32."""
    return "uint16" if support_size <= _UINT16_IDS else "uint32"


def layout_of(
    slots_per_example: int, shard_slots: int, chunk_slots: int, support_size: int
) -> Layout:
    """Layout of a set, from the sizes a recipe asks for in slots (docs/format.md, Numbering).

    Args:
        slots_per_example: M.
        shard_slots: slots wanted in a shard.
        chunk_slots: slots wanted in a chunk, an upper bound where an example fits.
        support_size: entries of the support.
    """
    chunk = max(1, chunk_slots // slots_per_example)
    chunks = max(1, math.floor(shard_slots / (slots_per_example * chunk) + 0.5))
    return Layout(slots_per_example, chunk, chunk * chunks, support_size)


def capture_of(
    k: int, temperatures: tuple[float, ...], max_nats: float, top_p: float = 1.0
) -> Capture:
    """Capture with the step that belongs to ``max_nats``."""
    return Capture(k, temperatures, max_nats, step_of(max_nats), top_p)


def shard_count(examples: int, layout: Layout) -> int:
    """Shards of a part of ``examples`` examples."""
    return -(-examples // layout.shard_examples)


def shard_range(shard: int, examples: int, layout: Layout) -> tuple[int, int]:
    """Examples of a shard, counted within its part, half-open."""
    start = shard * layout.shard_examples
    return start, min(start + layout.shard_examples, examples)


def teacher_specs(capture: Capture, support_size: int) -> tuple[ArraySpec, ...]:
    """The arrays of a teacher, in the order of ``TeacherArrays``."""
    temperatures = len(capture.temperatures)
    half = _scalar(capture)
    return (
        *_head_specs(capture, support_size),
        ArraySpec("tail", "temperature", temperatures, half, "plain"),
        _grid("logsumexp", capture, "temperature", temperatures),
        ArraySpec("entropy", "temperature", temperatures, half, "plain"),
        _grid("gold_logprob", capture),
        ArraySpec("gold_rank", None, 0, "uint32", "plain"),
    )


def target_specs(capture: Capture, support_size: int, teachers: int) -> tuple[ArraySpec, ...]:
    """The arrays of a target of ``teachers`` teachers, in the order of ``TargetArrays``."""
    share = ("float32", "plain") if capture.exact else ("uint16", "share")
    return (
        *_head_specs(capture, support_size),
        ArraySpec("tail", None, 0, _scalar(capture), "plain"),
        ArraySpec("weights", "teacher", teachers, *share),
        ArraySpec("uncertain", None, 0, _scalar(capture), "plain"),
        _grid("gold_logprob", capture),
    )


def gather_specs(width: int, step: float) -> tuple[ArraySpec, ...]:
    """The one array of a gather.

    Args:
        width: most gathered ids of a slot.
        step: of the grid that logprobs are rounded to; 0 stores float32.
    """
    if step == 0.0:
        return (ArraySpec("logprobs", "gathered", width, "float32", "plain"),)
    return (ArraySpec("logprobs", "gathered", width, level_dtype(step).name, "levels", step),)


def _head_specs(capture: Capture, support_size: int) -> tuple[ArraySpec, ...]:
    if capture.exact:
        logprobs = ArraySpec("logprobs", "rank", capture.k, "float32", "plain")
    else:
        dtype = level_dtype(capture.step).name
        logprobs = ArraySpec("logprobs", "rank", capture.k, dtype, "drops", capture.step, FAST)
    return (
        ArraySpec("ids", "rank", capture.k, id_dtype(support_size), "order"),
        logprobs,
        ArraySpec("n_valid", None, 0, "uint16", "plain"),
    )


def _grid(name: str, capture: Capture, last: str | None = None, size: int = 0) -> ArraySpec:
    if capture.exact:
        return ArraySpec(name, last, size, "float32", "plain")
    return ArraySpec(name, last, size, "float32", "grid", GRID_STEP)


def _scalar(capture: Capture) -> str:
    return "float32" if capture.exact else "float16"
