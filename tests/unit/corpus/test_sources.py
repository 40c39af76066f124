from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ckd_cache.corpus.source import (
    DocstringsSource,
    JsonlSource,
    ParquetSource,
    ReadReport,
    TextSource,
    check_sources,
    contents_of,
    read_documents,
)
from ckd_cache.errors import CorpusError


def text_source(root, *paths, name="books", **options):
    return TextSource(name, "fiction", paths or ("*.txt",), root, **options)


def jsonl_source(root, **options):
    return JsonlSource("wiki", "wiki", ("*.jsonl",), root, **options)


def read(spec, report=None):
    return [(d.id, d.text) for d in read_documents(spec, report or ReadReport())]


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def test_documents_divided_by_blank_lines(tmp_path):
    write(tmp_path / "a.txt", "\n\none\ntwo\n\n \t\n\nthree\n\nfour")
    assert read(text_source(tmp_path)) == [
        ("books/a.txt#1", "one\ntwo"),
        ("books/a.txt#2", "three"),
        ("books/a.txt#3", "four"),
    ]


def test_documents_one_a_line_are_numbered_by_line(tmp_path):
    write(tmp_path / "a.txt", "one\n\n  two\n")
    assert read(text_source(tmp_path, documents="line")) == [
        ("books/a.txt#1", "one"),
        ("books/a.txt#3", "  two"),
    ]


def test_documents_one_a_file(tmp_path):
    write(tmp_path / "b.txt", "one\n\ntwo\n")
    write(tmp_path / "a.txt", "")
    assert read(text_source(tmp_path, documents="file")) == [
        ("books/a.txt#1", ""),
        ("books/b.txt#1", "one\n\ntwo"),
    ]


def test_documents_carry_source_and_genre(tmp_path):
    write(tmp_path / "a.txt", "one")
    (document,) = read_documents(text_source(tmp_path), ReadReport())
    assert (document.source, document.genre) == ("books", "fiction")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_line_ends_and_byte_order_marks_do_not_show(tmp_path, end):
    write(tmp_path / "a.txt", b"\xef\xbb\xbfone" + end + b"two" + end + end + b"x\x0by\xe2\x80\xa8")
    assert read(text_source(tmp_path)) == [
        ("books/a.txt#1", "one\ntwo"),
        ("books/a.txt#2", "x\x0by\u2028"),
    ]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1", "shift_jis", "utf-8-sig"])
def test_other_encodings(tmp_path, encoding):
    text = "déjà vu" if encoding == "latin-1" else "日本 x"
    write(tmp_path / "a.txt", f"{text}\n\nb\n".encode(encoding))
    found = read(text_source(tmp_path, encoding=encoding))
    assert [content for _, content in found] == [text, "b"]


def test_undecodable_bytes_are_named_by_file_line_and_byte(tmp_path):
    write(tmp_path / "a.txt", b"fine\n" * 300_000 + b"also fine\n\xe9t\xe9\n")
    with pytest.raises(CorpusError) as found:
        read(text_source(tmp_path))
    message = str(found.value)
    assert f"{tmp_path / 'a.txt'}, line 300002: byte 0xe9 at offset 1500010" in message
    assert "`encoding: …`" in message
    assert "`on_error: skip`" in message


def test_bytes_are_counted_right_where_a_character_straddles_two_readings(tmp_path):
    data = b"x" * (2**20 - 1) + "é".encode() + b"\n\xff"
    write(tmp_path / "a.txt", data)
    with pytest.raises(CorpusError, match=f"line 2: byte 0xff at offset {len(data) - 1} of"):
        read(text_source(tmp_path))


@pytest.mark.parametrize(
    ("kind", "kept"),
    [("line", ["one", "three", "four"]), ("blank-line", ["one", "four"]), ("file", [])],
)
def test_undecodable_documents_can_be_skipped_and_are_counted(tmp_path, kind, kept):
    write(tmp_path / "a.txt", b"one\n\nt\xffo\nthree\n\nfour")
    report = ReadReport()
    found = read(text_source(tmp_path, documents=kind, on_error="skip"), report)
    assert [content for _, content in found] == kept
    assert report.skipped == 1
    assert report.reasons == [f"{tmp_path / 'a.txt'}, line 3: there are bytes that are not utf-8"]


