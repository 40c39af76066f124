"""Packing against a slow reference that follows docs/format.md token by token."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckd_cache.corpus import pack as packing
from ckd_cache.corpus.pack import KeptDocument, Template, blocks, pack_block
from ckd_cache.corpus.records import Document
from ckd_cache.corpus.tokenizer import Encoded


def document(number, split, text="x"):
    return KeptDocument(number, split, Document(f"s/{number}", text, "s", "g"))


def encoded(number, length):
    """Tokens that tell where they come from: document and place, two characters each."""
    place = np.arange(length)
    return Encoded(
        (number * 1000 + place).astype(np.uint32), place % 3 == 0, place * 2, place * 2 + 2
    )


def reference(lengths, splits, template, pack):
    """Segments as lists of (token, begins word, document, place); None at special tokens."""
    found = []
    for split in range(3):
        members = [number for number, own in enumerate(splits) if own == split]
        runs = [members] if pack else [[number] for number in members]
        for run in runs:
            stream = [(number, place) for number in run for place in range(lengths[number])]
            for start in range(0, len(stream), template.room):
                found.append((split, stream[start : start + template.room]))
    return found


block_of = st.lists(st.tuples(st.integers(0, 25), st.integers(0, 2)), max_size=12)
templates = st.builds(
    Template, st.sampled_from([(), (7,), (7, 8)]), st.sampled_from([(), (9,)]), st.integers(1, 12)
)


@given(block_of, templates, st.booleans())
def test_segments_are_those_of_the_specification(members, template, pack):
    lengths, splits = [length for length, _ in members], [split for _, split in members]
    block = [document(number, split) for number, split in enumerate(splits)]
    tokens = [encoded(number, length) for number, length in enumerate(lengths)]
    found = pack_block(block, tokens, template, pack)
    expected = reference(lengths, splits, template, pack)
    assert len(found) == len(expected)
    prefix, suffix = list(template.prefix), list(template.suffix)
    for segment, (split, stream) in zip(found, expected, strict=True):
        text = [number * 1000 + place for number, place in stream]
        assert segment.input_ids.tolist() == [*prefix, *text, *suffix]
        words = [place % 3 == 0 for _, place in stream]
        assert segment.word_starts.tolist() == [
            *([True] * len(prefix)),
            *words,
            *([True] * len(suffix)),
        ]
        assert segment.split == split
        check_spans(segment.spans, stream, len(prefix))


def check_spans(spans, stream, shift):
    """Spans cover the text of a segment without gaps and say where each token comes from."""
    at = shift
    for span in spans:
        assert span.token_start == at < span.token_end
        own = stream[span.token_start - shift : span.token_end - shift]
        assert {number for number, _ in own} == {span.document}
        assert (span.char_start, span.char_end) == (own[0][1] * 2, own[-1][1] * 2 + 2)
        at = span.token_end
    assert at == shift + len(stream)
    numbers = [span.document for span in spans]
    assert len(set(numbers)) == len(numbers)


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(1, 7), st.integers(1, 20))
def test_blocks_end_at_either_limit(sizes, most_documents, most_characters):
    kept = [document(number, 0, "x" * size) for number, size in enumerate(sizes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "BLOCK_DOCUMENTS", most_documents)
        patch.setattr(packing, "BLOCK_CHARACTERS", most_characters)
        found = list(blocks(kept))
    assert [each for block in found for each in block] == kept
    for place, block in enumerate(found):
        size = [len(each.document.text) for each in block]
        full = len(block) == most_documents or sum(size) >= most_characters
        assert full or place == len(found) - 1
        assert block
        assert len(block) <= most_documents
        assert sum(size[:-1]) < most_characters


def test_the_limits_of_a_block_are_those_of_the_format():
    small = (document(number, 0) for number in range(10_000))
    assert [len(block) for block in blocks(small)] == [4096, 4096, 1808]
    large = (document(number, 0, "x" * 2**20) for number in range(10))
    assert [len(block) for block in blocks(large)] == [4, 4, 2]


def test_blocks_stream():
    def endless():
        number = 0
        while True:
            yield document(number, 0)
            number += 1

    assert len(next(blocks(endless()))) == 4096
