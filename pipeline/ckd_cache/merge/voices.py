"""One teacher at some slots: what it says there, at a temperature a slot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ckd_cache.format.spec import Capture
from ckd_cache.merge.adoption import Adoption
from ckd_cache.numerics.logspace import log_probability
from ckd_cache.numerics.mixture import Component, temper
from ckd_cache.types import Array, TeacherArrays

__all__ = [
    "Gathered",
    "Scalars",
    "Voice",
    "component_at",
    "indices_of",
    "plain_index",
    "scalars_at",
    "temperatures_at",
    "voice_of",
]


@dataclass(frozen=True, slots=True)
class Gathered:
    """Logprobs of ids that a teacher does not keep, at N slots.

    Attributes:
        ids: (N, g) int64; -1 where nothing is.
        logprobs: (N, g) float64 at temperature 1; -inf where nothing is.
        step: width of the grid they were rounded to; 0 where they were not.
    """

    ids: NDArray[np.int64]
    logprobs: NDArray[np.float64]
    step: float


@dataclass(frozen=True, slots=True)
class Voice:
    """A teacher at N used slots, over the set's support; float64 and int64 but for (N, k).

    Attributes:
        name: of the teacher.
        capture: what was kept of it.
        ids: (N, k) int32 by rank.
        logprobs: (N, k) float32 at temperature 1.
        n_valid: (N,).
        tail: (N, T).
        logsumexp: (N, T).
        entropy: (N, T), nats.
        gold_logprob: (N,) at temperature 1.
        correct: (N,) bool, gold is the most probable id.
        present: (N,) bool, the teacher has a distribution there.
        unit_logprob: (N,) logprob of the slot's unit of text (``Evidence.unit_logprob``).
        gathered: further logprobs; None where there are none.
        adoption: of a teacher with another tokenizer, what carries it over; its ids are its own
            then, and what else is said of it (N,) is of the set's. None where the tokenizer is that
            of the set.
    """

    name: str
    capture: Capture
    ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    n_valid: NDArray[np.int64]
    tail: NDArray[np.float64]
    logsumexp: NDArray[np.float64]
    entropy: NDArray[np.float64]
    gold_logprob: NDArray[np.float64]
    correct: NDArray[np.bool_]
    present: NDArray[np.bool_]
    unit_logprob: NDArray[np.float64]
    gathered: Gathered | None = None
    adoption: Adoption | None = None

    def piece(self, start: int, stop: int) -> Voice:
        """The same teacher at the slots ``start`` to ``stop`` of these."""
        return self.only(slice(start, stop))

    def only(self, chosen: slice | NDArray[np.int64]) -> Voice:
        """The same teacher at some of these slots, in the same order."""
        more = self.gathered
        return Voice(
            name=self.name,
            capture=self.capture,
            ids=self.ids[chosen],
            logprobs=self.logprobs[chosen],
            n_valid=self.n_valid[chosen],
            tail=self.tail[chosen],
            logsumexp=self.logsumexp[chosen],
            entropy=self.entropy[chosen],
            gold_logprob=self.gold_logprob[chosen],
            correct=self.correct[chosen],
            present=self.present[chosen],
            unit_logprob=self.unit_logprob[chosen],
            gathered=None
            if more is None
            else Gathered(more.ids[chosen], more.logprobs[chosen], more.step),
            adoption=None if self.adoption is None else self.adoption.only(chosen),
        )


@dataclass(frozen=True, slots=True)
class Scalars:
    """What weights are computed from, of one teacher at N slots, at a temperature a slot.

    Attributes:
        gold_logprob: (N,) float64.
        max_logprob: (N,) float64.
        entropy: (N,) float64, nats.
    """

    gold_logprob: NDArray[np.float64]
    max_logprob: NDArray[np.float64]
    entropy: NDArray[np.float64]


def voice_of(
    name: str,
    arrays: TeacherArrays,
    capture: Capture,
    at: tuple[Array, Array],
    gathered: Gathered | None = None,
) -> Voice:
    """The voice of a teacher whose ids are those of the set.

    Args:
        name: of the teacher.
        arrays: decoded, B examples.
        capture: what was kept of it.
        at: rows and columns of the N used slots.
        gathered: further logprobs at these slots.
    """
    gold = arrays.gold_logprob[at].astype(np.float64)
    return Voice(
        name=name,
        capture=capture,
        ids=_rows(arrays.ids, at),
        logprobs=_rows(arrays.logprobs, at),
        n_valid=arrays.n_valid[at].astype(np.int64),
        tail=arrays.tail[at].astype(np.float64),
        logsumexp=arrays.logsumexp[at].astype(np.float64),
        entropy=arrays.entropy[at].astype(np.float64),
        gold_logprob=gold,
        correct=arrays.gold_rank[at] == 0,
        present=np.ones(gold.shape, np.bool_),
        unit_logprob=gold,
        gathered=gathered,
    )


def _rows(values: Array, at: tuple[Array, Array]) -> Array:
    """(N, k) of (B, M, k); with one index for both axes, which is faster than with two."""
    rows: Array = values.reshape(-1, values.shape[2]).take(at[0] * values.shape[1] + at[1], axis=0)
    return rows


def scalars_at(voice: Voice, index: NDArray[np.int64]) -> Scalars:
    """Scalars of a teacher, at one of its temperatures for each slot.

    Args:
        voice: the teacher.
        index: (N,) into the temperatures of its capture.
    """
    if voice.adoption is not None:
        heard = component_at(voice, index)
        return Scalars(
            gold_logprob=np.where(voice.present, log_probability(heard.gold), np.nan),
            max_logprob=np.where(voice.present, _largest(voice, heard, index), np.nan),
            entropy=_picked(voice.entropy, index),
        )
    return Scalars(
        gold_logprob=_at(voice, voice.gold_logprob, index),
        max_logprob=_at(voice, voice.logprobs[:, 0].astype(np.float64), index),
        entropy=_picked(voice.entropy, index),
    )


def component_at(voice: Voice, index: NDArray[np.int64]) -> Component:
    """A teacher's distributions as probabilities, at one of its temperatures for each slot.

    They are over the set's support; those of a teacher with another tokenizer are carried over
    after they were tempered.

    Args:
        voice: the teacher.
        index: (N,) into the temperatures of its capture.
    """
    tail = _picked(voice.tail, index)
    temperature = temperatures_at(voice.capture, index)
    gathered = voice.gathered
    found = Component(
        ids=voice.ids,
        kept=temper(voice.logprobs, voice.n_valid, tail, temperature),
        n_valid=voice.n_valid,
        tail=np.exp(tail),
        gold=np.exp(_at(voice, voice.gold_logprob, index)),
        more_ids=None if gathered is None else gathered.ids,
        more=None if gathered is None else np.exp(_at(voice, gathered.logprobs, index)),
    )
    return found if voice.adoption is None else voice.adoption.of(found)


def plain_index(voice: Voice, temperature: float) -> NDArray[np.int64]:
    """(N,) the index of one temperature of a capture, for every slot."""
    return np.full(len(voice.present), voice.capture.temperatures.index(temperature), np.int64)


def temperatures_at(capture: Capture, index: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N,) temperatures by their index."""
    return np.asarray(capture.temperatures, dtype=np.float64)[index]