def test_skipping_does_not_rename_what_follows(tmp_path):
    write(tmp_path / "a.txt", b"one\n\nt\xff\n\nthree")
    assert [name for name, _ in read(text_source(tmp_path, on_error="skip"))] == [
        "books/a.txt#1",
        "books/a.txt#3",
    ]


@pytest.mark.parametrize("data", [b"ok\nab\xe2\x82", b"ok\n\xed\xa0\x80", b"ok\n\xc0\xaf"])
def test_half_and_forbidden_sequences_are_undecodable(tmp_path, data):
    write(tmp_path / "a.txt", data)
    with pytest.raises(CorpusError, match=r"a\.txt, line 2: byte 0x"):
        read(text_source(tmp_path))


def test_only_the_first_reasons_are_kept(tmp_path):
    write(tmp_path / "a.txt", b"\xff\n" * 1000)
    report = ReadReport()
    assert read(text_source(tmp_path, documents="line", on_error="skip"), report) == []
    assert (report.skipped, len(report.reasons)) == (1000, 5)


def test_unknown_encoding(tmp_path):
    write(tmp_path / "a.txt", "x")
    with pytest.raises(CorpusError, match="unknown encoding: klingon"):
        read(text_source(tmp_path, encoding="klingon"))


def test_files_come_sorted_glob_by_glob_and_once(tmp_path):
    for name in ("z.txt", "b/2.txt", "b/10.txt", "b-c.txt", "b/c/x.txt", "b/n.md"):
        write(tmp_path / "in" / name, name)
    found = read(text_source(tmp_path, "in/z.txt", "in/**/*.txt"))
    assert [name for name, _ in found] == [
        "books/z.txt#1",
        "books/b/10.txt#1",
        "books/b/2.txt#1",
        "books/b/c/x.txt#1",
        "books/b-c.txt#1",
    ]
    assert len(read(text_source(tmp_path, "in/**"))) == 6


def test_ids_do_not_depend_on_where_the_corpus_lies(tmp_path):
    ids = []
    for root in (tmp_path / "here", tmp_path / "over" / "there"):
        write(root / "books" / "a" / "1.txt", "x")
        ids.append(read(text_source(root, "books/*/*.txt")))
        ids.append(read(text_source(tmp_path, str(root / "books" / "*" / "*.txt"))))
    assert ids == [[("books/a/1.txt#1", "x")]] * 4


def test_brackets_in_a_file_name_are_not_a_pattern(tmp_path):
    write(tmp_path / "a[1].txt", "x")
    assert read(text_source(tmp_path, "a[1].txt")) == [("books/a[1].txt#1", "x")]


@pytest.mark.parametrize("pattern", ["gone.txt", "gone/*.txt", "*.md"])
def test_a_glob_without_files(tmp_path, pattern):
    with pytest.raises(CorpusError, match="matches no file") as found:
        read(text_source(tmp_path, pattern))
    assert pattern in str(found.value)
    with pytest.raises(CorpusError, match="matches no file"):
        contents_of(text_source(tmp_path, pattern))


def test_files_of_the_same_name_clash(tmp_path):
    write(tmp_path / "a" / "x.txt", "1")
    write(tmp_path / "b" / "x.txt", "2")
    with pytest.raises(CorpusError, match=r"documents called books/x\.txt#"):
        read(text_source(tmp_path, "a/*.txt", "b/*.txt"))


def test_sources_need_names_of_their_own(tmp_path):
    one = text_source(tmp_path)
    check_sources([one, text_source(tmp_path, name="more")])
    with pytest.raises(CorpusError, match="Rename 'books'"):
        check_sources([one, one])
    with pytest.raises(CorpusError, match="Rename 'a/b'"):
        check_sources([text_source(tmp_path, name="a/b")])
    with pytest.raises(CorpusError, match="no sources"):
        check_sources([])


