"""The recipe: what a person writes to say what to build.

Identity fields change numbers; ``runtime`` does not and never enters a fingerprint.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, Strict, field_validator, model_validator

from ckd_cache.build.recipe_sources import NAME_PATTERN, Line, Name, Section, Source, source_name
from ckd_cache.build.target_request import refuse_contradictions, request_in_recipe, rule_of
from ckd_cache.build.target_section import Target
from ckd_cache.errors import MergeError, RecipeError
from ckd_cache.settings import read_settings
from ckd_cache.types import JsonObject, JsonValue

__all__ = [
    "NAME_PATTERN",
    "Capture",
    "Corpus",
    "Corruption",
    "MaskedLm",
    "Recipe",
    "Runtime",
    "SetRecipe",
    "Shards",
    "Source",
    "Splits",
    "Target",
    "Teacher",
    "read_recipe",
]

Fractions = Annotated[tuple[float, float], Strict(False)]
Temperatures = Annotated[tuple[float, ...], Strict(False)]
"""YAML has lists and no tuples; what is inside of them stays strict."""
Dtype = Literal["float32", "bfloat16", "float16"]
DEFAULT_SET = "text"
RESERVED_SETS = ("journal", "staging", "supports")
"""Folders of a cache that are no sets."""
_COLDEST, _HOTTEST = 0.05, 100.0
_SHARD_SLOTS, _CHUNK_SLOTS, _BATCH_TOKENS = 2**24, 2**20, 2**24
_MOST_THREADS = 1_024


class Corpus(Section):
    """Where the text comes from and how it is cut into segments."""

    sources: list[Source] = Field(min_length=1)
    tokenizer: Line | None = Field(None, description="folder or hub name; default: first teacher's")
    segment_tokens: int = Field(128, ge=4, le=65_535)
    pack: bool = True
    deduplicate: bool = True

    @model_validator(mode="after")
    def _distinct_sources(self) -> Self:
        _distinct("source", [source_name(source) for source in self.sources])
        return self


class Corruption(Section):
    """What happens to a slot's token: shares of [MASK], a random token, the token itself."""

    mask: float = Field(0.8, ge=0, le=1)
    random: float = Field(0.1, ge=0, le=1)
    keep: float = Field(0.1, ge=0, le=1)

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        total = self.mask + self.random + self.keep
        if abs(total - 1.0) > 1e-9:
            message = f"mask + random + keep is {total:g}, expected 1"
            raise ValueError(message)
        return self


class MaskedLm(Section):
    """Masked language modelling."""

    kind: Literal["masked_lm"] = "masked_lm"
    mask_fraction: float | Fractions = 0.15
    corruption: Corruption = Corruption()
    whole_word: bool = False
    views: int = Field(1, ge=1, le=1_000)
    seed: int = Field(0, ge=0, lt=2**63)

    @field_validator("mask_fraction")
    @classmethod
    def _in_range(cls, value: float | tuple[float, float]) -> float | tuple[float, float]:
        low, high = value if isinstance(value, tuple) else (value, value)
        if not (0 <= low <= high <= 1 and high > 0):
            message = (
                f"found {value}, expected a number above 0 and up to 1, or a range [low, high] "
                "with 0 <= low <= high <= 1"
            )
            raise ValueError(message)
        return value


class SetRecipe(Section):
    """A set: a corpus and an objective."""

    corpus: Corpus
    objective: MaskedLm = MaskedLm()


class Teacher(Section):
    """A model whose distributions are cached."""

    name: Name
    model: Line
    revision: Line | None = None
    dtype: Dtype = "float32"
    attention: Literal["sdpa", "eager"] | None = Field(
        None, description="default: sdpa where the model has it, else eager"
    )
    tokenizer: Literal["own", "corpus", "twin"] = Field(
        "own",
        description="corpus: the folder has no tokenizer, its ids are the corpus's; "
        "twin: it has another one, and reads the same words in its own tokens",
    )
    trust_remote_code: bool = False


class Splits(Section):
    """Shares of documents kept out of training; the rest is ``train``."""

    fit: float = Field(0.02, ge=0, lt=1)
    test: float = Field(0.02, ge=0, lt=1)

    @model_validator(mode="after")
    def _leave_something(self) -> Self:
        if self.fit + self.test >= 1:
            message = f"fit + test is {self.fit + self.test:g}: nothing is left to train on"
            raise ValueError(message)
        return self


