"""One example for a person: its text with its masks, and what every teacher predicts there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from ckd_cache.errors import IncompleteCacheError
from ckd_cache.format.reader import CacheReader, SetReader, open_cache
from ckd_cache.format.spec import SPLIT_NAMES
from ckd_cache.inspection.decode import TokenText, load_token_text
from ckd_cache.inspection.views import (
    DocumentView,
    ExampleView,
    Fate,
    Piece,
    Prediction,
    SlotView,
    TokenView,
)
from ckd_cache.types import Examples, TargetArrays, TeacherArrays

__all__ = ["default_example", "view_example"]

_FIRST_LOOK = 256


def default_example(reader: SetReader) -> int:
    """The first example that has slots, among the first ones; else 0."""
    count = min(reader.n_examples, _FIRST_LOOK)
    if count == 0:
        return 0
    return int(np.argmax(reader.examples.read(0, count).slot_mask.any(axis=1)))


def view_example(
    path: str | PathLike[str], set_name: str, example: int | None, target: str | None, top: int
) -> ExampleView:
    """What there is to say of one example.

    Args:
        path: the cache.
        set_name: the set of the example.
        example: its number in the set; None for the first that has slots.
        target: the target to show; None for the first by name.
        top: how many tokens of each distribution.

    Raises:
        CacheNotFoundError: there is no cache at ``path``.
        IncompleteCacheError: there is no such set, example or target.
        DamagedCacheError: bytes are missing or are not those that were written.
    """
    cache = open_cache(Path(path).absolute())
    reader = cache.set(set_name)
    if example is None:
        example = default_example(reader)
    _require_example(cache, reader, example)
    chosen = _choose_target(cache, reader, example, target)
    part = _part_of(reader, example)
    words = load_token_text(cache, reader.record.support)
    record = reader.examples.read(example, example + 1)
    special = cache.manifest.supports[reader.record.support].special
    context = _Context(reader, words, record, example, part, top, special.get("mask"))
    return ExampleView(
        set=set_name,
        example=example,
        part=part,
        split=SPLIT_NAMES[int(reader.examples.splits(example, example + 1)[0])],
        tokens=int(record.attention_mask.sum()),
        documents=tuple(_documents(reader, example)),
        pieces=tuple(_pieces(words, record, {one for one in special.values() if one is not None})),
        target=chosen,
        slots=tuple(_slots(context, chosen)),
    )


@dataclass(frozen=True, slots=True)
class _Context:
    reader: SetReader
    words: TokenText
    record: Examples
    example: int
    part: str
    top: int
    mask_id: int | None


def _require_example(cache: CacheReader, reader: SetReader, example: int) -> None:
    if 0 <= example < reader.n_examples:
        return
    message = f"No example {example} in set {reader.name!r} of {cache.path}: "
    if reader.n_examples == 0:
        message += "it has none yet. Run the same `ckd-cache build` again to go on."
    else:
        last = reader.n_examples - 1
        message += f"its examples are 0 to {last}. Try --example {last}."
    raise IncompleteCacheError(message)


def _part_of(reader: SetReader, example: int) -> str:
    names = [part.name for part in reader.record.parts if part.first_example <= example]
    return names[-1]


def _choose_target(
    cache: CacheReader, reader: SetReader, example: int, target: str | None
) -> str | None:
    part = _part_of(reader, example)
    made = [name for name, record in reader.record.targets.items() if part in record.parts]
    if target is None:
        return made[0] if made else None
    if target in made:
        return target
    known = ", ".join(map(repr, made)) or "none"
    recorded = reader.record.targets.get(target)
    if recorded is not None and not recorded.stored:
        message = (
            f"Target {target!r} of set {reader.name!r} in {cache.path} is a rule that is only "
            f"recorded, so there is nothing of it to show; stored is {known}. `ckd-cache inspect "
            f"{cache.path} --target {target}` merges it and says what it does."
        )
        raise IncompleteCacheError(message)
    message = (
        f"No target {target!r} for example {example} of set {reader.name!r} in {cache.path}; "
        f"there is {known}. `ckd-cache merge` adds targets."
    )
    raise IncompleteCacheError(message)


def _documents(reader: SetReader, example: int) -> Iterator[DocumentView]:
    spans = reader.examples.segments(example, example + 1).spans[0]
    rows = reader.examples.documents([span.document for span in spans])
    for span in spans:
        row = rows[span.document]
        yield DocumentView(row.id, row.source, row.genre, span.char_start, span.char_end)


def _pieces(words: TokenText, record: Examples, special: set[int]) -> Iterator[Piece]:
    used = record.slot_mask[0]
    positions = record.slot_positions[0, used]
    tokens = record.input_ids[0, : int(record.attention_mask[0].sum())].copy()
    tokens[positions] = record.gold_ids[0, used]
    slot_at = {int(position): slot for slot, position in enumerate(positions)}
    shown = [place for place, token in enumerate(tokens) if int(token) not in special]
    texts = words.in_sequence([int(tokens[place]) for place in shown])
    for place, text in zip(shown, texts, strict=True):
        yield Piece(text, slot_at.get(place))


def _slots(context: _Context, target: str | None) -> Iterator[SlotView]:
    reader, start, stop = context.reader, context.example, context.example + 1
    teachers = {
        name: reader.teachers[name].read(start, stop)
        for name, record in reader.record.teachers.items()
        if context.part in record.parts
    }
    merged = None if target is None else reader.targets[target].read(start, stop)
    order = [] if target is None else reader.record.targets[target].teachers
    for slot in range(int(context.record.slot_mask[0].sum())):
        predictions = tuple(
            _teacher_prediction(context, name, arrays, slot, _weight(merged, order, name, slot))
            for name, arrays in teachers.items()
        )
        mixture = None
        if target is not None and merged is not None:
            mixture = _target_prediction(context, target, merged, slot)
        yield _slot(context, slot, predictions, mixture)


def _slot(
    context: _Context, slot: int, teachers: tuple[Prediction, ...], target: Prediction | None
) -> SlotView:
    record = context.record
    position = int(record.slot_positions[0, slot])
    gold = int(record.gold_ids[0, slot])
    seen = int(record.input_ids[0, position])
    fate: Fate = "masked" if seen == context.mask_id else "kept" if seen == gold else "random"
    words = context.words
    return SlotView(
        slot, position, words.alone(gold), gold, words.alone(seen), fate, teachers, target
    )


def _weight(merged: TargetArrays | None, order: list[str], name: str, slot: int) -> float | None:
    if merged is None or name not in order:
        return None
    return float(merged.weights[0, slot, order.index(name)])


def _teacher_prediction(
    context: _Context, name: str, arrays: TeacherArrays, slot: int, weight: float | None
) -> Prediction:
    plain = context.reader.record.teachers[name].temperatures.index(1.0)
    return Prediction(
        name=name,
        weight=weight,
        gold_probability=math.exp(arrays.gold_logprob[0, slot]),
        gold_rank=int(arrays.gold_rank[0, slot]),
        top=_top(context, arrays, slot),
        tail=math.exp(arrays.tail[0, slot, plain]),
        uncertain=None,
    )


def _target_prediction(context: _Context, name: str, arrays: TargetArrays, slot: int) -> Prediction:
    valid = int(arrays.n_valid[0, slot])
    places = np.flatnonzero(arrays.ids[0, slot, :valid] == context.record.gold_ids[0, slot])
    return Prediction(
        name=name,
        weight=None,
        gold_probability=math.exp(arrays.gold_logprob[0, slot]),
        gold_rank=int(places[0]) if places.size else None,
        top=_top(context, arrays, slot),
        tail=math.exp(arrays.tail[0, slot]),
        uncertain=float(arrays.uncertain[0, slot]),
    )


def _top(
    context: _Context, arrays: TeacherArrays | TargetArrays, slot: int
) -> tuple[TokenView, ...]:
    count = min(context.top, int(arrays.n_valid[0, slot]))
    return tuple(
        TokenView(context.words.alone(int(token)), int(token), math.exp(logprob))
        for token, logprob in zip(
            arrays.ids[0, slot, :count], arrays.logprobs[0, slot, :count], strict=True
        )
    )