def test_contents_change_with_bytes_names_and_order(tmp_path):
    write(tmp_path / "a.txt", "1")
    write(tmp_path / "b.txt", "2")
    before = contents_of(text_source(tmp_path))
    assert before == contents_of(text_source(tmp_path, name="other", encoding="latin-1"))
    assert before != contents_of(text_source(tmp_path, "b.txt", "a.txt"))
    (tmp_path / "b.txt").rename(tmp_path / "c.txt")
    assert contents_of(text_source(tmp_path)) != before
    (tmp_path / "c.txt").rename(tmp_path / "b.txt")
    assert contents_of(text_source(tmp_path)) == before
    write(tmp_path / "b.txt", "3")
    assert contents_of(text_source(tmp_path)) != before


def test_jsonl(tmp_path):
    lines = ['{"text": "one", "n": 1}', "", '{"text": "d\\u00e9j\\u00e0"}']
    write(tmp_path / "w.jsonl", "\ufeff" + "\n".join(lines))
    assert read(jsonl_source(tmp_path)) == [("wiki/w.jsonl#1", "one"), ("wiki/w.jsonl#3", "déjà")]


BAD_LINES = {
    '{"text": 1': "this is not JSON",
    '{"body": "x", "id": 3}': "there is no field 'text'; there are 'body', 'id'",
    '["x"]': "found a list, expected a JSON object",
    '{"text": null}': "field 'text' is null, expected a string",
    '{"text": 3}': "field 'text' is a number, expected a string",
    '{"text": true}': "field 'text' is true or false",
    '{"text": "\\ud83d"}': "half of a surrogate pair",
    '{"n": ' + "9" * 5000 + "}": "this is not JSON",
    "[" * 100_000: "this is not JSON",
    b'{"text": "\xe9"}': "byte 0xe9 at offset 26",
}


@pytest.mark.parametrize("line", BAD_LINES, ids=[f"bad{at}" for at in range(len(BAD_LINES))])
def test_bad_lines_of_jsonl(tmp_path, line):
    bad = line if isinstance(line, bytes) else line.encode()
    write(tmp_path / "w.jsonl", b'{"text": "one"}\n' + bad + b'\n{"text": "two"}\n')
    with pytest.raises(CorpusError) as found:
        read(jsonl_source(tmp_path))
    assert str(found.value).startswith(f"{tmp_path / 'w.jsonl'}, line 2: ")
    assert BAD_LINES[line] in str(found.value)
    report = ReadReport()
    kept = read(jsonl_source(tmp_path, on_error="skip"), report)
    assert [name for name, _ in kept] == ["wiki/w.jsonl#1", "wiki/w.jsonl#3"]
    assert report.skipped == len(report.reasons) == 1


def test_one_bad_line_of_many_is_counted(tmp_path):
    good = json.dumps({"text": "x"}) + "\n"
    write(tmp_path / "w.jsonl", good * 5000 + "oops\n" + good * 5000)
    report = ReadReport()
    assert len(read(jsonl_source(tmp_path, on_error="skip"), report)) == 10_000
    assert report.skipped == 1
    assert "line 5001" in report.reasons[0]


def parquet_source(root, column="text", **options):
    return ParquetSource("news", "news", ("*.parquet",), root, column=column, **options)


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())],
)
def test_parquet_columns_of_strings(tmp_path, kind):
    texts = [f"row {number % 7} é" for number in range(3000)]
    table = pa.table({"n": list(range(3000)), "text": pa.array(texts).cast(kind)})
    pq.write_table(table, tmp_path / "n.parquet", row_group_size=700)
    assert read(parquet_source(tmp_path)) == [
        (f"news/n.parquet#{row}", text) for row, text in enumerate(texts)
    ]


def test_parquet_columns_are_checked(tmp_path):
    pq.write_table(pa.table({"title": ["a"], "n": [1]}), tmp_path / "n.parquet")
    with pytest.raises(CorpusError, match=r"columns called 'text'.*there are 'title', 'n'"):
        read(parquet_source(tmp_path))
    with pytest.raises(CorpusError, match="column 'n' is of type int64, expected strings"):
        read(parquet_source(tmp_path, column="n"))


