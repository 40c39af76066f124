"""What docs/performance.md says of merging: its time beside that of reading, and flat memory."""

from __future__ import annotations

import pytest
from tests.benchmarks.made_up_cache import write_cache
from tests.benchmarks.merging import READ, merged, speeds


@pytest.mark.full
def test_merging_takes_a_few_times_as_long_as_reading(tmp_path):
    write_cache(tmp_path / "cache.ckd", 2)
    found = speeds(tmp_path / "cache.ckd")
    # Quiet machines give about 3; this one may be busy.
    assert found[READ] / found["merge what was read, gold"] < 6


@pytest.mark.full
@pytest.mark.timeout(600)
def test_memory_does_not_grow_with_the_cache(tmp_path):
    peaks = []
    for shards in (4, 40):
        write_cache(tmp_path / f"{shards}.ckd", shards)
        peaks.append(merged(tmp_path / f"{shards}.ckd", 1).peak_mib)
    assert peaks[1] / peaks[0] < 1.15
