"""Which examples lose their documents when a file of documents is damaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ckd_cache.errors import DamagedCacheError
from ckd_cache.format.arrow_io import DocumentRow, SegmentRows, read_documents, read_segments
from ckd_cache.format.findings import Hit, joined
from ckd_cache.format.inventory import PartFiles
from ckd_cache.format.paths import documents_path, segments_path
from ckd_cache.format.verify_scope import Scope

__all__ = ["examples_without_documents"]


def examples_without_documents(scope: Scope, part: PartFiles, shard: int) -> tuple[Hit, ...]:
    """Examples, in all views, with tokens of documents that a damaged file lists.

    What can still be read says which documents those are: the ones between those that its
    neighbours list. Segments that cannot be read themselves are left out.

    Args:
        scope: of the verification.
        part: the segments that the file belongs to.
        shard: of the file.
    """
    first, stop = _missing_numbers(scope, part, shard)
    hits: list[Hit] = []
    # A file lists the documents of the blocks that begin in its shard: none stands before it.
    for at in part.shards[shard:]:
        rows = _segments(scope, part, at)
        spans = [span.document for row in rows.spans for span in row] if rows else []
        if spans and min(spans) >= stop:
            break
        for number, row in enumerate(rows.spans if rows else ()):
            if any(first <= span.document < stop for span in row):
                starts = (place.hit(at) for place in part.places)
                hits += [Hit(w.set_name, w.start + number, w.start + number + 1) for w in starts]
    return joined(hits)


def _missing_numbers(scope: Scope, part: PartFiles, shard: int) -> tuple[int, int]:
    before = next(_listed(scope, part, range(shard - 1, -1, -1)), None)
    after = next(_listed(scope, part, part.shards[shard + 1 :]), None)
    first = before[-1].number + 1 if before else 0
    return first, after[0].number if after else int(np.iinfo(np.uint64).max)


def _listed(scope: Scope, part: PartFiles, shards: Sequence[int]) -> Iterator[list[DocumentRow]]:
    """Documents of those files that can be read and list some."""
    access = scope.reader.access
    for shard in shards:
        path = documents_path(part.set_name, part.name, shard)
        try:
            with access.reading(path):
                rows = read_documents(access.verified(path))
        except DamagedCacheError:
            continue
        if rows:
            yield rows


def _segments(scope: Scope, part: PartFiles, shard: int) -> SegmentRows | None:
    access, path = scope.reader.access, segments_path(part.set_name, part.name, shard)
    chunk = scope.set_of(part).layout.chunk_examples
    try:
        with access.reading(path):
            return read_segments(access.verified(path), 0, part.rows_of(shard), chunk)
    except DamagedCacheError:
        return None
