"""Groups of Zarr v3 arrays, one shard at a time (docs/format.md, Teachers, targets and gathers).

The metadata documents are written here and not by the library, whose defaults and spelling change
between versions; the library encodes and decodes the shards that they describe.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import zarr
from zarr.buffer import cpu
from zarr.storage import MemoryStore

from ckd_cache.format.paths import array_shard_path
from ckd_cache.format.spec import ORDER_ARRAY, SLOW, ArraySpec, Layout, id_dtype, shard_range
from ckd_cache.types import Array, JsonObject

__all__ = [
    "ZARR_JSON",
    "array_metadata",
    "describe",
    "encode_shard",
    "matches",
    "order_metadata",
]

ZARR_JSON = "zarr.json"
_WRITTEN_WHOLE: Final[Any] = {"write_empty_chunks": True, "order": "C"}
"""Without it a chunk of zeros is not stored, and absence would mean two things."""


def describe(
    group: str, specs: Sequence[ArraySpec], layout: Layout, examples: int, order: Array | None
) -> dict[str, bytes]:
    """The metadata documents of a group and its arrays, and its order of ids, by path.

    Args:
        group: folder of the group, such as ``text/teachers/a/v0-0000``.
        specs: its sharded arrays.
        layout: how the set is cut.
        examples: examples of the part.
        order: (V,) the id by row, a permutation; None for a group that stores no ids.

    Raises:
        ValueError: the order is no permutation of the support's ids.
    """
    head = {"attributes": {}, "node_type": "group", "zarr_format": 3}
    documents = {f"{group}/{ZARR_JSON}": _document(head)}
    for spec in specs:
        metadata = array_metadata(spec, layout, examples)
        documents[f"{group}/{spec.name}/{ZARR_JSON}"] = _document(metadata)
    if order is None:
        return documents
    return documents | _encode_order(f"{group}/{ORDER_ARRAY}", layout.support_size, order)


def encode_shard(
    group: str,
    specs: Sequence[ArraySpec],
    layout: Layout,
    examples: int,
    shard: int,
    arrays: Mapping[str, Array],
) -> dict[str, bytes]:
    """The files of one shard of a group, by path: one for every array.

    Args:
        group: folder of the group.
        specs: its arrays.
        layout: how the set is cut.
        examples: examples of the part.
        shard: number of the shard.
        arrays: stored numbers of all examples of the shard, by name of the array.

    Raises:
        ValueError: an array has another shape or dtype than its specification.
    """
    files = {}
    for spec in specs:
        path = array_shard_path(group, spec.name, len(spec.dimension_names), shard)
        files[path] = _encode(spec, layout, examples, shard, arrays[spec.name])
    return files


def matches(document: bytes, metadata: JsonObject) -> bool:
    """Whether a stored metadata document is the one that the manifest asks for.

    Raises:
        ValueError: it is no JSON.
    """
    found = json.loads(document)
    if isinstance(found, dict) and found.get("storage_transformers") == []:
        del found["storage_transformers"]
    return bool(found == json.loads(_document(metadata)))


def array_metadata(spec: ArraySpec, layout: Layout, examples: int) -> JsonObject:
    """The metadata document of an array."""
    names = spec.dimension_names
    dtype = np.dtype(spec.dtype)
    return {
        "attributes": dict(spec.attributes),
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": spec.shape(layout.shard_examples, layout.slots)},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": [
            {
                "name": "sharding_indexed",
                "configuration": {
                    "chunk_shape": spec.shape(layout.chunk_examples, layout.slots),
                    "codecs": _chunk_codecs(len(names), dtype.itemsize, spec.effort),
                    "index_codecs": [_BYTES, _CRC32C],
                    "index_location": "end",
                },
            }
        ],
        "data_type": spec.dtype,
        "dimension_names": names,
        "fill_value": dtype.type(0).item(),
        "node_type": "array",
        "shape": spec.shape(examples, layout.slots),
        "zarr_format": 3,
    }


def order_metadata(size: int) -> JsonObject:
    """The metadata document of the order of ids of a group; one chunk, not sharded.

    Args:
        size: entries of the support.
    """
    dtype = np.dtype(id_dtype(size))
    return {
        "attributes": {"encoding": "plain"},
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [size]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": _chunk_codecs(1, dtype.itemsize, SLOW),
        "data_type": dtype.name,
        "dimension_names": ["row"],
        "fill_value": 0,
        "node_type": "array",
        "shape": [size],
        "zarr_format": 3,
    }


_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
_CRC32C = {"name": "crc32c"}


def _chunk_codecs(dimensions: int, typesize: int, effort: int) -> list[JsonObject]:
    rank_major = {"name": "transpose", "configuration": {"order": [2, 0, 1]}}
    blosc = {
        "name": "blosc",
        "configuration": {
            "typesize": typesize,
            "cname": "zstd",
            "clevel": effort,
            "shuffle": "shuffle",
            "blocksize": 0,
        },
    }
    return [*([rank_major] if dimensions == len("esr") else []), _BYTES, blosc, _CRC32C]


def _document(metadata: JsonObject) -> bytes:
    text = json.dumps(metadata, sort_keys=True, indent=1, separators=(",", ": "))
    return f"{text}\n".encode()


def _encode_order(folder: str, size: int, order: Array) -> dict[str, bytes]:
    if not np.array_equal(np.sort(order), np.arange(size)):
        message = f"the order is no permutation of {size} ids"
        raise ValueError(message)
    document = _document(order_metadata(size))
    stored: dict[str, Any] = {ZARR_JSON: cpu.Buffer.from_bytes(document)}
    _open(MemoryStore(store_dict=stored))[:] = order.astype(id_dtype(size))
    chunk: bytes = stored["c/0"].to_bytes()
    return {f"{folder}/{ZARR_JSON}": document, f"{folder}/c/0": chunk}


def _encode(spec: ArraySpec, layout: Layout, examples: int, shard: int, values: Array) -> bytes:
    start, stop = shard_range(shard, examples, layout)
    expected = spec.shape(stop - start, layout.slots)
    if values.shape != expected or values.dtype != np.dtype(spec.dtype):
        message = (
            f"array {spec.name} of shard {shard} is {values.dtype} of shape {values.shape},"
            f" expected {spec.dtype} of {expected}"
        )
        raise ValueError(message)
    metadata = _document(array_metadata(spec, layout, examples))
    stored: dict[str, Any] = {ZARR_JSON: cpu.Buffer.from_bytes(metadata)}
    # One assignment of the whole shard: the only way to write one that loses nothing.
    _open(MemoryStore(store_dict=stored))[start:stop] = values
    key = array_shard_path("", "", len(expected), shard).lstrip("/")
    encoded: bytes = stored[key].to_bytes()
    return encoded


def _open(store: MemoryStore) -> zarr.Array[Any]:
    # ``open_array`` takes a configuration only to ignore it.
    array: zarr.Array[Any] = zarr.open_array(store=store, zarr_format=3, mode="r+")
    configured: zarr.Array[Any] = array.with_config(_WRITTEN_WHOLE)
    return configured
