from __future__ import annotations

import gc
import json
import tracemalloc

import numpy as np
import pytest

from ckd_cache.corpus import pack as packing
from ckd_cache.corpus.segments import ResumePoint, SegmentSettings, segment_shards
from ckd_cache.corpus.source import JsonlSource, ReadReport, TextSource
from ckd_cache.errors import CorpusError
from ckd_cache.format.spec import Layout
from ckd_cache.numerics.splits import SPLIT_NAMES, split_of

SETTINGS = SegmentSettings(segment_tokens=16, fit=0.2, test=0.2)


def layout(tokenizer, shard=10):
    return Layout(3, 5, shard, tokenizer.size)


def jsonl(root, texts, name="w"):
    lines = [json.dumps({"text": text}) for text in texts]
    (root / f"{name}.jsonl").write_text("\n".join(lines))
    return JsonlSource(name, f"genre of {name}", (f"{name}.jsonl",), root)


def cut(sources, tokenizer, root, settings=SETTINGS, shard=10, resume=None, report=None):
    return list(
        segment_shards(
            sources,
            tokenizer,
            settings,
            layout(tokenizer, shard),
            resume,
            root / "seen",
            ReadReport() if report is None else report,
        )
    )


def plain(shard):
    rows = shard.segments
    return (
        shard.shard,
        shard.next_block,
        shard.taken,
        shard.documents,
        shard.stats,
        rows.spans,
        [row.tolist() for row in rows.input_ids],
        [row.tolist() for row in rows.word_starts],
        rows.splits.tolist(),
    )


def some_texts(count):
    return [f"the fox {number} jumps over {'lazy dogs ' * (number % 7)}" for number in range(count)]


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(packing, "BLOCK_DOCUMENTS", 7)


def test_text_comes_back_by_its_spans(bert, tmp_path):
    texts = some_texts(50)
    shards = cut([jsonl(tmp_path, texts)], bert, tmp_path)
    rows = [row for shard in shards for row in shard.documents]
    assert [row.number for row in rows] == list(range(50))
    assert [row.id for row in rows] == [f"w/w.jsonl#{number + 1}" for number in range(50)]
    assert [row.characters for row in rows] == [len(text) for text in texts]
    assert all(row.split == split_of(row.id, 0.2, 0.2) for row in rows)
    assert {row.source for row in rows} == {"w"}
    found: dict[int, list[int]] = {}
    for shard in shards:
        for ids, spans, split in zip(
            shard.segments.input_ids,
            shard.segments.spans,
            shard.segments.splits.tolist(),
            strict=True,
        ):
            assert len(ids) <= 16
            assert (ids[0], ids[-1]) == (bert.special["cls"], bert.special["sep"])
            for span in spans:
                assert rows[span.document].split == split
                found.setdefault(span.document, []).extend(
                    ids[span.token_start : span.token_end].tolist()
                )
    expected = {
        number: tokens.ids.tolist() for number, tokens in enumerate(bert.encode_documents(texts))
    }
    assert found == expected


def test_characters_of_spans_are_code_points_of_the_document(bert, tmp_path):
    text = "日本語 naïve \U0001f600 emoji " * 5
    (shard,) = cut([jsonl(tmp_path, [text])], bert, tmp_path)
    spans = [span for row in shard.segments.spans for span in row]
    for ids, (span,) in zip(shard.segments.input_ids, shard.segments.spans, strict=True):
        piece = text[span.char_start : span.char_end]
        assert bert.encode_documents([piece])[0].ids.tolist() == ids[1:-1].tolist()
    assert (spans[0].char_start, spans[-1].char_end) == (0, len(text.rstrip()))


def test_one_document_a_segment(bert, tmp_path):
    texts = ["short one", "the fox " * 20, "short two"]
    settings = SegmentSettings(16, pack=False)
    (shard,) = cut([jsonl(tmp_path, texts)], bert, tmp_path, settings)
    numbers = [[span.document for span in row] for row in shard.segments.spans]
    assert numbers == [[0], *([[1]] * 3), [2]]


def test_duplicates_and_empty_documents_are_dropped_wherever_they_are(bert, tmp_path):
    first = jsonl(tmp_path, ["a dog", "", "a fox", " a dog\n"], "w")
    second = jsonl(tmp_path, ["a fox", "\n ", "a cat"], "x")
    report = ReadReport()
    (shard,) = cut([first, second], bert, tmp_path, report=report)
    assert [row.id for row in shard.documents] == ["w/w.jsonl#1", "w/w.jsonl#3", "x/x.jsonl#3"]
    assert [row.number for row in shard.documents] == [0, 1, 2]
    assert (report.duplicates, report.empty) == (2, 2)
    assert shard.stats["duplicates"] == 2
    assert shard.stats["genres"] == {"genre of w": 2, "genre of x": 1}
    kept = SegmentSettings(16, deduplicate=False)
    (shard,) = cut([first, second], bert, tmp_path, kept)
    assert len(shard.documents) == 5