class Capture(Section):
    """What is kept of a teacher's distributions."""

    top_k: int = Field(32, ge=1, le=65_535)
    top_p: float = Field(1.0, gt=0, le=1)
    temperatures: Temperatures = (1.0,)
    max_nats: float = Field(1.0e-4, ge=0, le=0.1)

    @field_validator("temperatures")
    @classmethod
    def _usable(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        usable = all(_COLDEST <= temperature <= _HOTTEST for temperature in value)
        if 1.0 not in value or len(set(value)) != len(value) or not usable:
            message = (
                f"found {list(value)}, expected distinct temperatures from {_COLDEST} to {_HOTTEST}"
                " with 1.0 among them"
            )
            raise ValueError(message)
        return tuple(sorted(value))

    @field_validator("max_nats")
    @classmethod
    def _representable(cls, value: float) -> float:
        if 0 < value < 1e-12:
            message = f"found {value:g}, expected 0 (store float32) or at least 1e-12"
            raise ValueError(message)
        return value


class Shards(Section):
    """Slots of a shard (unit of work and of restart) and of a chunk (unit of reading)."""

    slots: int = Field(131_072, ge=1, le=_SHARD_SLOTS)
    chunk_slots: int = Field(8_192, ge=1, le=_CHUNK_SLOTS)


class Runtime(Section):
    """How to run; nothing here changes what is built."""

    device: str = "auto"
    batch_tokens: int = Field(16_384, ge=1, le=_BATCH_TOKENS)
    threads: int | None = Field(
        None, ge=1, le=_MOST_THREADS, description="default: the machine's cores"
    )
    workers: int = Field(1, ge=1, le=_MOST_THREADS)

    @field_validator("device")
    @classmethod
    def _known(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", value):
            message = f"found {value!r}, expected auto, cpu, mps, cuda or cuda:N"
            raise ValueError(message)
        return value

    @field_validator("workers")
    @classmethod
    def _single(cls, value: int) -> int:
        if value != 1:
            message = f"found {value}, expected 1: this version builds with one worker"
            raise ValueError(message)
        return value


class Recipe(Section):
    """A whole recipe, checked; relative paths are relative to ``root``."""

    corpus: Corpus | None = None
    objective: MaskedLm | None = None
    sets: dict[Name, SetRecipe] | None = Field(None, min_length=1)
    teachers: list[Teacher]
    splits: Splits = Splits()
    capture: Capture = Capture()
    shards: Shards = Shards()
    gather: list[list[Name]] | None = Field(
        None, description="groups of teachers that `missing: exact` shall be possible for later"
    )
    targets: list[Target] = Field(
        [Target(name="gold"), Target(name="uniform", weighting="uniform")],
        description="default: none where there are no teachers",
    )
    runtime: Runtime = Runtime()

    @model_validator(mode="before")
    @classmethod
    def _no_teachers_no_targets(cls, data: JsonValue) -> JsonValue:
        if isinstance(data, dict) and data.get("teachers") == []:
            return {"targets": [], **data}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.corpus is None) == (self.sets is None):
            message = "expected either `corpus` (the set `text`) or `sets`"
            raise ValueError(message)
        if self.sets is not None and self.objective is not None:
            message = "`objective` belongs inside each of `sets`"
            raise ValueError(message)
        reserved = sorted(set(self.each_set()) & set(RESERVED_SETS))
        if reserved:
            message = f"a set cannot be called {', '.join(reserved)}: a cache has such a folder"
            raise ValueError(message)
        self._check_tokenizers()
        self._check_twins()
        if self.targets and not self.teachers:
            message = "`targets` mix teachers, and `teachers` is empty; leave `targets` out"
            raise ValueError(message)
        known = [teacher.name for teacher in self.teachers]
        _distinct("teacher", known)
        _distinct("target", [target.name for target in self.targets])
        for target in self.targets:
            _check_target(target, known, self.capture)
        for group in self.gather or []:
            _check_group(group, known)
        return self

    def each_set(self) -> Mapping[str, SetRecipe]:
        """Name to recipe of every set."""
        if self.sets is not None:
            return self.sets
        if self.corpus is None:
            return {}
        return {DEFAULT_SET: SetRecipe(corpus=self.corpus, objective=self.objective or MaskedLm())}

    def tokenizer_of(self, set_recipe: SetRecipe) -> tuple[str, str | None]:
        """Folder or hub name of a set's tokenizer, and its revision."""
        if set_recipe.corpus.tokenizer is not None:
            return set_recipe.corpus.tokenizer, None
        first = self.teachers[0]
        return first.model, first.revision

    def identity(self) -> JsonObject:
        """The resolved recipe without ``runtime``, as it goes into the manifest."""
        sets = {name: self._resolved_set(one) for name, one in self.each_set().items()}
        targets = [
            target.model_copy(
                update={
                    "top_k": target.top_k or self.capture.top_k,
                    "tau": request_in_recipe(target, self.capture.top_k).softness,
                }
            )
            for target in self.targets
        ]
        update = {"corpus": None, "objective": None, "sets": sets, "targets": targets}
        resolved: JsonObject = self.model_copy(update=update).model_dump(
            mode="json", exclude={"runtime"}, exclude_none=True
        )
        return resolved

    def _resolved_set(self, set_recipe: SetRecipe) -> SetRecipe:
        sources = [
            source.model_copy(
                update={"name": source_name(source), "genre": source.genre or source_name(source)}
            )
            for source in set_recipe.corpus.sources
        ]
        update = {"sources": sources, "tokenizer": self.tokenizer_of(set_recipe)[0]}
        corpus = set_recipe.corpus.model_copy(update=update)
        return set_recipe.model_copy(update={"corpus": corpus})

    def _check_tokenizers(self) -> None:
        """Every set names its tokenizer, or the first teacher has one."""
        if all(one.corpus.tokenizer is not None for one in self.each_set().values()):
            return
        if not self.teachers:
            message = "there are no teachers to take a tokenizer from; name `corpus.tokenizer`"
            raise ValueError(message)
        if self.teachers[0].tokenizer != "own":
            message = (
                f"teacher {self.teachers[0].name} comes first and has `tokenizer: "
                f"{self.teachers[0].tokenizer}`, so the corpus has no tokenizer; name one as "
                "`corpus.tokenizer`"
            )
            raise ValueError(message)

    def _check_twins(self) -> None:
        """Whole words are masked, and nothing else is done to them, where tokenizers differ."""
        twins = [teacher.name for teacher in self.teachers if teacher.tokenizer == "twin"]
        for name, one in self.each_set().items():
            found = one.objective
            if twins and not (found.whole_word and found.corruption.mask == 1.0):
                message = (
                    f"teacher {twins[0]} has `tokenizer: twin`, which needs the same words masked "
                    f"for every tokenizer, but the objective of set {name} has `whole_word: "
                    f"{str(found.whole_word).lower()}` and mask {found.corruption.mask:g} of its "
                    "corruption; set `whole_word: true` and `corruption: {mask: 1.0, random: 0, "
                    "keep: 0}`"
                )
                raise ValueError(message)


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a YAML recipe, with ``a.b=c`` overrides.

    Raises:
        RecipeError: the file is missing or is no YAML mapping, or something in it cannot be
            used; every problem is named at once with its path.
    """
    return read_settings(path, Recipe, overrides)


def _distinct(word: str, names: Sequence[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        message = (
            f"each {word} needs a name of its own; found more than once: {', '.join(repeated)}"
        )
        raise ValueError(message)


def _check_group(group: Sequence[str], known: Sequence[str]) -> None:
    listed = ", ".join(group)
    unknown = sorted(set(group) - set(known))
    if unknown:
        message = (
            f"gather [{listed}]: no teacher called {', '.join(unknown)}; there are "
            f"{', '.join(known) or 'none'}"
        )
        raise ValueError(message)
    if len(set(group)) < len(group) or len(group) < 2:
        message = f"gather [{listed}]: expected two or more teachers, each once"
        raise ValueError(message)


def _check_target(target: Target, known: Sequence[str], capture: Capture) -> None:
    _distinct(f"teacher of target {target.name}", target.teachers or [])
    unknown = sorted(set(target.teachers or []) - set(known))
    if unknown:
        message = (
            f"target {target.name}: no teacher called {', '.join(unknown)}; "
            f"there are {', '.join(known)}"
        )
        raise ValueError(message)
    if target.temperature not in capture.temperatures:
        message = (
            f"target {target.name}: temperature {target.temperature:g} is not captured; "
            f"add it to capture.temperatures, now {list(capture.temperatures)}"
        )
        raise ValueError(message)
    try:
        request = request_in_recipe(target, capture.top_k)
        refuse_contradictions(request)
        rule_of(request, tuple(target.teachers or known), capture.top_k)
    except (MergeError, RecipeError) as error:
        message = f"target {target.name}: {error}"
        raise ValueError(message) from error
