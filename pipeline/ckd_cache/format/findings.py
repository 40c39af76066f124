"""What verifying a cache finds, said so that a repairer can act on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Literal

from ckd_cache.types import JsonObject

__all__ = ["Artefact", "Finding", "Hit", "Problem", "Verification", "joined", "put_together"]

Artefact = Literal[
    "manifest",
    "files table",
    "support",
    "segments",
    "documents",
    "slots",
    "teacher",
    "target",
    "gather",
]
"""Kind of what is damaged."""

Problem = Literal[
    # of the manifest and the files table
    "manifest",  # the manifest speaks of something that it does not have
    "table",  # the files table is not the one that the manifest describes
    "unlisted",  # the files table lacks a file that the manifest calls for
    "stray",  # the files table names a file that the manifest does not call for
    "misplaced",  # the files table gives a file to another part or shard
    # of files
    "link",  # it, or a folder above it, is a link
    "missing",  # it is not there
    "kind",  # it is no regular file
    "size",  # it has another size
    "unreadable",  # the system cannot read it
    "sha256",  # its bytes are others
    # of what files with the right bytes hold
    "undecodable",  # it cannot be decoded, or does not describe what the manifest speaks of
    "token ids",  # ids are no rows of the support, or a slot keeps one twice
    "segments",  # lengths or splits of segments
    "spans",  # spans outside their segment or document
    "documents",  # numbers, splits or genres of documents
    "slots",  # numbers of slots, or their positions
    "gold",  # gold is not what was there, or its rank or logprob contradicts the kept ids
    "used slots",  # something at a slot that the example does not have, or nothing at one it has
    "logprobs",  # not finite, above 0, or rising
    "mass",  # kept entries and tail do not sum to 1, or what is gathered is more than the tail
    "tail",  # not a number, or above 0
    "logsumexp",  # not finite
    "entropy",  # outside 0 to the log of the support's size
    "weights",  # negative, or of another sum than 1
    "uncertain",  # outside the range of the bound
    "sums",  # counts or stats in the manifest are not those of what was read
]
"""What is wrong, the most basic first."""


@dataclass(frozen=True, slots=True, order=True)
class Hit:
    """Examples of a set, numbered over its parts, half-open."""

    set_name: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was written.

    Attributes:
        path: the file, relative to the cache.
        part: folder of the part it belongs to, such as ``text/teachers/a/v0-0000``; empty for
            the manifest and the files table.
        shard: number of the shard; -1 if the whole part is meant.
        artefact: kind of what is damaged.
        problem: what is wrong.
        detail: what was found and what was expected.
        examples: which examples it hits, ascending; empty if it is not about examples.
    """

    path: str
    part: str
    shard: int
    artefact: Artefact
    problem: Problem
    detail: str
    examples: tuple[Hit, ...] = ()

    def json(self) -> JsonObject:
        """The finding as strict JSON."""
        hits = [
            {"set": one.set_name, "start": one.start, "stop": one.stop} for one in self.examples
        ]
        members = {name: value for name, value in asdict(self).items() if name != "examples"}
        return {**members, "examples": hits}


@dataclass(frozen=True, slots=True)
class Verification:
    """What verifying a cache gave.

    Attributes:
        files: rows of the files table, all of which were looked at.
        bytes: their sizes together.
        examples: of all sets.
        findings: by path; empty if all is as it was written.
        notes: what is no damage but may surprise, sorted.
        quick: only presence and sizes were looked at.
    """

    files: int
    bytes: int
    examples: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    quick: bool

    def json(self) -> JsonObject:
        """Everything as strict JSON."""
        return {
            **asdict(self),
            "findings": [one.json() for one in self.findings],
            "notes": [*self.notes],
        }


def joined(hits: Iterable[Hit]) -> tuple[Hit, ...]:
    """Hits in order, those that touch or overlap put together."""
    result: list[Hit] = []
    for hit in sorted(hits):
        last = result[-1] if result else None
        if last is None or last.set_name != hit.set_name or last.stop < hit.start:
            result.append(hit)
        else:
            result[-1] = Hit(last.set_name, last.start, max(last.stop, hit.stop))
    return tuple(result)


def put_together(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings by path, one for each problem of a path; it hits what any of them hits."""
    ordered = sorted(findings, key=_key)
    return tuple(
        Finding(
            path=first.path,
            part=first.part,
            shard=first.shard,
            artefact=first.artefact,
            problem=first.problem,
            detail=first.detail,
            examples=joined(hit for one in (first, *rest) for hit in one.examples),
        )
        for _, (first, *rest) in (
            (key, list(group)) for key, group in groupby(ordered, lambda one: _key(one)[:3])
        )
    )


def _key(finding: Finding) -> tuple[str, str, str, int, tuple[Hit, ...], str]:
    return (
        finding.path,
        finding.part,
        finding.problem,
        finding.shard,
        finding.examples,
        finding.detail,
    )
