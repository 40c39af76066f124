"""The stage that puts a set's support beside it: the tokenizer's files and the order of ids."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from ckd_cache.build.profile import CORPUS_LIBRARIES, library_versions
from ckd_cache.build.session import Session
from ckd_cache.build.stage import Stage
from ckd_cache.corpus.tokenizer import CorpusTokenizer
from ckd_cache.fingerprint import fingerprint
from ckd_cache.format.arrow_io import read_ragged
from ckd_cache.format.journal import Journal
from ckd_cache.format.manifest import SupportRecord
from ckd_cache.format.paths import segments_path, support_part
from ckd_cache.format.spec import WHOLE_PART, Layout
from ckd_cache.format.support import SupportFiles, encode_support, order_of
from ckd_cache.format.workspace import ShardFiles
from ckd_cache.types import Array, JsonObject

__all__ = ["FilledSupport", "fill_support", "support_identity"]


@dataclass(frozen=True, slots=True)
class FilledSupport:
    """A support that is published.

    Attributes:
        fingerprint: of the support.
        records: the manifest's supports, this one among them.
        journals: still to be committed; none if another set has the same support.
    """

    fingerprint: str
    records: dict[str, SupportRecord]
    journals: tuple[Journal, ...]


def support_identity(tokenizer: CorpusTokenizer) -> JsonObject:
    """Identity of the support that a tokenizer's ids are."""
    return {
        "kind": "tokens",
        "size": tokenizer.size,
        "tokens": tokenizer.tokens,
        "special": dict(tokenizer.special),
    }


def fill_support(
    session: Session,
    set_name: str,
    increment: str,
    tokenizer: CorpusTokenizer,
    segments: Journal,
    layout: Layout,
) -> FilledSupport:
    """Publish a support, its order frozen by the segments just made, unless it is there.

    Args:
        session: the build.
        set_name: the set that needs it.
        increment: whose segments are counted.
        tokenizer: what its ids mean.
        segments: journal of the increment's segments, finished.
        layout: how they are cut.
    """
    identity = support_identity(tokenizer)
    key = fingerprint(identity)
    known = session.manifest.supports
    if key in known:
        return FilledSupport(key, known, ())
    record = SupportRecord(kind="tokens", size=tokenizer.size, special=dict(tokenizer.special))
    stage = Stage(
        key=support_part(key),
        # The order depends on the segments; a build begun with others must not go on.
        identity={**identity, "segments": segments.key, "order_of": _identity_of(segments)},
        profile=library_versions(CORPUS_LIBRARIES),
        shards=partial(
            _support_files, session, set_name, increment, key, tokenizer, segments, layout
        ),
    )
    journal = session.fill(stage)
    return FilledSupport(key, {**known, key: record}, (journal,))


def _identity_of(segments: Journal) -> list[str]:
    return [row.sha256 for row in segments.rows]


def _support_files(
    session: Session,
    set_name: str,
    increment: str,
    key: str,
    tokenizer: CorpusTokenizer,
    segments: Journal,
    layout: Layout,
    journal: Journal,
) -> Iterator[ShardFiles]:
    if journal.lines:
        return
    counts = np.zeros(tokenizer.size, np.int64)
    for line in segments.lines:
        path = session.writer.path / segments_path(set_name, increment, line.shard)
        (ids,) = read_ragged(path, ["input_ids"], 0, line.stats["segments"], layout.chunk_examples)
        counts += _counts(ids.values, tokenizer.size)
    support = SupportFiles("tokens", tokenizer.size, tokenizer.special, order_of(counts))
    yield ShardFiles(WHOLE_PART, encode_support(key, support, tokenizer.save()), {})


def _counts(ids: Array, size: int) -> Array:
    return np.bincount(ids, minlength=size)