def test_bad_rows_of_parquet(tmp_path):
    raw = pa.array([b"one", None, b"\xff", b"two"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 4, raw.buffers())
    pq.write_table(pa.table({"text": text}), tmp_path / "n.parquet")
    with pytest.raises(CorpusError, match=r"n\.parquet, row 1: column 'text' holds null"):
        read(parquet_source(tmp_path))
    report = ReadReport()
    found = read(parquet_source(tmp_path, on_error="skip"), report)
    assert found == [("news/n.parquet#0", "one"), ("news/n.parquet#3", "two")]
    assert report.skipped == 2
    assert "row 2: column 'text' holds bytes that are not utf-8" in report.reasons[1]


def test_no_parquet_file_and_a_cut_one(tmp_path):
    write(tmp_path / "n.parquet", b"PAR1 no")
    with pytest.raises(CorpusError, match=r"n\.parquet: cannot be read as Parquet"):
        read(parquet_source(tmp_path))
    pq.write_table(pa.table({"text": ["x" * 1000] * 1000}), tmp_path / "n.parquet")
    whole = (tmp_path / "n.parquet").read_bytes()
    write(tmp_path / "n.parquet", whole[: len(whole) // 2])
    with pytest.raises(CorpusError, match=r"n\.parquet: cannot be read as Parquet"):
        read(parquet_source(tmp_path))


MODULE = '''
"""Module   text.

    indented
"""
import this_module_does_not_exist
raise SystemExit("imported!")
class A:
    """Class text."""
    def f(self):
        """First."""
        def inner():
            """Inner."""
    if x:
        @overload
        def f(self): "Second."
    else:
        async def g(self): "Coroutine."
match x:
    case 1:
        def h(): "Matched."
try:
    pass
except E:
    def h(): "\\d in a handler."
def silent(): ...
'''


def test_docstrings_are_parsed_not_imported(tmp_path):
    write(tmp_path / "pkg" / "__init__.py", MODULE)
    write(tmp_path / "pkg" / "sub.py", '"""Sub."""')
    (write(tmp_path / "pkg-data" / "broken.py", '"""No'),)
    for skipped in ("pkg/test/test_x.py", "site-packages/other.py", "sitecustomize.py"):
        write(tmp_path / skipped, '"""Not library text."""')
    report = ReadReport()
    found = read(DocstringsSource("docs", "code", tmp_path), report)
    assert found == [
        ("docs/pkg", "Module   text.\n\nindented"),
        ("docs/pkg.A", "Class text."),
        ("docs/pkg.A.f", "First."),
        ("docs/pkg.A.f.inner", "Inner."),
        ("docs/pkg.A.f#2", "Second."),
        ("docs/pkg.A.g", "Coroutine."),
        ("docs/pkg.h", "Matched."),
        ("docs/pkg.h#2", "\\d in a handler."),
        ("docs/pkg.sub", "Sub."),
    ]
    assert report.skipped == 1
    assert "broken.py: the module does not parse" in report.reasons[0]
    before = contents_of(DocstringsSource("docs", "code", tmp_path))
    write(tmp_path / "pkg" / "sub.py", '"""Sub!"""')
    assert contents_of(DocstringsSource("docs", "code", tmp_path)) != before


def test_docstrings_of_the_standard_library():
    report = ReadReport()
    documents = list(read_documents(DocstringsSource("docstrings", "code"), report))
    ids = [document.id for document in documents]
    assert len(set(ids)) == len(ids) > 5000
    modules = [name.removeprefix("docstrings/").split(".")[0] for name in ids]
    assert modules == sorted(modules)
    texts = {document.id: document.text for document in documents}
    assert texts["docstrings/json"] == __import__("inspect").getdoc(json)
    assert texts["docstrings/json.dumps"] == __import__("inspect").getdoc(json.dumps)
    assert not {"test", "site-packages", "idle_test"} & set(modules)


def test_no_library_no_docstrings(tmp_path):
    with pytest.raises(CorpusError, match="found no Python modules"):
        read(DocstringsSource("docstrings", "code", tmp_path / "gone"))