@pytest.mark.parametrize("shard", [1, 3, 10, 1000])
@pytest.mark.parametrize("pack", [True, False])
def test_resuming_after_any_shard_gives_the_rest(
    bert, tmp_path, monkeypatch, small_blocks, shard, pack
):
    texts = some_texts(60)
    texts[20:25] = ["a dog"] * 5
    # Whole blocks without a single token: at the beginning, in the middle and at the end.
    silent = [chr(1) * number for number in range(1, 60)]
    texts = [*silent[:8], *texts[:30], *silent[8:33], *texts[30:], *silent[33:], "a dog"]
    sources = [jsonl(tmp_path, texts)]
    settings = SegmentSettings(16, pack, 0.2, 0.2)
    whole = cut(sources, bert, tmp_path, settings, shard)
    assert [each.shard for each in whole] == list(range(len(whole)))
    assert all(len(each.segments) == shard for each in whole[:-1])
    numbers = [row.number for each in whole for row in each.documents]
    assert numbers == list(range(len(texts) - 5))
    tokenised = count_tokenised(monkeypatch, type(bert))
    for place, last in enumerate(whole):
        point = ResumePoint(last.shard, last.next_block, last.taken)
        report = ReadReport()
        rest = cut(sources, bert, tmp_path, settings, shard, point, report)
        assert [plain(each) for each in rest] == [plain(each) for each in whole[place + 1 :]]
        assert report.duplicates == 5
        done = last.next_block * 7
        assert tokenised.pop() == max(0, len(numbers) - done)


def count_tokenised(monkeypatch, kind):
    counts = [0]
    original = kind.encode_documents

    def counting(self, texts):
        counts[-1] += len(texts)
        return original(self, texts)

    class Counts:
        def pop(self):
            counts.append(0)
            return counts[-2]

    monkeypatch.setattr(kind, "encode_documents", counting)
    return Counts()


def test_documents_are_listed_where_their_block_begins(bert, tmp_path, small_blocks):
    shards = cut([jsonl(tmp_path, some_texts(60))], bert, tmp_path, shard=3)
    first_segment: dict[int, int] = {}
    for shard in shards:
        for row in shard.segments.spans:
            for span in row:
                first_segment.setdefault(span.document // 7, shard.shard)
    for shard in shards:
        assert {first_segment[row.number // 7] for row in shard.documents} <= {shard.shard}


def test_stats_add_up(bert, tmp_path, small_blocks):
    texts = [*some_texts(40), "", *some_texts(40), "more foxes"]
    (tmp_path / "w.jsonl").write_text(
        "\n".join([*(json.dumps({"text": text}) for text in texts), "no json"])
    )
    source = JsonlSource("w", "web", ("w.jsonl",), tmp_path, on_error="skip")
    report = ReadReport()
    shards = cut([source], bert, tmp_path, shard=4, report=report)
    assert len(shards) > 3
    total = {
        name: sum(shard.stats[name] for shard in shards)
        for name in ("segments", "tokens", "documents", "duplicates", "skipped", "empty")
    }
    assert total == {
        "segments": sum(len(shard.segments) for shard in shards),
        "tokens": sum(len(row) for shard in shards for row in shard.segments.input_ids),
        "documents": 41,
        "duplicates": 40,
        "skipped": 1,
        "empty": 1,
    }
    assert (report.duplicates, report.skipped, report.empty) == (40, 1, 1)
    splits = np.concatenate([shard.segments.splits for shard in shards])
    for number, name in enumerate(SPLIT_NAMES):
        assert sum(s.stats["splits"][name] for s in shards) == int((splits == number).sum())


def test_sources_of_one_kind_with_different_names(bert, tmp_path):
    (tmp_path / "a.txt").write_text("one fox\n\none dog")
    sources = [TextSource(name, name, ("a.txt",), tmp_path) for name in ("x", "y")]
    settings = SegmentSettings(16, deduplicate=False)
    (shard,) = cut(sources, bert, tmp_path, settings)
    assert [row.id for row in shard.documents] == [
        "x/a.txt#1",
        "x/a.txt#2",
        "y/a.txt#1",
        "y/a.txt#2",
    ]
    with pytest.raises(CorpusError, match="a name of its own"):
        segment_shards(
            [sources[0], sources[0]],
            bert,
            settings,
            layout(bert),
            None,
            tmp_path / "seen",
            ReadReport(),
        )


@pytest.mark.parametrize("tokens", [0, 1, 2, 65_537])
def test_segments_need_room_for_text(bert, tmp_path, tokens):
    with pytest.raises(CorpusError, match=f"segment_tokens is {tokens}.*between 3 and 65536"):
        segment_shards(
            [jsonl(tmp_path, ["x"])],
            bert,
            SegmentSettings(tokens),
            layout(bert),
            None,
            tmp_path / "seen",
            ReadReport(),
        )


@pytest.mark.parametrize("texts", [[], ["", " \n"], ["\x01\x02"]])
def test_an_empty_corpus_is_an_error(bert, tmp_path, texts):
    with pytest.raises(CorpusError, match="The corpus is empty: the source w gave no text"):
        cut([jsonl(tmp_path, texts)], bert, tmp_path)


def test_an_empty_corpus_says_what_was_skipped(bert, tmp_path):
    (tmp_path / "w.jsonl").write_text("oops\n")
    source = JsonlSource("w", "web", ("w.jsonl",), tmp_path, on_error="skip")
    with pytest.raises(CorpusError, match=r"1 skipped(.|\n)*w\.jsonl, line 1: this is not JSON"):
        cut([source], bert, tmp_path)


def peak_bytes(source, tokenizer, root):
    shards = segment_shards(
        [source],
        tokenizer,
        SegmentSettings(64),
        layout(tokenizer, 10),
        None,
        root / "seen",
        ReadReport(),
    )
    gc.collect()
    tracemalloc.start()
    try:
        count = sum(len(shard.segments) for shard in shards)
        return count, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_corpus(bert, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "BLOCK_DOCUMENTS", 64)
    figures = []
    for name, count in (("small", 500), ("large", 5000)):
        source = jsonl(tmp_path, (f"document {n} about the lazy dog" for n in range(count)), name)
        # Of three, because what other threads and first uses allocate is counted too.
        figures.append(min(peak_bytes(source, bert, tmp_path) for _ in range(3)))
    (few, low), (many, high) = figures
    assert few > 50
    assert many > 9 * few
    assert high < 1.5 * low
