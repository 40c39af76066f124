"""The manifest of a cache: its records, and its bytes (docs/format.md, Manifest)."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ckd_cache.errors import DamagedCacheError, FormatVersionError
from ckd_cache.fingerprint import hash_bytes
from ckd_cache.format.consistency import inconsistency
from ckd_cache.format.spec import FORMAT_NAME, FORMAT_VERSION, Capture, Layout
from ckd_cache.types import JsonObject, JsonValue

__all__ = [
    "FilesRecord",
    "FilledPart",
    "GatherRecord",
    "IncrementRecord",
    "Manifest",
    "PartRecord",
    "SetRecord",
    "SupportRecord",
    "TargetRecord",
    "TeacherRecord",
    "dumps",
    "loads",
]

_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
_Increment = Annotated[str, StringConstraints(pattern=r"^[0-9]{4,9}$")]
_Part = Annotated[str, StringConstraints(pattern=r"^v[0-9]{1,9}-[0-9]{4,9}$")]
_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_FilesName = Annotated[str, StringConstraints(pattern=r"^files-[0-9a-f]{64}\.parquet$")]
_Count = Annotated[int, Field(ge=0, le=2**62)]
_Size = Annotated[int, Field(ge=1, le=2**31)]
_TokenId = Annotated[int, Field(ge=0, lt=2**31)]


class _Record(BaseModel):
    """Settings that all records share: immutable, no unknown members, no coercion."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=()
    )


class SupportRecord(_Record):
    """A support; its files lie in ``supports/<fingerprint>/``.

    Attributes:
        kind: ``tokens``.
        size: number of entries.
        special: ids of ``mask``, ``pad``, ``cls``, ``sep``, ``unk``, ``bos`` and ``eos``.
    """

    kind: str
    size: _Size
    special: dict[str, _TokenId | None]

    @property
    def mask_id(self) -> int | None:
        """Id of the mask token."""
        return self.special.get("mask")

    @property
    def pad_id(self) -> int:
        """Id that pads examples: the padding token's, or 0 where there is none."""
        return self.special.get("pad") or 0


class IncrementRecord(_Record):
    """What one addition to the corpus brought: segments in a fixed order.

    Attributes:
        segments: number of segments.
        tokens: number of tokens, specials included.
        documents: documents kept.
        duplicates: documents dropped because an earlier one has the same text.
        skipped: records of sources that could not be read.
        splits: segments by name of the split.
        genres: documents by genre.
        cut: tokens that did not fit into the segments of a twin set; 0 in others.
    """

    name: _Increment
    fingerprint: _Sha256
    identity: dict[str, JsonValue]
    segments: _Count
    tokens: _Count
    documents: _Count
    duplicates: _Count
    skipped: _Count
    splits: dict[str, _Count]
    genres: dict[str, _Count]
    cut: _Count = 0


class PartRecord(_Record):
    """One view of one increment.

    Attributes:
        first_example: number of its first example in the set.
        examples: number of examples.
        slots: number of used slots.
    """

    name: _Part
    view: _Count
    increment: _Increment
    fingerprint: _Sha256
    identity: dict[str, JsonValue]
    first_example: _Count
    examples: _Count
    slots: _Count


class FilledPart(_Record):
    """A part for which a teacher or a target holds arrays.

    Attributes:
        stats: sums over the part's slots.
        profile: how it was computed; enters no fingerprint.
    """

    fingerprint: _Sha256
    stats: dict[str, JsonValue]
    profile: dict[str, JsonValue]


class TeacherRecord(_Record):
    """A teacher of a set: what was captured of it, and for which parts."""

    model: str
    k: _Size
    temperatures: Annotated[list[float], Field(strict=False)]
    max_nats: Annotated[float, Field(ge=0)]
    step: Annotated[float, Field(ge=0)]
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    identity: dict[str, JsonValue]
    parts: dict[_Part, FilledPart]

    @property
    def capture(self) -> Capture:
        """What was kept of each distribution."""
        return Capture(self.k, tuple(self.temperatures), self.max_nats, self.step, self.top_p)


class TargetRecord(_Record):
    """A target of a set: its rule, its teachers in order, and for which parts it was made.

    Attributes:
        mixture: ``arithmetic`` or ``geometric``.
        calibrate: whether fitted temperatures are used.
        settings: what else the rule was given, by name; only what it has been given.
        fit: what was learned on the split ``fit``; None where nothing was.
        stored: False for a rule that is only recorded, to be used at load time.
    """

    weighting: str
    tau: float | None
    temperature: float
    k: _Size
    step: Annotated[float, Field(ge=0)]
    max_nats: Annotated[float, Field(ge=0)]
    teachers: Annotated[list[_Name], Field(strict=False)]
    missing: str
    mixture: str = "arithmetic"
    calibrate: str = "none"
    settings: dict[str, JsonValue] = {}
    fit: dict[str, JsonValue] | None = None
    stored: bool = True
    identity: dict[str, JsonValue]
    parts: dict[_Part, FilledPart]

    @property
    def capture(self) -> Capture:
        """What was kept of each mixture."""
        return Capture(self.k, (self.temperature,), self.max_nats, self.step)


