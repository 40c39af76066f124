"""Text of tokens, for the ways in which tokenizers write words."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.trainers import BpeTrainer

from ckd_cache.inspection.decode import TokenText, printable

TEXT = "The quick café's naïve 日本 \N{FOX FACE} fox jumps.\n\n    return x"


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["The quick fox jumps return x"] * 3, trainer)
    return tokenizer


def byte_fallback() -> Tokenizer:
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁foxf", "fo", "fox", "▁fox"]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    merges = [("f", "o"), ("fo", "x"), ("▁", "fox")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer


def word_piece() -> Tokenizer:
    names = ["[UNK]", "fox", "jump", "##s", ".", "don", "'", "t"]
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


@pytest.mark.parametrize("tokenizer", [byte_level(), byte_fallback()])
def test_pieces_joined_are_the_text(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(TEXT).ids
    pieces = TokenText(tokenizer).in_sequence(ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == TEXT
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces)


def test_pieces_of_word_pieces_have_spaces_where_words_begin() -> None:
    tokenizer = word_piece()
    ids = tokenizer.encode("fox jumps. don't fox").ids
    pieces = TokenText(tokenizer).in_sequence(ids)
    assert pieces[:4] == ["fox", " jump", "s", "."]
    assert "".join(pieces) == tokenizer.decode(ids)


def test_special_tokens_are_shown_where_they_are_asked_for() -> None:
    tokenizer = word_piece()
    tokenizer.add_special_tokens(["[UNK]"])
    ids = tokenizer.encode("fox xyz").ids
    assert TokenText(tokenizer).in_sequence(ids) == ["fox", " [UNK]"]
    assert TokenText(tokenizer).alone(0) == "[UNK]"


def test_a_long_sequence_is_decoded_as_a_short_one() -> None:
    tokenizer = byte_level()
    text = "The quick fox jumps. " * 200
    assert "".join(TokenText(tokenizer).in_sequence(tokenizer.encode(text).ids)) == text


def test_broken_characters_are_kept_as_broken() -> None:
    tokenizer = byte_level()
    ids = tokenizer.encode("日").ids[:-1] + tokenizer.encode(" x").ids
    pieces = TokenText(tokenizer).in_sequence(ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces).endswith("x")


def alone(tokenizer: Tokenizer, name: str) -> str:
    token = tokenizer.token_to_id(name)
    assert token is not None
    return TokenText(tokenizer).alone(token)


def test_a_token_alone_says_whether_it_begins_a_word() -> None:
    assert [alone(word_piece(), name) for name in ("fox", "##s")] == ["fox", "##s"]
    assert [alone(byte_level(), name) for name in ("Ġfox", "x")] == ["▁fox", "x"]
    assert [alone(byte_fallback(), name) for name in ("▁fox", "fox")] == ["▁fox", "fox"]


def test_a_token_alone_that_is_no_character_keeps_its_name() -> None:
    assert alone(byte_fallback(), "<0xC3>") == "<0xC3>"
    assert alone(byte_level(), "Ċ") == "Ċ"


def test_an_id_outside_the_tokenizer_is_a_number() -> None:
    assert TokenText(word_piece()).alone(999) == "id 999"


def test_control_characters_cannot_drive_a_terminal() -> None:
    assert printable("a\x1b[31mb\n\x07é") == "a\\x1b[31mb\\n\\x07é"
