"""Supports in a cache: the tokenizer's files, ``support.json`` and the order of the ids."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from ckd_cache.errors import DamagedCacheError
from ckd_cache.fingerprint import canonical_json
from ckd_cache.format.access import FileAccess
from ckd_cache.format.arrow_io import file_of
from ckd_cache.format.manifest import SupportRecord
from ckd_cache.format.paths import support_part
from ckd_cache.format.spec import ORDER_NAME, SUPPORT_NAME, id_dtype
from ckd_cache.types import Array

__all__ = ["SupportFiles", "SupportReader", "decode_support", "encode_support", "order_of"]


@dataclass(frozen=True, slots=True)
class SupportFiles:
    """A support as it lies in a cache.

    Attributes:
        kind: ``tokens``.
        size: number of entries, V.
        special: ids of the special tokens by role.
        order: (V,) uint16 or uint32, the ids by falling frequency in the corpus. Stored ids are
            rows of it, so that frequent ones are small numbers.
    """

    kind: str
    size: int
    special: Mapping[str, int | None]
    order: Array

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
        folder = support_part(self.fingerprint)
        described, order = f"{folder}/{SUPPORT_NAME}", f"{folder}/{ORDER_NAME}"
        with self.access.reading(folder):
            data = [self.access.verified(path).read_bytes() for path in (described, order)]
            support = decode_support(*data)
        if support.record != self.record:
            found = "it does not describe the support that the manifest speaks of"
            raise DamagedCacheError(self.access.damage(described, found))
        return support


def order_of(counts: Array) -> Array:
    """Order of ids by how often each occurs: frequency descending, ties by id ascending.

    Args:
        counts: (V,) occurrences by id.
    """
    order: Array = np.argsort(-np.asarray(counts, dtype=np.int64), kind="stable")
    return order.astype(id_dtype(len(order)))


def encode_support(
    fingerprint: str, support: SupportFiles, files: Mapping[str, bytes]
) -> dict[str, bytes]:
    """All files of a support, by path relative to the cache.

    Args:
        fingerprint: of the support.
        support: what it is.
        files: the tokenizer's files by name.

    Raises:
        ValueError: the order is no permutation of the ids.
    """
    _check_order(support.order, support.size)
    described = {"kind": support.kind, "size": support.size, "special": dict(support.special)}
    schema = pa.schema([("id", pa.from_numpy_dtype(np.dtype(id_dtype(support.size))))])
    ids = pa.array(support.order.astype(id_dtype(support.size)))
    batch = pa.RecordBatch.from_arrays([ids], schema=schema)
    own = {
        SUPPORT_NAME: canonical_json(described) + b"\n",
        ORDER_NAME: file_of([batch], schema),
    }
    folder = support_part(fingerprint)
    return {f"{folder}/{name}": data for name, data in {**files, **own}.items()}


def decode_support(described: bytes, order: bytes) -> SupportFiles:
    """A support from the bytes of ``support.json`` and ``order.arrow``.

    Raises:
        ValueError, KeyError, TypeError: they are not what was written (pyarrow's are ValueErrors).
    """
    members = json.loads(described)
    ids: Array = pa.ipc.open_file(pa.BufferReader(order)).read_all()["id"].to_numpy()
    _check_order(ids, members["size"])
    return SupportFiles(members["kind"], members["size"], members["special"], ids)


def _check_order(order: Array, size: int) -> None:
    if not np.array_equal(np.sort(order), np.arange(size)):
        message = f"the order is no permutation of {size} ids"
        raise ValueError(message)
