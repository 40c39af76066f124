"""Fingerprints: sha256 over the canonical JSON of named identity fields.

Canonical JSON (docs/format.md, section Fingerprints): UTF-8, keys sorted by code point, no white
space between tokens, no escapes beyond those JSON demands, integers as decimal digits, floats in
the shortest form that reads back to the same double, no NaN and no infinity.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from ckd_cache.types import JsonObject, JsonValue

__all__ = [
    "FINGERPRINT_VERSION",
    "canonical_json",
    "differences",
    "fingerprint",
    "hash_bytes",
    "hash_file",
]

FINGERPRINT_VERSION = 1
_READ_BYTES = 1 << 20


def canonical_json(value: JsonValue) -> bytes:
    """Canonical JSON bytes of ``value``.

    Raises:
        ValueError: a float is NaN or infinite.
        TypeError: something in ``value`` has no JSON form.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode("utf-8")


def fingerprint(identity: Mapping[str, JsonValue]) -> str:
    """Fingerprint of identity fields: 64 hexadecimal digits."""
    return hash_bytes(canonical_json({"fingerprint_version": FINGERPRINT_VERSION, **identity}))


def hash_bytes(data: bytes) -> str:
    """sha256 of ``data``: 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def hash_file(path: Path) -> str:
    """sha256 of a file's bytes, read in pieces.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def differences(
    stored: JsonObject, current: JsonObject, prefix: str = ""
) -> Iterator[tuple[str, JsonValue, JsonValue]]:
    """Fields in which two identities differ, as (dotted path, stored value, current value).

    A field that one side lacks counts as None there. Lists are compared whole.
    """
    for name in sorted({*stored, *current}):
        path = f"{prefix}{name}"
        old, new = stored.get(name), current.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from differences(old, new, f"{path}.")
        elif old != new:
            yield path, old, new
