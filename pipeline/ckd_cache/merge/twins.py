"""Teachers with another tokenizer, read side by side with the set whose twin they were run on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ckd_cache.format.distributions import TeacherReader
from ckd_cache.format.reader import CacheReader, SetReader
from ckd_cache.format.token_strings import read_token_strings
from ckd_cache.merge.adoption import Adoption, Maps, maps_between
from ckd_cache.merge.slots import UsedSlots
from ckd_cache.merge.voices import Voice, component_at, plain_index
from ckd_cache.merge.words import Words
from ckd_cache.numerics.string_map import carried_mass
from ckd_cache.types import Array

__all__ = ["TwinReader", "TwinView", "twin_reader"]


@dataclass(frozen=True)
class TwinReader:
    """A teacher of a twin set.

    Attributes:
        name: of the teacher.
        own: the set.
        twin: its twin set.
    """

    name: str
    own: SetReader
    twin: SetReader

    @property
    def teacher(self) -> TeacherReader:
        """Its distributions over its own support."""
        return self.twin.teachers[self.name]

    @cached_property
    def maps(self) -> Maps:
        """From its support to that of the set.

        Raises:
            DamagedCacheError: the files of a tokenizer are missing or damaged.
            MergeError: a tokenizer is of a kind whose tokens cannot be told apart by their text.
        """
        own, twin = (read_token_strings(one.support) for one in (self.own, self.twin))
        return maps_between(own, twin)

    def view(self, slots: UsedSlots, words: Words, start: int, stop: int) -> TwinView:
        """What the teacher says at the slots of examples ``start`` to ``stop``.

        Args:
            slots: the used slots of these examples of the set.
            words: of these slots.
            start: first example.
            stop: example after the last one.

        Raises:
            CkdCacheError: the cache cannot be read, or its tokenizers cannot be used.
        """
        match = _match(self.twin, words, start, stop)
        arrays = self.teacher.read(start, stop)
        twin_gold = np.where(match.alone, match.gold_at, 0)
        which = np.where(match.alone, self.maps.which(twin_gold, slots.gold), 0)
        goes = self.maps.mapped(twin_gold[:, None], which)[:, 0]
        present = match.alone & (goes == slots.gold)
        at = (match.at[0][match.place], match.at[1][match.place]) if len(match.at[0]) else None

        def taken(name: str, fill: float) -> Array:
            return _taken(arrays[name], at, present, fill)

        voice = Voice(
            name=self.name,
            capture=self.teacher.record.capture,
            ids=taken("ids", 0).astype(np.int64),
            logprobs=taken("logprobs", -np.inf),
            n_valid=taken("n_valid", 0).astype(np.int64),
            tail=taken("tail", 0.0),
            logsumexp=taken("logsumexp", 0.0),
            # Never compared raw: the supports have different sizes.
            entropy=taken("entropy", np.nan) * self.maps.entropy_factor,
            gold_logprob=taken("gold_logprob", np.nan),
            correct=np.zeros(len(slots), np.bool_),
            present=present,
            unit_logprob=_word_logprob(arrays.gold_logprob[match.at], match),
            adoption=Adoption(self.maps, which, twin_gold, slots.gold),
        )
        heard = component_at(voice, plain_index(voice, 1.0))
        top = (heard.ids[:, 0] == slots.gold) & (heard.n_valid > 0)
        carried = np.where(present, carried_mass(heard), np.nan)
        return TwinView(replace(voice, correct=top), match.seen, carried)


@dataclass(frozen=True, slots=True)
class TwinView:
    """What a teacher with another tokenizer says at the N used slots of some examples.

    Attributes:
        voice: the teacher; present where the word is one token on both sides and gold goes to gold.
        seen: (N,) bool, the twin has all of the slot's word, in one token or more.
        carried: (N,) float64, mass at temperature 1 that is known of ids of the set; NaN where the
            teacher is not present.
    """

    voice: Voice
    seen: NDArray[np.bool_]
    carried: NDArray[np.float64]


def twin_reader(cache: CacheReader, set_name: str, twin_name: str, teacher: str) -> TwinReader:
    """A teacher of a twin set of a cache.

    Raises:
        IncompleteCacheError: there is no such set.
    """
    return TwinReader(teacher, cache.set(set_name), cache.set(twin_name))


@dataclass(frozen=True, slots=True)
class _Match:
    """The slots of a twin, n of them, beside the N slots of its set.

    Attributes:
        at: rows and columns of the n slots.
        place: (N,) the first of the n that is of the slot's word; 0 where none is.
        count: (N,) how many are.
        begins: (N,) bool, the slot is the first of its word.
        seen: (N,) bool, these have all of the word and nothing else.
        alone: (N,) bool, and the word is one token on both sides.
        gold_at: (N,) gold of the first of them.
    """

    at: tuple[Array, Array]
    place: NDArray[np.int64]
    count: NDArray[np.int64]
    begins: NDArray[np.bool_]
    seen: NDArray[np.bool_]
    alone: NDArray[np.bool_]
    gold_at: NDArray[np.int64]


def _match(twin: SetReader, words: Words, start: int, stop: int) -> _Match:
    columns = twin.examples.slot_columns(["words", "exact", "gold"], start, stop)
    number, exact, gold = (column.values for column in columns)
    counts = np.diff(columns[0].offsets)
    rows = np.repeat(np.arange(len(counts)), counts)
    at = (rows, np.arange(len(rows)) - columns[0].offsets[rows])
    # Slots are ordered by example and word on both sides, so one search finds them all.
    width = 1 + max(words.number.max(initial=0), number.max(initial=0))
    keys = rows * width + number.astype(np.int64)
    wanted = words.example * width + words.number
    place = np.searchsorted(keys, wanted, side="left")
    count = np.searchsorted(keys, wanted, side="right") - place
    place = np.where(count > 0, place, 0)
    there = count > 0
    seen = np.zeros(len(wanted), np.bool_)
    gold_at = np.zeros(len(wanted), np.int64)
    seen[there] = exact.astype(np.bool_)[place[there]]
    gold_at[there] = gold[place[there]]
    alone = seen & (count == 1) & (words.slots == 1)
    return _Match(at, place, count, words.begins, seen, alone, gold_at)


def _word_logprob(gold_logprob: Array, match: _Match) -> NDArray[np.float64]:
    """(N,) logprobs of whole words at their first slots; NaN elsewhere, and where not seen.

    Args:
        gold_logprob: (n,) at the twin's slots.
        match: of the slots.
    """
    result = np.full(len(match.place), np.nan)
    chosen = np.flatnonzero(match.seen & match.begins)
    if chosen.size:
        first = match.place[chosen]
        ranges = np.stack([first, first + match.count[chosen]], axis=1).ravel()
        values = np.append(gold_logprob.astype(np.float64), 0.0)
        result[chosen] = np.add.reduceat(values, ranges)[::2]
    return result


def _taken(
    values: Array, at: tuple[Array, Array] | None, present: NDArray[np.bool_], fill: float
) -> Array:
    """(N, …) numbers of the twin at the slots where the teacher is present, else ``fill``."""
    result = np.full((present.size, *values.shape[2:]), fill)
    if at is not None:
        result[present] = values[at][present]
    return result
