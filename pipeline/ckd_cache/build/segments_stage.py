"""The stage that turns sources into the segments of an increment, and the support beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ckd_cache.build.profile import CORPUS_LIBRARIES, library_versions
from ckd_cache.build.stage import Stage
from ckd_cache.corpus.segments import ResumePoint, SegmentSettings, segment_shards
from ckd_cache.corpus.source import ReadReport, SourceSpec
from ckd_cache.corpus.tokenizer import CorpusTokenizer
from ckd_cache.errors import CorpusError
from ckd_cache.format.arrow_io import (
    SegmentRows,
    encode_documents,
    encode_segments,
    read_segments,
)
from ckd_cache.format.journal import Journal
from ckd_cache.format.manifest import IncrementRecord
from ckd_cache.format.spec import Layout, documents_path, segments_path, SPLIT_NAMES
from ckd_cache.format.support import encode_support
from ckd_cache.format.workspace import ShardFiles
from ckd_cache.progress import Progress
from ckd_cache.types import JsonObject
