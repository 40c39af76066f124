"""Which split a document belongs to, from its id alone (docs/format.md, Splits)."""

from __future__ import annotations

import hashlib

__all__ = ["FIT", "SPLIT_NAMES", "TEST", "TRAIN", "split_of"]

SPLIT_NAMES = ("train", "fit", "test")
"""Names of the splits by their stored number."""

TRAIN, FIT, TEST = range(3)
_RANGE = 2.0**64


def split_of(document_id: str, fit: float, test: float) -> int:
    """Number of the split of a document: 0 train, 1 fit, 2 test.

    With u = the first eight bytes of sha256(id) as a big-endian integer / 2^64: test if u < test,
    else fit if u < test + fit, else train.

    Args:
        document_id: id of the document, hashed as UTF-8.
        fit: share of documents in ``fit``, 0 … 1.
        test: share of documents in ``test``, 0 … 1.
    """
    digest = hashlib.sha256(document_id.encode("utf-8")).digest()
    # Integers compare with floats exactly; dividing first would round u near 1.
    number = int.from_bytes(digest[:8], "big")
    if number < test * _RANGE:
        return TEST
    return FIT if number < (test + fit) * _RANGE else TRAIN