class GatherRecord(_Record):
    """Logprobs that one teacher gives to the ids which others of its group keep and it does not.

    Attributes:
        teacher: whose logprobs these are.
        group: teachers whose kept ids make the union, sorted; ``teacher`` among them.
        width: most gathered ids of a slot, the size of the third axis.
        step: width in nats of the grid that logprobs are rounded to; 0: stored as float32.
    """

    teacher: _Name
    group: Annotated[list[_Name], Field(strict=False)]
    width: _Size
    step: Annotated[float, Field(ge=0)]
    identity: dict[str, JsonValue]
    parts: dict[_Part, FilledPart]


class SetRecord(_Record):
    """A set of examples with one objective, one support and one numbering.

    Attributes:
        twin_of: the set whose examples these are, cut by another tokenizer; None for a set of its
            own.
        gathers: by name, see ``GatherRecord``.
    """

    kind: Literal["masked_lm"]
    support: _Sha256
    segment_tokens: Annotated[int, Field(ge=1, le=65536)]
    slots_per_example: Annotated[int, Field(ge=1, le=65536)]
    chunk_examples: _Size
    shard_examples: _Size
    increments: list[IncrementRecord]
    parts: list[PartRecord]
    teachers: dict[_Name, TeacherRecord]
    targets: dict[_Name, TargetRecord]
    twin_of: _Name | None = None
    gathers: dict[_Name, GatherRecord] = {}

    def layout(self, support_size: int) -> Layout:
        """How the examples are cut."""
        return Layout(
            self.slots_per_example, self.chunk_examples, self.shard_examples, support_size
        )

    @property
    def examples(self) -> int:
        """Number of examples of all parts."""
        return sum(part.examples for part in self.parts)


class FilesRecord(_Record):
    """The files table of this generation.

    Attributes:
        path: ``files-<sha256>.parquet``.
        bytes: size of the table itself.
        rows: number of files it names.
        previous: the table of the generation before, which stays until the next commit.
    """

    path: _FilesName
    bytes: _Count
    rows: _Count
    previous: _FilesName | None = None


class Manifest(_Record):
    """Description of a cache.

    Attributes:
        generation: counts commits, from 1.
        complete: whether everything the recipe asks for is there.
        recipe: the recipe as resolved.
        supports: by fingerprint.
        sets: by name.
        files: the files table; set by the commit.
        provenance: versions, times and machines; enters no fingerprint.
    """

    format: Literal["ckd-cache"] = FORMAT_NAME
    format_version: int = FORMAT_VERSION
    generation: _Count = 0
    complete: bool
    recipe: dict[str, JsonValue]
    supports: dict[_Sha256, SupportRecord]
    sets: dict[_Name, SetRecord]
    files: FilesRecord | None = None
    provenance: dict[str, JsonValue]


def dumps(manifest: Manifest) -> bytes:
    """Bytes of ``ckd.json``, with the digest of themselves.

    Raises:
        ValueError: a float is NaN or infinite.
    """
    members = manifest.model_dump(mode="python")
    return _text({**members, "digest": hash_bytes(_text(members))})


def loads(data: bytes, where: str) -> Manifest:
    """Manifest from the bytes of ``ckd.json``.

    Args:
        data: the bytes.
        where: path of the file, for messages.

    Raises:
        DamagedCacheError: the bytes are not those that were written, or make no manifest.
        FormatVersionError: they were written by a newer format.
    """
    members = _parse(data, where)
    version = members.get("format_version")
    if members.get("format") != FORMAT_NAME or type(version) is not int or version < 1:
        raise DamagedCacheError(_damage(where, "it is no manifest of a ckd-cache"))
    if version > FORMAT_VERSION:
        message = (
            f"{where}: the cache is in format version {version}; this ckd-cache reads versions up"
            f" to {FORMAT_VERSION}. Install a newer ckd-cache: `pip install -U ckd-cache`."
        )
        raise FormatVersionError(message)
    digest = members.pop("digest", None)
    if not _is_written(data, members, digest):
        raise DamagedCacheError(_damage(where, "its digest does not fit its contents"))
    try:
        manifest = Manifest.model_validate(members)
    except (ValidationError, RecursionError) as error:
        raise DamagedCacheError(_damage(where, _first_problem(error))) from error
    problem = inconsistency(manifest)
    if problem is not None:
        raise DamagedCacheError(_damage(where, problem))
    return manifest


def _text(members: JsonObject) -> bytes:
    text = json.dumps(
        members,
        sort_keys=True,
        indent=1,
        separators=(",", ": "),
        ensure_ascii=False,
        allow_nan=False,
    )
    return f"{text}\n".encode()


def _parse(data: bytes, where: str) -> JsonObject:
    try:
        members = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedCacheError(_damage(where, f"it is no JSON ({error})")) from error
    if not isinstance(members, dict):
        raise DamagedCacheError(_damage(where, "it is no JSON object"))
    return members


def _is_written(data: bytes, members: JsonObject, digest: JsonValue) -> bool:
    try:
        return hash_bytes(_text(members)) == digest and _text({**members, "digest": digest}) == data
    except (ValueError, RecursionError):
        return False


def _first_problem(error: ValidationError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(str(step) for step in first['loc'])}: {first['msg']}"


def _damage(where: str, found: str) -> str:
    return (
        f"{where}: the manifest is damaged: {found}. Restore ckd.json from a copy, or delete"
        " the folder it lies in and build the cache again: `ckd-cache build RECIPE --cache PATH`."
    )
