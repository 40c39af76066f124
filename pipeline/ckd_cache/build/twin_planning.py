"""Twin sets of a recipe: the examples of a set, for teachers with another tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ckd_cache.build.identity import refuse_change
from ckd_cache.build.increments import layout_identity
from ckd_cache.build.planning import plan_teacher
from ckd_cache.build.recipe import Recipe, Teacher
from ckd_cache.build.segments_stage import Cut
from ckd_cache.build.support_stage import support_identity
from ckd_cache.build.teacher_stage import PlannedTeacher
from ckd_cache.corpus.tokenizer import CorpusTokenizer, load_tokenizer
from ckd_cache.errors import MergeError, RecipeError, TeacherError
from ckd_cache.fingerprint import fingerprint
from ckd_cache.format.manifest import SetRecord
from ckd_cache.format.spec import Layout
from ckd_cache.format.token_strings import token_strings
from ckd_cache.teachers.identity import TeacherFiles
from ckd_cache.teachers.structure import structure_of
from ckd_cache.types import JsonObject

__all__ = [
    "PlannedTwins",
    "TwinCut",
    "check_twin",
    "plan_twins",
    "twin_cut",
    "twin_segments_identity",
]

_NAME_DIGITS = 12
_TOKENS, _SLOTS = 2, 3
"""Tokens of a twin's segment and slots of its example, over those of the set: what does not fit is
left out."""


@dataclass(frozen=True)
class TwinCut:
    """How a set's examples are cut by another tokenizer.

    Attributes:
        set_name: the twin set.
        cut: of the set.
        tokenizer: the twin's.
        segment_tokens: most tokens of a segment, specials included.
        layout: of the twin's examples: as many of them in a chunk and in a shard as the set has.
    """

    set_name: str
    cut: Cut
    tokenizer: CorpusTokenizer
    segment_tokens: int
    layout: Layout


@dataclass(frozen=True, slots=True)
class PlannedTwins:
    """The twin sets of a recipe.

    Attributes:
        cuts: by name of the twin set.
        teachers: by name: how each runs, by twin set.
    """

    cuts: dict[str, TwinCut]
    teachers: dict[str, dict[str, PlannedTeacher]]


def plan_twins(
    recipe: Recipe, cuts: Mapping[str, Cut], files: Mapping[str, TeacherFiles]
) -> PlannedTwins:
    """The twin sets that the recipe's teachers need, and how these run on them.

    Args:
        recipe: what to build.
        cuts: of its sets.
        files: of its teachers.

    Raises:
        TeacherError: a teacher cannot be run on a twin set.
        CorpusError: a tokenizer cannot be loaded.
        RecipeError: a chunk would be too large.
    """
    found = [
        _candidate(teacher, files[teacher.name])
        for teacher in recipe.teachers
        if teacher.tokenizer == "twin"
    ]
    planned: dict[str, TwinCut] = {}
    teachers: dict[str, dict[str, PlannedTeacher]] = {one.teacher.name: {} for one in found}
    for cut in cuts.values():
        for one in found:
            _refuse_same(one, cut)
            alike = [other for other in found if other.support == one.support]
            _refuse_other_behaviour(one, alike[0])
            twin = _twin(cut, one.tokenizer, min(other.positions for other in alike))
            k = min(recipe.capture.top_k, twin.tokenizer.size)
            _check_chunk(twin, k)
            planned[twin.set_name] = twin
            teachers[one.teacher.name][twin.set_name] = plan_teacher(
                recipe, one.teacher, one.files, twin.tokenizer, twin.segment_tokens
            )
    return PlannedTwins(planned, teachers)


def twin_cut(cut: Cut, set_name: str, record: SetRecord, tokenizer: CorpusTokenizer) -> TwinCut:
    """How a twin set that is in a cache was cut.

    Args:
        cut: of the set.
        set_name: the twin set.
        record: of the twin set.
        tokenizer: of the twin set.
    """
    return TwinCut(set_name, cut, tokenizer, record.segment_tokens, record.layout(tokenizer.size))


def check_twin(twin: TwinCut, own: SetRecord, record: SetRecord) -> None:
    """Check that a twin set in a cache is what the recipe asks for.

    Args:
        twin: the plan.
        own: record of the set.
        record: record of the twin set.

    Raises:
        MismatchError: it is not; names the fields.
    """
    name = f"set {twin.set_name}, the twin of {twin.cut.set_name},"
    fingerprints = {increment.name: increment.fingerprint for increment in own.increments}
    for increment in record.increments:
        wanted = twin_segments_identity(twin, fingerprints[increment.name])
        refuse_change(name, increment.identity, wanted, named=False)
    stored = record.layout(twin.layout.support_size)
    refuse_change(name, layout_identity(stored), layout_identity(twin.layout), named=False)


def twin_segments_identity(twin: TwinCut, segments: str) -> JsonObject:
    """Identity of the twin of the segments with fingerprint ``segments``."""
    return {
        "twin_of": segments,
        "tokenizer": twin.tokenizer.behaviour,
        "segment_tokens": twin.segment_tokens,
    }


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A teacher with a tokenizer of its own; ``positions`` are the tokens that it can read."""

    teacher: Teacher
    files: TeacherFiles
    tokenizer: CorpusTokenizer
    support: str
    positions: int


