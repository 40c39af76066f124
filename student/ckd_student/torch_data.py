"""A stream as PyTorch's DataLoader wants it: dataset, sampler and collator.

The sampler alone decides the order, workers only read: the sequence of batches is the same for any
number of DataLoader workers, no example comes twice, and a resumed run skips without reading.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from ckd_cache.types import Array
from ckd_student.chunks import ExampleRow
from ckd_student.stream import ExampleStream

__all__ = ["Collator", "OrderSampler", "StreamDataset"]

_NO_LABEL = -100
_PADDED = ("input_ids", "attention_mask", "token_type_ids")


class StreamDataset(Dataset[ExampleRow]):
    """The examples of a stream by their number in the set."""

    def __init__(self, stream: ExampleStream) -> None:
        self.stream = stream

    def __len__(self) -> int:
        return len(self.stream)

    def __getitem__(self, number: int) -> ExampleRow:
        return self.stream.source.example(number)


class OrderSampler(Sampler[int]):
    """Numbers of examples in the order of the stream's epoch."""

    def __init__(self, stream: ExampleStream) -> None:
        self.stream = stream

    def __len__(self) -> int:
        return len(self.stream)

    def __iter__(self) -> Iterator[int]:
        return self.stream.numbers()

    def set_epoch(self, epoch: int) -> None:
        """Follow the order of ``epoch``; the Trainer calls this when an epoch begins."""
        self.stream.set_epoch(epoch)


@dataclass(frozen=True, slots=True)
class Collator:
    """Makes a batch of examples: padded to its longest example and its largest number of slots.

    Attributes:
        pad_id: fills ``input_ids`` beyond an example.
    """

    pad_id: int

    def __call__(self, rows: Sequence[ExampleRow]) -> dict[str, Tensor]:
        """Batch of B examples.

        Returns:
            ``input_ids``, ``attention_mask``, ``token_type_ids`` (B, L) int64; ``slot_positions``
            (B, M) int64; ``labels`` (B, M) int64, gold and -100 at unused slots; with a target
            ``target_ids`` (B, M, k) int64, ``target_logprobs`` (B, M, k) float32,
            ``target_n_valid`` (B, M) int64 and ``target_tail`` (B, M) float32.
        """
        length = max(int(row["attention_mask"].sum()) for row in rows)
        slots = max(int(row["slot_mask"].sum()) for row in rows)
        fill = {"input_ids": self.pad_id}
        batch = {
            name: _stack([row[name] for row in rows], length, np.int64, fill.get(name, 0))
            for name in _PADDED
        }
        used = [row["slot_mask"] for row in rows]
        labels = [
            np.where(mask, row["gold_ids"], _NO_LABEL) for mask, row in zip(used, rows, strict=True)
        ]
        batch["labels"] = _stack(labels, slots, np.int64, _NO_LABEL)
        batch["slot_positions"] = _stack([row["slot_positions"] for row in rows], slots, np.int64)
        for name in [name for name in rows[0] if name.startswith("target_")]:
            dtype = np.float32 if name in {"target_logprobs", "target_tail"} else np.int64
            batch[name] = _stack([row[name] for row in rows], slots, dtype)
        return batch


def _stack(arrays: Sequence[Array], length: int, dtype: type[np.generic], fill: int = 0) -> Tensor:
    """Tensor (B, length, …) of arrays that are cut or filled to ``length`` along axis 0."""
    shape = (len(arrays), length, *arrays[0].shape[1:])
    stacked = np.full(shape, fill, dtype=dtype)
    for row, array in enumerate(arrays):
        count = min(length, array.shape[0])
        stacked[row, :count] = array[:count]
    return torch.from_numpy(stacked)
