from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, TransposeCodec
from zarr.storage import LocalStore, MemoryStore

from ckd_cache.format.spec import ArraySpec, Layout, capture_of, target_specs, teacher_specs
from ckd_cache.format.zarr_io import array_metadata, describe, encode_shard, matches

LAYOUT = Layout(slots=3, chunk_examples=2, shard_examples=4, support_size=70_000)
COMPACT = capture_of(4, (1.0, 2.0), 1e-4)
EXACT = capture_of(4, (1.0, 2.0), 0.0)
ORDER = np.random.default_rng(3).permutation(70_000)
BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
CRC = {"name": "crc32c"}


def test_the_documents_say_what_the_format_says():
    documents = describe(
        "text/teachers/a/v0-0000", teacher_specs(COMPACT, 70_000), LAYOUT, 10, ORDER
    )
    assert len(documents) == 11
    group = json.loads(documents["text/teachers/a/v0-0000/zarr.json"])
    assert group == {"attributes": {}, "node_type": "group", "zarr_format": 3}
    found = json.loads(documents["text/teachers/a/v0-0000/logprobs/zarr.json"])
    assert found == {
        "attributes": {"encoding": "drops", "step": COMPACT.step},
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4, 3, 4]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": [
            {
                "name": "sharding_indexed",
                "configuration": {
                    "chunk_shape": [2, 3, 4],
                    "codecs": [
                        {"name": "transpose", "configuration": {"order": [2, 0, 1]}},
                        BYTES,
                        {
                            "name": "blosc",
                            "configuration": {
                                "typesize": 2,
                                "cname": "zstd",
                                "clevel": 1,
                                "shuffle": "shuffle",
                                "blocksize": 0,
                            },
                        },
                        CRC,
                    ],
                    "index_codecs": [BYTES, CRC],
                    "index_location": "end",
                },
            }
        ],
        "data_type": "uint16",
        "dimension_names": ["example", "slot", "rank"],
        "fill_value": 0,
        "node_type": "array",
        "shape": [10, 3, 4],
        "zarr_format": 3,
    }
    flat = json.loads(documents["text/teachers/a/v0-0000/n_valid/zarr.json"])
    names = [codec["name"] for codec in flat["codecs"][0]["configuration"]["codecs"]]
    assert names == ["bytes", "blosc", "crc32c"]
    assert flat["dimension_names"] == ["example", "slot"]


def table(specs):
    return {s.name: (s.dtype, s.encoding, s.step, s.last, s.size) for s in specs}


def test_the_arrays_are_those_of_the_table():
    step = COMPACT.step
    assert table(teacher_specs(COMPACT, 70_000)) == {
        "ids": ("uint32", "order", None, "rank", 4),
        "logprobs": ("uint16", "drops", step, "rank", 4),
        "n_valid": ("uint16", "plain", None, None, 0),
        "tail": ("float16", "plain", None, "temperature", 2),
        "logsumexp": ("float32", "grid", 2**-10, "temperature", 2),
        "entropy": ("float16", "plain", None, "temperature", 2),
        "gold_logprob": ("float32", "grid", 2**-10, None, 0),
        "gold_rank": ("uint32", "plain", None, None, 0),
    }
    assert table(teacher_specs(EXACT, 65_536)) == {
        "ids": ("uint16", "order", None, "rank", 4),
        "logprobs": ("float32", "plain", None, "rank", 4),
        "n_valid": ("uint16", "plain", None, None, 0),
        "tail": ("float32", "plain", None, "temperature", 2),
        "logsumexp": ("float32", "plain", None, "temperature", 2),
        "entropy": ("float32", "plain", None, "temperature", 2),
        "gold_logprob": ("float32", "plain", None, None, 0),
        "gold_rank": ("uint32", "plain", None, None, 0),
    }
    assert table(target_specs(capture_of(4, (1.0,), 1e-9), 65_537, 3)) == {
        "ids": ("uint32", "order", None, "rank", 4),
        "logprobs": ("uint32", "drops", capture_of(4, (1.0,), 1e-9).step, "rank", 4),
        "n_valid": ("uint16", "plain", None, None, 0),
        "tail": ("float16", "plain", None, None, 0),
        "weights": ("uint16", "share", None, "teacher", 3),
        "uncertain": ("float16", "plain", None, None, 0),
        "gold_logprob": ("float32", "grid", 2**-10, None, 0),
    }
    exact = table(target_specs(EXACT, 10, 3))
    assert exact["weights"] == ("float32", "plain", None, "teacher", 3)
    assert exact["uncertain"] == ("float32", "plain", None, None, 0)


