"""Masked-LM corruption: which tokens of a segment are slots, and what the models see there.

Every choice comes from raw words of a counter-based generator keyed by (seed, view, segment), so
any segment can be masked alone; docs/format.md (Slots) says which word decides what.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ckd_cache.errors import CorpusError, RecipeError
from ckd_cache.format.arrow_io import SegmentRows, SlotRows
from ckd_cache.numerics.philox import words
from ckd_cache.types import Array
from ckd_cache.wording import counted

__all__ = ["MaskSettings", "Support", "mask_segments", "slots_per_example"]

_UNIT = 2.0**-53
_UNIT_SHIFT = np.uint64(11)
_HALF_SHIFT = np.uint64(32)
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class MaskSettings:
    """How examples are corrupted.

    Attributes:
        fraction: share of the maskable tokens that are slots; a pair is a range, drawn from anew
            for each example.
        mask: share of the slots where the models see the mask token.
        random: share of the slots where they see a random token.
        keep: share of the slots where they see gold.
        whole_word: whether the tokens of a word are slots together.
        seed: 0 … 2^64 - 1.

    Raises:
        RecipeError: the fraction is outside 0 … 1, or the shares do not sum to 1.
    """

    fraction: float | tuple[float, float]
    mask: float = 0.8
    random: float = 0.1
    keep: float = 0.1
    whole_word: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        low, high = self.range
        if not (0 <= low <= high <= 1 and high > 0):
            message = (
                f"mask_fraction is {self.fraction}, expected a number above 0 and up to 1, or a "
                "range [low, high] of such. Correct `mask_fraction`."
            )
            raise RecipeError(message)
        shares = (self.mask, self.random, self.keep)
        if min(shares) < 0 or not abs(sum(shares) - 1) <= _TOLERANCE:
            message = (
                f"corruption is mask {self.mask}, random {self.random}, keep {self.keep}; "
                "expected shares that sum to 1. Correct `corruption`."
            )
            raise RecipeError(message)

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest fraction."""
        if isinstance(self.fraction, tuple):
            return self.fraction
        return self.fraction, self.fraction


class Support(Protocol):
    """What masking needs to know of a support."""

    @property
    def size(self) -> int:
        """Number of token ids."""
        ...

    @property
    def special(self) -> Mapping[str, int | None]:
        """Ids of the special tokens by kind, ``mask`` among them."""
        ...


@dataclass(frozen=True, slots=True)
class _Corruption:
    """Settings and support, ready for use on many segments."""

    settings: MaskSettings
    view: int
    mask_id: int
    is_special: NDArray[np.bool_]
    ordinary: Array


def slots_per_example(settings: MaskSettings, segment_tokens: int, n_special: int) -> int:
    """M, the slots that an example can have: ⌈largest fraction · (segment_tokens - specials)⌉.

    Args:
        settings: how examples are corrupted.
        segment_tokens: tokens of a full segment, specials included.
        n_special: special tokens that the tokenizer's template adds.

    Raises:
        CorpusError: a segment has no room for text.
    """
    if segment_tokens <= n_special:
        message = (
            f"segment_tokens is {segment_tokens}, but the tokenizer puts "
            f"{counted(n_special, 'special token')} into every segment. Set segment_tokens to "
            f"{n_special + 1} or more."
        )
        raise CorpusError(message)
    return math.ceil(settings.range[1] * (segment_tokens - n_special))


def mask_segments(
    rows: SegmentRows, first_segment: int, view: int, settings: MaskSettings, support: Support
) -> SlotRows:
    """Slots of consecutive segments in one view.

    Tokens whose id is special are never slots, wherever they stand, and never random tokens.

    Args:
        rows: the segments.
        first_segment: number of the first of them, across increments.
        view: number of the view.
        settings: how examples are corrupted.
        support: of the segments' token ids.

    Returns:
        For each segment positions (uint16) ascending, inputs and gold (dtype of its ids).

    Raises:
        CorpusError: the support has no mask token, or no ordinary ones.
    """
    corruption = _corruption(settings, view, support)
    positions, inputs, gold = [], [], []
    pairs = zip(rows.input_ids, rows.word_starts, strict=True)
    for segment, (ids, word_starts) in enumerate(pairs, first_segment):
        where, seen = _mask(ids, word_starts, segment, corruption)
        positions.append(where.astype(np.uint16))
        inputs.append(seen)
        gold.append(ids[where])
    return SlotRows(positions, inputs, gold)


def _corruption(settings: MaskSettings, view: int, support: Support) -> _Corruption:
    mask_id = support.special.get("mask")
    if mask_id is None:
        message = (
            "The tokenizer has no mask token, expected one for masked language modelling. "
            "Use the tokenizer of a masked language model."
        )
        raise CorpusError(message)
    is_special = np.zeros(support.size, dtype=np.bool_)
    is_special[[number for number in support.special.values() if number is not None]] = True
    ordinary = np.flatnonzero(~is_special)
    if not len(ordinary):
        message = f"All {support.size} tokens of the tokenizer are special; use another tokenizer."
        raise CorpusError(message)
    return _Corruption(settings, view, mask_id, is_special, ordinary)


def _mask(
    ids: Array, word_starts: NDArray[np.bool_], segment: int, corruption: _Corruption
) -> tuple[NDArray[np.int64], Array]:
    """Positions of the slots of one segment, ascending, and what the models see there."""
    settings = corruption.settings
    maskable = np.flatnonzero(~corruption.is_special[ids])
    n = len(maskable)
    drawn = words(settings.seed, corruption.view, segment, 3 * n + 1)
    low, high = settings.range
    fraction = low if low == high else low + (high - low) * _unit(drawn[0])
    count = math.floor(fraction * n + 0.5)
    keys = drawn[1 : n + 1]
    if settings.whole_word:
        word_of = np.cumsum(word_starts, dtype=np.int64)[maskable]
        chosen = _choose_words(keys, word_of, count)
    else:
        chosen = np.sort(np.argsort(keys, kind="stable")[:count])
    where = maskable[chosen]
    fates, tokens = drawn[n + 1 + chosen], drawn[2 * n + 1 + chosen]
    return where, _corrupted(ids[where], fates, tokens, corruption)


def _choose_words(
    keys: NDArray[np.uint64], word_of: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """Indices of the maskable tokens of the words taken: smallest keys first, while they fit."""
    heads = np.flatnonzero(np.diff(word_of, prepend=-1))
    sizes = np.diff(heads, append=len(word_of))
    order = np.argsort(keys[heads], kind="stable")
    chosen: list[int] = []
    for head, size in zip(heads[order].tolist(), sizes[order].tolist(), strict=True):
        if len(chosen) + size <= count:
            chosen.extend(range(head, head + size))
        if len(chosen) == count:
            break
    return np.array(sorted(chosen), dtype=np.int64)


def _corrupted(
    gold: Array, fates: NDArray[np.uint64], tokens: NDArray[np.uint64], corruption: _Corruption
) -> Array:
    """What the models see in the place of ``gold``."""
    settings, ordinary = corruption.settings, corruption.ordinary
    u = _unit(fates)
    index = ((tokens >> _HALF_SHIFT) * np.uint64(len(ordinary))) >> _HALF_SHIFT
    seen = np.where(u < settings.mask + settings.random, ordinary[index], gold)
    return np.where(u < settings.mask, corruption.mask_id, seen).astype(gold.dtype)


def _unit(drawn: Array) -> Array:
    """Words as numbers in [0, 1): ⌊word / 2^11⌋ · 2^-53."""
    scaled: Array = (drawn >> _UNIT_SHIFT) * _UNIT
    return scaled
