"""The records of one example for a person; made by `text`, drawn by ``ckd-cache show``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = [
    "DocumentView",
    "ExampleView",
    "Fate",
    "Piece",
    "Prediction",
    "SlotView",
    "TokenView",
]

Fate: TypeAlias = Literal["masked", "random", "kept"]
"""What the corruption did to a slot: the mask token, a random token, or nothing."""


@dataclass(frozen=True, slots=True)
class TokenView:
    """A token and a probability.

    Attributes:
        token: its text by itself.
        id: its number in the support.
        probability: from 0 to 1.
    """

    token: str
    id: int
    probability: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a teacher or a target says at a slot.

    Attributes:
        name: of the teacher or target.
        weight: prediction weight of the teacher in the target shown; None without one.
        gold_probability: of gold.
        gold_rank: how many tokens stand before gold; None where it is not known.
        top: the most probable tokens, best first.
        tail: mass outside what is cached.
        uncertain: bound on the error of a target; None for teachers.
    """

    name: str
    weight: float | None
    gold_probability: float
    gold_rank: int | None
    top: tuple[TokenView, ...]
    tail: float
    uncertain: float | None


@dataclass(frozen=True, slots=True)
class SlotView:
    """One slot.

    Attributes:
        slot: its number in the example.
        position: index of its token.
        gold: text of gold.
        gold_id: gold.
        seen: text of what the models see there.
        fate: ``masked``, replaced by a ``random`` token, or ``kept``.
        teachers: what each teacher says.
        target: what the target says; None without one.
    """

    slot: int
    position: int
    gold: str
    gold_id: int
    seen: str
    fate: Fate
    teachers: tuple[Prediction, ...]
    target: Prediction | None


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of one token in its sequence; ``slot`` is its number in `ExampleView.slots`, if any."""

    text: str
    slot: int | None


@dataclass(frozen=True, slots=True)
class DocumentView:
    """A document that the example shows a stretch of."""

    id: str
    source: str
    genre: str
    first_character: int
    last_character: int


@dataclass(frozen=True, slots=True)
class ExampleView:
    """One example.

    Attributes:
        set: name of its set.
        example: its number there.
        part: the part it belongs to.
        split: ``train``, ``fit`` or ``test``.
        tokens: number of tokens, specials included.
        documents: whose text it shows, in order.
        pieces: the text before masking, token by token, without special tokens.
        target: name of the target shown; None if there is none.
        slots: its slots.
    """

    set: str
    example: int
    part: str
    split: str
    tokens: int
    documents: tuple[DocumentView, ...]
    pieces: tuple[Piece, ...]
    target: str | None
    slots: tuple[SlotView, ...]
