"""Trains a byte-level BPE tokenizer, for an expert whose tokenizer is not that of the others.

    python workflows/experiments/bpe.py runs/experiments/text/reviews.jsonl \
        runs/experiments/tokenizers/bpe --pieces 8192

Only documents of the split ``train`` are read: the same text that the expert is trained on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from corpora import FIT, TEST
from tokenizers import ByteLevelBPETokenizer
from transformers import RobertaTokenizerFast

from ckd_cache.numerics.splits import SPLIT_NAMES, split_of

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
LONGEST = 128
"""Tokens of a segment, special tokens included."""


def main() -> None:
    """Train and save."""
    arguments = _arguments()
    trained = ByteLevelBPETokenizer(add_prefix_space=False)
    trained.train_from_iterator(
        training_text(arguments.text),
        vocab_size=arguments.pieces,
        min_frequency=2,
        special_tokens=list(SPECIAL),
        show_progress=False,
    )
    arguments.output.mkdir(parents=True, exist_ok=True)
    trained.save_model(str(arguments.output))
    tokenizer = RobertaTokenizerFast(
        vocab=str(arguments.output / "vocab.json"),
        merges=str(arguments.output / "merges.txt"),
        model_max_length=LONGEST,
    )
    tokenizer.save_pretrained(arguments.output)
    print(f"{arguments.output}: {len(tokenizer):,} pieces")


def training_text(path: Path) -> Iterator[str]:
    """Documents of the split ``train``, by the ids that a recipe's source gives them."""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            split = split_of(f"{path.stem}/{path.name}#{number}", FIT, TEST)
            if line.strip() and SPLIT_NAMES[split] == "train":
                yield json.loads(line)["text"]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path, help="JSON Lines that corpora.py wrote")
    parser.add_argument("output", type=Path, help="folder of the tokenizer")
    parser.add_argument("--pieces", type=int, default=8192)
    return parser.parse_args()


if __name__ == "__main__":
    main()
