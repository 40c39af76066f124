"""Files of a source that are not what the source says: compressed ones, documents, folders."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ckd_cache.corpus.source import (
    JsonlSource,
    ParquetSource,
    ReadReport,
    SourceSpec,
    TextSource,
    contents_of,
    read_documents,
)
from ckd_cache.errors import CorpusError

TEXT = b"Some text.\n" * 50


def source(kind: str, root: Path, pattern: str = "*.x") -> SourceSpec:
    if kind == "jsonl":
        return JsonlSource("s", "g", (pattern,), root)
    if kind == "parquet":
        return ParquetSource("s", "g", (pattern,), root)
    # In this encoding every byte is a letter: nothing would be noticed without a look at the file.
    return TextSource("s", "g", (pattern,), root, encoding="latin-1")


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", TEXT)


def zstd(path: Path) -> None:
    with pa.CompressedOutputStream(path.open("wb"), "zstd") as stream:
        stream.write(TEXT)


def lz4(path: Path) -> None:
    with pa.CompressedOutputStream(path.open("wb"), "lz4") as stream:
        stream.write(TEXT)


WRITERS = {
    "gzip": (lambda path: path.write_bytes(gzip.compress(TEXT)), "gzip -dk"),
    "bzip2": (lambda path: path.write_bytes(bz2.compress(TEXT)), "bzip2 -dk"),
    "xz": (lambda path: path.write_bytes(lzma.compress(TEXT)), "xz -dk"),
    "zstd": (zstd, "zstd -dk"),
    "lz4": (lz4, "lz4 -dk"),
    "zip": (zipped, "unzip"),
    "PDF": (lambda path: path.write_bytes(b"%PDF-1.7\n%\xe2\xe3"), "pdftotext"),
}


@pytest.mark.parametrize("kind", ["text", "jsonl", "parquet"])
@pytest.mark.parametrize("name", WRITERS)
def test_packed_files_are_named_and_how_to_unpack_them(tmp_path, name, kind):
    write, command = WRITERS[name]
    path = tmp_path / "a.x"
    write(path)
    for use in (contents_of, lambda spec: list(read_documents(spec, ReadReport()))):
        with pytest.raises(CorpusError) as caught:
            use(source(kind, tmp_path))
        message = str(caught.value)
        assert message.startswith(f"{path}: the file is ")
        assert name in message
        assert f"`{command} {path}`" in message
        assert "encoding" not in message


@pytest.mark.parametrize("kind", ["text", "jsonl"])
def test_parquet_is_no_text_and_the_kind_is_named(tmp_path, kind):
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "a.x")
    with pytest.raises(CorpusError, match=r"is Parquet, expected plain text\. Set `kind: parquet`"):
        contents_of(source(kind, tmp_path))
    assert len(list(read_documents(source("parquet", tmp_path), ReadReport()))) == 1


@pytest.mark.parametrize("text", ["BZh9 is how it begins", "PK", "PAR1", "%PD", "7z", ""])
def test_text_that_begins_a_little_like_them_is_text(tmp_path, text):
    (tmp_path / "a.x").write_text(text)
    found = list(read_documents(source("text", tmp_path), ReadReport()))
    assert [document.text for document in found] == ([text] if text else [])


@pytest.mark.parametrize(
    ("kind", "pattern", "said"),
    [
        ("text", "folder", r"'folder' is a folder, .* such as folder/\*\.txt"),
        ("text", "folder/", r"'folder/' is a folder, .* such as folder/\*\.txt"),
        ("jsonl", "folder", r"such as folder/\*\.jsonl"),
        ("parquet", "fold*", r"'fold\*' matches only folders, .* such as fold\*/\*\.parquet"),
    ],
)
def test_folders_are_answered_with_a_glob(tmp_path, kind, pattern, said):
    (tmp_path / "folder").mkdir()
    with pytest.raises(CorpusError, match=said):
        contents_of(source(kind, tmp_path, pattern))