def indices_of(capture: Capture, temperatures: Sequence[float]) -> NDArray[np.int64]:
    """Indices of some temperatures in a capture, each of which has them."""
    return np.array([capture.temperatures.index(one) for one in temperatures], dtype=np.int64)


def _at(
    voice: Voice, logprob: NDArray[np.float64], index: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Logprobs of single ids at a temperature a slot: (logprob + lse_1)/T - lse_T.

    Args:
        voice: the teacher.
        logprob: (N,) or (N, g) at temperature 1.
        index: (N,) into the temperatures.
    """
    at_1 = voice.capture.temperatures.index(1.0)
    changed = np.flatnonzero(index != at_1)
    if not changed.size:
        return logprob
    temperature = temperatures_at(voice.capture, index[changed])
    lse_one = voice.logsumexp[changed, at_1]
    lse = _picked(voice.logsumexp[changed], index[changed])
    wide = (slice(None), *(None,) * (logprob.ndim - 1))
    found = (logprob[changed] + lse_one[wide]) / temperature[wide] - lse[wide]
    result = logprob.copy()
    result[changed] = np.minimum(found, 0.0)
    return result


def _largest(voice: Voice, heard: Component, index: NDArray[np.int64]) -> NDArray[np.float64]:
    """Log of the largest probability that was carried over; of the least kept one if none was.

    No id that goes to the set can have more than the latter then, and gold is not looked at.
    """
    last = np.maximum(voice.n_valid - 1, 0)
    least = _at(voice, _picked(voice.logprobs.astype(np.float64), last), index)
    largest: NDArray[np.float64] = np.maximum(log_probability(heard.kept[:, 0]), least)
    return largest


def _picked(values: NDArray[np.float64], index: NDArray[np.int64]) -> NDArray[np.float64]:
    picked: NDArray[np.float64] = np.take_along_axis(values, index[:, None], axis=1)[:, 0]
    return picked
