"""The reader of shards says no where a decompressor would believe anything."""

from __future__ import annotations

import google_crc32c
import numcodecs
import numpy as np
import pytest

from ckd_cache.format.shards import decode_order, read_chunks
from ckd_cache.format.spec import ArraySpec, Layout
from ckd_cache.format.zarr_io import encode_shard

LAYOUT = Layout(slots=3, chunk_examples=2, shard_examples=6, support_size=50)
SPEC = ArraySpec("x", "rank", 4, "uint16", "drops", 0.01)


def with_checksum(data):
    return data + google_crc32c.value(data).to_bytes(4, "little")


def shard_of(chunks):
    """A shard file of chunks (bytes; None: missing)."""
    body, index = b"", []
    for chunk in chunks:
        index += [2**64 - 1] * 2 if chunk is None else [len(body), len(chunk)]
        body += chunk or b""
    return body + with_checksum(np.array(index, "<u8").tobytes())


def chunk_of(values):
    codec = numcodecs.Blosc("zstd", 1, 1)
    return with_checksum(codec.encode(np.ascontiguousarray(np.moveaxis(values, -1, 0))))


@pytest.fixture
def read(tmp_path):
    def read(data, start=0, stop=6):
        (tmp_path / "shard").write_bytes(data)
        return list(read_chunks(tmp_path / "shard", SPEC, LAYOUT, start, stop))

    return read


VALUES = np.arange(6 * 3 * 4, dtype=np.uint16).reshape(6, 3, 4)


def test_any_range_of_a_shard_comes_back(read):
    (data,) = encode_shard("g", [SPEC], LAYOUT, 6, 0, {"x": VALUES}).values()
    for start in range(7):
        for stop in range(start, 7):
            chunks = read(data, start, stop)
            found = np.concatenate([VALUES[:0], *chunks])
            np.testing.assert_array_equal(found, VALUES[start:stop])
            assert all(np.moveaxis(chunk, -1, 0).strides[0] > 8 for chunk in chunks)


def test_a_missing_chunk_is_not_zeros(read):
    data = shard_of([chunk_of(VALUES[:2]), None, chunk_of(VALUES[4:])])
    assert len(read(data, 0, 2)) == len(read(data, 4, 6)) == 1
    with pytest.raises(ValueError, match="chunk 1 of the shard is not there"):
        read(data, 0, 3)


def test_a_bomb_is_refused_before_it_is_decompressed(read):
    bomb = with_checksum(numcodecs.Blosc("zstd", 1, 1).encode(np.zeros(2**28, np.uint8)))
    assert len(bomb) < 2**20
    with pytest.raises(ValueError, match="says that it holds 268435456 bytes, expected 48"):
        read(shard_of([bomb, bomb, bomb]))
    with pytest.raises(ValueError, match="expected 100"):
        decode_order(bomb, 50)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "its index alone needs 52"),
        (b"\0" * 60, "checksum of the shard's index"),
        (with_checksum(np.array([2**40, 9] * 3, "<u8").tobytes()), "points outside"),
        (with_checksum(np.array([0, 2**63] * 3, "<u8").tobytes()), "points outside"),
        (with_checksum(np.array([2**64 - 1, 2**64 - 5] * 3, "<u8").tobytes()), "points outside"),
        (shard_of([b"1234", b"", b"abc"]), "cut short"),
        (shard_of([with_checksum(b"\2\1\1\1")] * 3), "says that it holds 0 bytes"),
        (shard_of([with_checksum(b"\0" * 4 + (48).to_bytes(4, "little"))] * 3), "expected 48"),
    ],
)
def test_hostile_shards_are_refused(read, data, match):
    with pytest.raises(ValueError, match=match):
        read(data)


def test_bytes_that_do_not_decompress_are_refused(read):
    chunk = bytearray(chunk_of(VALUES[:2])[:-4])
    chunk[2] &= 0b11111101  # Blosc kept so few bytes as they are; now it says it did not.
    chunk[16:] = b"\xff" * (len(chunk) - 16)
    with pytest.raises((ValueError, RuntimeError)):
        read(shard_of([with_checksum(bytes(chunk))] * 3))


def test_an_order_that_is_no_permutation_is_refused():
    data = with_checksum(numcodecs.Blosc("zstd", 1, 1).encode(np.zeros(50, np.uint16)))
    with pytest.raises(ValueError, match="no permutation of 50"):
        decode_order(data, 50)
