"""The stage that puts a set's support beside it: the tokenizer's files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from ckd_cache.build.profile import CORPUS_LIBRARIES, library_versions
from ckd_cache.build.session import Session
from ckd_cache.build.stage import Stage
from ckd_cache.corpus.tokenizer import CorpusTokenizer
from ckd_cache.fingerprint import fingerprint
from ckd_cache.format.journal import Journal
from ckd_cache.format.manifest import SupportRecord
from ckd_cache.format.paths import support_part
from ckd_cache.format.spec import WHOLE_PART
from ckd_cache.format.support import SupportFiles, encode_support
from ckd_cache.format.workspace import ShardFiles
from ckd_cache.types import JsonObject

__all__ = ["FilledSupport", "fill_support", "support_identity", "support_stage"]


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


def fill_support(session: Session, tokenizer: CorpusTokenizer) -> FilledSupport:
    """Publish a support unless it is there.

    Args:
        session: the build.
        tokenizer: what its ids mean.
    """
    stage = support_stage(tokenizer)
    key = fingerprint(stage.identity)
    known = session.manifest.supports
    if key in known:
        return FilledSupport(key, known, ())
    record = SupportRecord(kind="tokens", size=tokenizer.size, special=dict(tokenizer.special))
    journal = session.fill(stage)
    return FilledSupport(key, {**known, key: record}, (journal,))


def support_stage(tokenizer: CorpusTokenizer) -> Stage:
    """What fills the support of a tokenizer."""
    identity = support_identity(tokenizer)
    key = fingerprint(identity)
    return Stage(
        key=support_part(key),
        identity=identity,
        profile=library_versions(CORPUS_LIBRARIES),
        shards=partial(_support_files, key, tokenizer),
    )


def _support_files(key: str, tokenizer: CorpusTokenizer, journal: Journal) -> Iterator[ShardFiles]:
    if not journal.lines:
        support = SupportFiles("tokens", tokenizer.size, tokenizer.special)
        yield ShardFiles(WHOLE_PART, encode_support(key, support, tokenizer.save()), {})
