"""Words, the texts of tokens, and which token of a twin goes to which of the set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ckd_cache.errors import MergeError
from ckd_cache.format.arrow_io import Ragged
from ckd_cache.format.token_strings import normalised, token_strings
from ckd_cache.merge.adoption import Maps, maps_between
from ckd_cache.merge.words import word_logprobs, words_of

UNCASED = {"type": "BertNormalizer", "lowercase": True, "strip_accents": None}
NFD_WITHOUT_ACCENTS = {
    "type": "Sequence",
    "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}],
}
SPECIAL = ["[PAD]", "[MASK]"]


def wordpiece(*tokens: str, normalizer: dict[str, Any] | None = UNCASED):
    names = [*SPECIAL, *tokens]
    description = {
        "model": {"type": "WordPiece", "vocab": {name: n for n, name in enumerate(names)}},
        "added_tokens": [{"id": n, "content": one} for n, one in enumerate(SPECIAL)],
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece"},
    }
    return token_strings(description, [0, 1])


def byte_level(*tokens: str):
    """Tokens by their text; a space is written as the tokenizer writes it."""
    from tokenizers import pre_tokenizers

    signs = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    names = [*SPECIAL, *(signs.pre_tokenize_str(one)[0][0] for one in tokens)]
    description = {
        "model": {"type": "BPE", "vocab": {name: n for n, name in enumerate(names)}},
        "added_tokens": [{"id": n, "content": one} for n, one in enumerate(SPECIAL)],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel"},
        "decoder": {"type": "ByteLevel"},
    }
    return token_strings(description, [0, 1])


def goes(maps: Maps, twin_gold: int, own_gold: int) -> list[int]:
    """Where each id of the twin goes at a slot with these golds."""
    which = maps.which(np.array([twin_gold]), np.array([own_gold]))
    everything = np.arange(maps.twin_marked.size)[None]
    found: list[int] = maps.mapped(everything, which)[0].tolist()
    return found


def test_pieces_that_go_on_with_a_word_are_no_words():
    assert wordpiece("the", "##s").texts == (None, None, "the", None)


def test_bytes_are_decoded_and_spaces_are_marks():
    found = byte_level(" the", "the", " café", "  two")
    assert found.texts == (None, None, "the", "the", "café", None)
    assert found.marked.tolist() == [False, False, True, False, True, True]
    assert found.marks


def test_bytes_that_are_no_text_are_no_words():
    description = {
        "model": {"type": "BPE", "vocab": {"Ã": 0, "Ã©": 1}},
        "pre_tokenizer": {"type": "ByteLevel"},
    }
    assert token_strings(description, []).texts == (None, "é")


def test_sentencepiece_writes_spaces_as_low_blocks():
    description = {
        "model": {"type": "Unigram", "vocab": [["▁the", -1.0], ["the", -2.0], ["▁", -3.0]]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Metaspace"}]},
    }
    found = token_strings(description, [])
    assert found.texts == ("the", "the", None)
    assert found.marked.tolist() == [True, False, True]


def test_a_tokenizer_of_another_kind_is_refused():
    with pytest.raises(MergeError, match=r"a model BPE.*expected WordPiece"):
        token_strings({"model": {"type": "BPE", "vocab": {"a</w>": 0}}}, [])


@pytest.mark.parametrize(
    ("normalizer", "expected"),
    [
        (None, "Éclair"),
        ({"type": "Lowercase"}, "éclair"),
        (UNCASED, "eclair"),
        ({**UNCASED, "strip_accents": False}, "éclair"),
        ({**UNCASED, "lowercase": False}, "Éclair"),
        (
            {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}]},
            "Eclair",
        ),
        ({"type": "Replace"}, "Éclair"),
    ],
)
def test_texts_are_changed_as_the_tokenizer_would(normalizer, expected):
    assert normalised("Éclair", normalizer) == expected


def test_normalised_texts_are_those_of_the_tokenizers_library():
    from tokenizers import normalizers

    texts = ["Éclair", "naïve Straße", "\u00c5ngstr\u00f6m", "İstanbul", "ABC", "\u212b"]
    made = {
        "bert": normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False),
        "parts": normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents()]),
        "lower": normalizers.Lowercase(),
    }
    described: dict[str, Any] = {
        "bert": UNCASED,
        "parts": {
            "type": "Sequence",
            "normalizers": [{"type": "NFKD"}, {"type": "StripAccents"}],
        },
        "lower": {"type": "Lowercase"},
    }
    for name, one in made.items():
        for text in texts:
            assert normalised(text, described[name]) == one.normalize_str(text), (name, text)


def test_case_and_accents_meet_in_an_uncased_set():
    twin = byte_level(" The", " the", " THE", " café", " Cafe")
    maps = maps_between(wordpiece("the", "cafe"), twin)
    assert goes(maps, 3, 2) == [-1, -1, 2, 2, 2, 3, 3]
    assert max(one.fibre for one in maps.by_marks) == 3


def test_at_a_word_after_a_space_only_marked_tokens_go_anywhere():
    twin = byte_level(" the", "the")
    maps = maps_between(wordpiece("the"), twin)
    assert goes(maps, 2, 2) == [-1, -1, 2, -1]
    assert goes(maps, 3, 2) == [-1, -1, -1, 2]


def test_in_a_set_that_marks_spaces_tokens_go_to_those_that_are_like_its_gold():
    own = byte_level(" the", "the", "a")
    maps = maps_between(own, wordpiece("the", "a", "##a"))
    assert goes(maps, 2, 2) == [-1, -1, 2, -1, -1]
    assert goes(maps, 2, 3) == [-1, -1, 3, 4, -1]


def test_case_is_kept_where_the_set_keeps_it():
    own = byte_level(" The", " the")
    maps = maps_between(own, wordpiece("the"))
    assert goes(maps, 2, 3) == [-1, -1, 3]
    # The twin cannot tell " The" from " the": it does not speak of that gold.
    assert goes(maps, 2, 2) == [-1, -1, 3]


def test_special_tokens_go_nowhere_and_nothing_goes_to_them():
    maps = maps_between(wordpiece("the"), byte_level(" [MASK]", "[PAD]", " the"))
    for one in maps.by_marks:
        assert not np.isin(one.ids, [0, 1]).any()
        assert one.ids[0] == one.ids[1] == -1


def test_entropies_are_made_comparable_by_the_sizes_of_the_supports():
    maps = maps_between(wordpiece(*"abcdef"), byte_level(*"ab"))
    assert maps.entropy_factor == pytest.approx(np.log(8) / np.log(4))


def ragged(rows: list[list[int]], dtype: type = np.int64) -> Ragged:
    offsets = np.cumsum([0, *(len(row) for row in rows)])
    return Ragged(np.array([one for row in rows for one in row], dtype), offsets)


def test_slots_are_numbered_by_their_words():
    starts = ragged([[1, 1, 0, 1, 1], [1, 1, 1], [1, 0, 0, 1]], np.bool_)
    words = words_of(starts, ragged([[1, 2, 4], [], [1, 2]]))
    assert words.example.tolist() == [0, 0, 0, 2, 2]
    assert words.number.tolist() == [0, 0, 1, 0, 0]
    assert words.unit.tolist() == [0, 0, 1, 2, 2]
    assert words.begins.tolist() == [True, False, True, True, False]
    assert words.slots.tolist() == [2, 2, 1, 2, 2]


def test_no_word_goes_on_into_the_next_example():
    words = words_of(ragged([[1, 0], [0, 0]], np.bool_), ragged([[1], [0, 1]]))
    assert words.number.tolist() == [0, 0, 0]
    assert words.unit.tolist() == [0, 1, 1]


def test_a_words_logprob_is_the_sum_over_its_tokens():
    starts = ragged([[1, 1, 0, 1, 1]], np.bool_)
    words = words_of(starts, ragged([[1, 2, 4]]))
    found = word_logprobs(np.array([-1.0, -2.0, -4.0]), words)
    np.testing.assert_array_equal(found, [-3.0, np.nan, -4.0])


def test_no_slots_have_no_words():
    words = words_of(ragged([[1, 1], [1]], np.bool_), ragged([[], []]))
    assert len(words.unit) == 0
    assert len(word_logprobs(np.zeros(0), words)) == 0