def _candidate(teacher: Teacher, files: TeacherFiles) -> _Candidate:
    tokenizer = load_tokenizer(str(files.folder.absolute()), files.folder)
    _require_strings(teacher.name, tokenizer)
    tokenizer.require_mask()
    if not tokenizer.n_special:
        message = (
            f"teacher {teacher.name}: its tokenizer puts no special token around a text, so that "
            "segments without its tokens would be empty; such teachers cannot read a twin set. "
            "Leave this teacher out."
        )
        raise TeacherError(message)
    structure = structure_of(
        teacher.name, files.folder, teacher.attention, remote_code=teacher.trust_remote_code
    )
    return _Candidate(
        teacher=teacher,
        files=files,
        tokenizer=tokenizer,
        support=fingerprint(support_identity(tokenizer)),
        positions=_LONGEST if structure.positions is None else structure.positions,
    )


_LONGEST = 65_535


def _twin(cut: Cut, tokenizer: CorpusTokenizer, positions: int) -> TwinCut:
    support = fingerprint(support_identity(tokenizer))
    tokens = min(_TOKENS * cut.settings.segment_tokens, positions, _LONGEST)
    own = cut.layout
    slots = max(1, min(_SLOTS * own.slots, tokens - tokenizer.n_special))
    return TwinCut(
        set_name=f"{cut.set_name}.{support[:_NAME_DIGITS]}",
        cut=cut,
        tokenizer=tokenizer,
        segment_tokens=tokens,
        layout=Layout(slots, own.chunk_examples, own.shard_examples, tokenizer.size),
    )


_LARGEST_CHUNK = 2**31 - 2**20
"""Bytes: what Blosc takes in one piece, less its own."""


def _check_chunk(twin: TwinCut, k: int) -> None:
    found = 4 * k * twin.layout.slots * twin.layout.chunk_examples
    if found > _LARGEST_CHUNK:
        message = (
            f"shards.chunk_slots: {twin.layout.chunk_examples} examples of set {twin.set_name}, "
            f"the twin of {twin.cut.set_name}, with {twin.layout.slots} slots of {k} kept entries "
            f"are a chunk of {found:,} bytes, expected at most {_LARGEST_CHUNK:,}. Set "
            "shards.chunk_slots or capture.top_k lower."
        )
        raise RecipeError(message)


def _require_strings(name: str, tokenizer: CorpusTokenizer) -> None:
    """Check that the tokenizer's tokens can be carried over by their text.

    Raises:
        TeacherError: they cannot.
    """
    try:
        token_strings(tokenizer.description(), ())
    except MergeError as error:
        message = f"teacher {name}: {error}"
        raise TeacherError(message) from error


def _refuse_same(one: _Candidate, cut: Cut) -> None:
    if one.support == fingerprint(support_identity(cut.tokenizer)):
        message = (
            f"teacher {one.teacher.name} has `tokenizer: twin`, but its tokens are those of set "
            f"{cut.set_name}: leave `tokenizer` out, so that it is run on the set itself."
        )
        raise TeacherError(message)


def _refuse_other_behaviour(one: _Candidate, first: _Candidate) -> None:
    if one.tokenizer.behaviour != first.tokenizer.behaviour:
        message = (
            f"teachers {first.teacher.name} and {one.teacher.name} have the same tokens but cut "
            "text differently (case or accents, perhaps), so that they need two twin sets of one "
            "name. Give both the same tokenizer.json, or build one of them into another cache."
        )
        raise TeacherError(message)
