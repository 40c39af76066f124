"""Small tokenizers of the families that teachers come in, trained here and saved as folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    AlbertTokenizer,
    BertTokenizer,
    DebertaV2Tokenizer,
    PreTrainedTokenizerFast,
    RobertaTokenizer,
)

from ckd_cache.corpus.tokenizer import CorpusTokenizer, load_tokenizer

SENTENCES = [
    "The quick brown fox jumps over the lazy dog, again and again.",
    "Naïve café owners in Zürich say: 日本語 is hard! \U0001f600 Emoji too.",
    "A cache keeps the top-k of every distribution; a student reads it later.",
    "unaffable unbelievable unhappiness relatedness tokenization",
] * 5
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def _bert() -> Any:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        SENTENCES,
        trainers.WordPieceTrainer(vocab_size=200, special_tokens=BERT, show_progress=False),
    )
    return BertTokenizer(vocab=tokenizer.get_vocab())


def _byte_level(special: list[str], size: int = 330) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=special,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def _roberta() -> Any:
    model = json.loads(_byte_level(ROBERTA).to_str())["model"]
    merges: Any = [tuple(merge) for merge in model["merges"]]
    return RobertaTokenizer(vocab=model["vocab"], merges=merges)


def _unigram(special: list[str], unknown: str) -> list[tuple[str, float]]:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(
        SENTENCES,
        trainers.UnigramTrainer(
            vocab_size=150, special_tokens=special, unk_token=unknown, show_progress=False
        ),
    )
    return [tuple(entry) for entry in json.loads(tokenizer.to_str())["model"]["vocab"]]


def _modernbert() -> Any:
    tokenizer = _byte_level(BERT)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    )


def _bare() -> Any:
    return PreTrainedTokenizerFast(
        tokenizer_object=_byte_level(["<eos>"]), eos_token="<eos>", unk_token="<eos>"
    )


MAKERS = {
    "bert": _bert,
    "roberta": _roberta,
    "albert": lambda: AlbertTokenizer(
        vocab=_unigram(["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"], "<unk>")
    ),
    "deberta": lambda: DebertaV2Tokenizer(
        vocab=_unigram(["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"], "[UNK]")
    ),
    "modernbert": _modernbert,
    "bare": _bare,
}


@pytest.fixture(scope="session")
def tokenizer_root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("tokenizers")
    for name, make in MAKERS.items():
        make().save_pretrained(root / name)
    return root


@pytest.fixture(scope="session")
def bert(tokenizer_root) -> CorpusTokenizer:
    return load_tokenizer("bert", tokenizer_root)
