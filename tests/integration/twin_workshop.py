"""A small BERT and a small RoBERTa of random weights, with tokenizers of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import yaml
from tests.integration import builds

TECH = builds.ROOT / "workflows" / "quickstart" / "teachers" / "tech"
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    # Random weights of the usual scale give nearly uniform distributions: a poor oracle.
    "initializer_range": 0.3,
}
TEXTS = 36
WORDS = {"mask_fraction": 0.25, "whole_word": True, "views": 2, "seed": 3}
WORDS_ALONE = {**WORDS, "corruption": {"mask": 1.0, "random": 0.0, "keep": 0.0}}


class Workshop(NamedTuple):
    """A folder with a corpus, both teachers and a recipe whose set has the tokenizer ``first``."""

    folder: Path
    first: str
    teachers: dict[str, Path]
    recipe: Path

    @property
    def other(self) -> str:
        return next(name for name in self.teachers if name != self.first)


def workshop_at(folder: Path, first: str, teachers, texts, **changes: Any) -> Workshop:
    folder.mkdir(exist_ok=True)
    (folder / "corpus.txt").write_text(documents_of(texts), encoding="utf-8")
    targets = [{"name": "gold"}, {"name": "even", "weighting": "uniform"}]
    path = recipe(folder, first, teachers, **{"targets": targets, **changes})
    return Workshop(folder, first, teachers, path)


def documents_of(texts) -> str:
    spoken = ["Café DÉJÀ vu — naïve “quotes” don't break, says O'Brien (twice).", "日本 ok ☃ done"]
    return "\n\n".join(" ".join(text.split()) for text in [*texts[:TEXTS], *spoken])


def two_teachers(folder: Path, texts: list[str]) -> dict[str, Path]:
    """Folders of a BERT and a RoBERTa, by name."""
    (folder / "bpe").mkdir()
    return {
        "bert": save_bert(folder / "bert", 1),
        "roberta": save_roberta(folder / "bpe" / "roberta", 2, texts),
    }


def save_bert(folder: Path, seed: int) -> Path:
    """A BERT with the quickstart's tokenizer: WordPiece of 8,192 lower-cased pieces."""
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

    tokenizer = AutoTokenizer.from_pretrained(TECH)
    fields: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 80,
        "pad_token_id": 0,
    }
    _save(folder, BertForMaskedLM, BertConfig(**SMALL, **fields), tokenizer, seed)
    return folder


def save_roberta(folder: Path, seed: int, texts: list[str]) -> Path:
    """A RoBERTa with a byte-level BPE of 3,000 tokens, trained on some texts."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaConfig, RobertaForMaskedLM, RobertaTokenizerFast

    trained = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(
        texts, vocab_size=3000, min_frequency=2, special_tokens=special, show_progress=False
    )
    trained.save_model(str(folder.parent))
    tokenizer = RobertaTokenizerFast.from_pretrained(folder.parent)
    fields: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 98,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "type_vocab_size": 1,
    }
    _save(folder, RobertaForMaskedLM, RobertaConfig(**SMALL, **fields), tokenizer, seed)
    return folder


def recipe(folder: Path, first: str, teachers: dict[str, Path], **changes: Any) -> Path:
    """A recipe whose set has the tokenizer of the teacher ``first``; the others need twins."""
    listed = [
        {"name": name, "model": str(path), **({} if name == first else {"tokenizer": "twin"})}
        for name, path in teachers.items()
    ]
    corpus = {
        "sources": [{"name": "docs", "kind": "text", "paths": ["corpus.txt"]}],
        "segment_tokens": 48,
        "tokenizer": str(teachers[first]),
    }
    sections: dict[str, Any] = {
        "corpus": corpus,
        "objective": WORDS_ALONE,
        "shards": {"slots": 240, "chunk_slots": 60},
        "targets": [],
        **changes,
    }
    path = builds.recipe(folder, {}, **sections)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({**content, "teachers": listed}), encoding="utf-8")
    return path


def _save(folder: Path, model: Any, config: Any, tokenizer: Any, seed: int) -> None:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = model(config)
    made.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
