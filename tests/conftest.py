"""What every test shares: tiers, an offline quiet environment, and tiny models made on the spot."""

from __future__ import annotations

import builtins
import collections.abc
import fractions
import inspect
import json
import os
import string
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

# Libraries read these when first imported, so they come before any test module is collected.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("COLUMNS", "200")

import hypothesis
import pytest

FULL = os.environ.get("CKD_TESTS", "") == "full"
ROOT = Path(__file__).resolve().parents[1]
SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_DOCUMENTED = (builtins, collections.abc, fractions, inspect, json, os, string)

hypothesis.settings.register_profile(
    "default", deadline=None, derandomize=True, max_examples=25, database=None
)
hypothesis.settings.register_profile(
    "full", deadline=None, derandomize=True, max_examples=200, database=None
)
hypothesis.settings.load_profile("full" if FULL else "default")


class TeacherFolders(Protocol):
    """Makes a folder with a tiny masked LM of random weights."""

    def __call__(self, seed: int = 0, *, name: str | None = None, **config: Any) -> Path: ...


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    """Leave the tests marked ``full`` out of the default tier."""
    if FULL:
        return
    skip = pytest.mark.skip(reason="slow: runs with CKD_TESTS=full")
    for item in items:
        if "full" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def _one_torch_thread() -> None:
    """Keep torch, where a test has imported it, at one thread: same sums, no oversubscription."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def repository_root() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def tiny_texts() -> list[str]:
    """A few hundred English paragraphs: docstrings of modules that every Python has."""
    found = (
        inspect.getdoc(member)
        for module in _DOCUMENTED
        for _, member in sorted(vars(module).items(), key=lambda item: item[0])
    )
    return sorted({text for text in found if text and len(text) > 40})


@pytest.fixture(scope="session")
def tiny_tokenizer_folder(tmp_path_factory: pytest.TempPathFactory, tiny_texts: list[str]) -> Path:
    """Folder with a WordPiece tokenizer of 400 pieces, saved as a transformers fast tokenizer."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from tokenizers.trainers import WordPieceTrainer
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = WordPieceTrainer(
        vocab_size=400, special_tokens=list(SPECIAL_TOKENS.values()), show_progress=False
    )
    tokenizer.train_from_iterator(tiny_texts, trainer)
    ends = {token: tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]")}
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=list(ends.items()),
    )
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=128, **SPECIAL_TOKENS
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_teacher_folder(
    tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer_folder: Path
) -> TeacherFolders:
    """Factory of folders with a random BERT (2 layers, 32 wide) and the tiny tokenizer.

    ``tiny_teacher_folder(seed, **config)`` gives the same folder for the same arguments; keywords
    override fields of BertConfig. With ``name`` the folder is made anew, for tests that alter it.
    """
    made: dict[str, Path] = {}

    def make(seed: int = 0, *, name: str | None = None, **config: Any) -> Path:
        key = json.dumps([seed, name, config], sort_keys=True, default=str)
        if key not in made or name is not None:
            folder = tmp_path_factory.mktemp(name or f"teacher-{seed}")
            _save_bert(folder, tiny_tokenizer_folder, seed, config)
            made[key] = folder
        return made[key]

    return make


def _save_bert(folder: Path, tokenizer_folder: Path, seed: int, fields: Mapping[str, Any]) -> None:
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    defaults = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 128,
        "pad_token_id": tokenizer.pad_token_id,
        # Random weights of the usual scale give nearly uniform distributions: a poor oracle.
        "initializer_range": 0.3,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BertForMaskedLM(BertConfig(**{**defaults, **fields}))
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
