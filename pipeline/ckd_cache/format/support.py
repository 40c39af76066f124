"""Supports in a cache: the tokenizer's files and ``support.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from ckd_cache.errors import DamagedCacheError
from ckd_cache.fingerprint import canonical_json
from ckd_cache.format.access import FileAccess
from ckd_cache.format.manifest import SupportRecord
from ckd_cache.format.paths import support_part
from ckd_cache.format.spec import SUPPORT_NAME

__all__ = ["SupportFiles", "SupportReader", "decode_support", "encode_support"]


@dataclass(frozen=True, slots=True)
class SupportFiles:
    """A support as it lies in a cache.

    Attributes:
        kind: ``tokens``.
        size: number of entries, V.
        special: ids of the special tokens by role.
    """

    kind: str
    size: int
    special: Mapping[str, int | None]

    @property
    def record(self) -> SupportRecord:
        """Its record in the manifest."""
        return SupportRecord(kind=self.kind, size=self.size, special=dict(self.special))


@dataclass(frozen=True)
class SupportReader:
    """A support of a cache, read when it is first needed.

    Attributes:
        access: the cache's files.
        fingerprint: of the support.
        record: its record in the manifest.
    """

    access: FileAccess
    fingerprint: str
    record: SupportRecord

    @cached_property
    def files(self) -> SupportFiles:
        """What lies in ``supports/<fingerprint>/``.

        Raises:
            DamagedCacheError: a file is missing or damaged, or does not fit the manifest.
        """
        described = f"{support_part(self.fingerprint)}/{SUPPORT_NAME}"
        with self.access.reading(described):
            support = decode_support(self.access.verified(described).read_bytes())
        if support.record != self.record:
            found = "it does not describe the support that the manifest speaks of"
            raise DamagedCacheError(self.access.damage(described, found))
        return support


def encode_support(
    fingerprint: str, support: SupportFiles, files: Mapping[str, bytes]
) -> dict[str, bytes]:
    """All files of a support, by path relative to the cache.

    Args:
        fingerprint: of the support.
        support: what it is.
        files: the tokenizer's files by name.
    """
    described = {"kind": support.kind, "size": support.size, "special": dict(support.special)}
    own = {SUPPORT_NAME: canonical_json(described) + b"\n"}
    folder = support_part(fingerprint)
    return {f"{folder}/{name}": data for name, data in {**files, **own}.items()}


def decode_support(described: bytes) -> SupportFiles:
    """A support from the bytes of ``support.json``.

    Raises:
        ValueError, KeyError, TypeError: they are not what was written.
    """
    members = json.loads(described)
    return SupportFiles(members["kind"], members["size"], members["special"])