SPECS = [
    ArraySpec("three", "rank", 4, "uint16", "drops", 0.01, 1),
    ArraySpec("half", "temperature", 2, "float16", "plain"),
    ArraySpec("two", None, 0, "uint32", "plain"),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_zarr_itself_writes_the_same_metadata_and_the_same_shard(spec):
    """The same array made through zarr's own interface, every setting spelled out there."""
    stored: dict[str, Any] = {}
    dtype = np.dtype(spec.dtype)
    array = zarr.create_group(store=MemoryStore(store_dict=stored), zarr_format=3).create_array(
        name="x",
        shape=spec.shape(10, 3),
        dtype=dtype,
        chunks=spec.shape(2, 3),
        shards=spec.shape(4, 3),
        fill_value=0,
        filters=[TransposeCodec(order=(2, 0, 1))] if spec.last else [],
        serializer=BytesCodec(endian="little"),
        compressors=[
            BloscCodec(
                typesize=dtype.itemsize,
                cname="zstd",
                clevel=spec.effort,
                shuffle="shuffle",
                blocksize=0,
            ),
            Crc32cCodec(),
        ],
        dimension_names=spec.dimension_names,
        config={"write_empty_chunks": True},
        chunk_key_encoding={"name": "default", "separator": "/"},
        attributes=dict(spec.attributes),
    )
    assert matches(stored["x/zarr.json"].to_bytes(), array_metadata(spec, LAYOUT, 10))
    values = np.random.default_rng(0).integers(0, 9, spec.shape(10, 3)).astype(dtype)
    for shard, (start, stop) in enumerate([(0, 4), (4, 8), (8, 10)]):
        array[start:stop] = values[start:stop]
        (path, data), *others = encode_shard(
            "g", [spec], LAYOUT, 10, shard, {spec.name: values[start:stop]}
        ).items()
        key = f"c/{shard}" + "/0" * (values.ndim - 1)
        assert (path, others) == (f"g/{spec.name}/{key}", [])
        assert data == stored[f"x/{key}"].to_bytes()


def test_a_group_opens_with_plain_zarr(built, small):
    group = zarr.open_group(
        store=LocalStore(built / "text/teachers/a/v0-0000", read_only=True), mode="r"
    )
    assert set(group.array_keys()) == {"order", *(spec.name for spec in teacher_specs(COMPACT, 50))}
    ids: Any = group["ids"]
    assert (ids.shards, ids.chunks, ids.fill_value) == ((4, 3, 4), (2, 3, 4), 0)
    assert ids.metadata.dimension_names == ("example", "slot", "rank")
    assert dict(ids.attrs) == {"encoding": "order"}
    decoded = np.asarray(group["order"])[ids[:]]
    n_valid = np.asarray(group["n_valid"])
    kept = np.arange(4) < n_valid[..., None]
    np.testing.assert_array_equal(decoded[kept], small.teacher_arrays("a", 0).ids[kept])


def test_chunks_of_zeros_are_written():
    spec = SPECS[2]
    (data,) = encode_shard(
        "g", [spec], LAYOUT, 10, 0, {"two": np.zeros((4, 3), np.uint32)}
    ).values()
    offsets = np.frombuffer(data[-(2 * 16 + 4) : -4], "<u8")
    assert (offsets != 2**64 - 1).all()


@pytest.mark.parametrize(
    "values",
    [np.zeros((4, 3), np.uint16), np.zeros((3, 3), np.uint32), np.zeros((4, 3, 1), np.uint32)],
)
def test_arrays_that_do_not_fit_their_specification_are_refused(values):
    with pytest.raises(ValueError, match="array two of shard 0"):
        encode_shard("g", [SPECS[2]], LAYOUT, 10, 0, {"two": values})


def test_metadata_that_differs_in_anything_does_not_match():
    spec = SPECS[0]
    document = json.loads(json.dumps(array_metadata(spec, LAYOUT, 10)))
    wanted = array_metadata(spec, LAYOUT, 10)
    assert matches(json.dumps(document).encode(), wanted)
    assert matches(json.dumps({**document, "storage_transformers": []}).encode(), wanted)
    assert not matches(json.dumps(document).encode(), array_metadata(spec, LAYOUT, 11))
    for name in document:
        assert not matches(json.dumps({**document, name: "other"}).encode(), wanted), name


def test_an_order_that_is_no_permutation_is_refused():
    with pytest.raises(ValueError, match="no permutation of 70000"):
        describe("g", [], LAYOUT, 10, np.zeros(70_000, np.uint32))
