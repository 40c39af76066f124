"""A corpus ten times as large: ten times the work, the same memory."""

from __future__ import annotations

import pytest
from tests.benchmarks.corpus_growth import measure, write_recipe


@pytest.mark.full
@pytest.mark.timeout(900)
def test_time_grows_with_the_corpus_and_memory_does_not(tmp_path, tiny_teacher_folder):
    teachers = {"a": tiny_teacher_folder(1, max_position_embeddings=128)}
    small, large = (
        measure(write_recipe(tmp_path / str(documents), documents, teachers, mask_fraction=0.03))
        for documents in (2_000, 20_000)
    )
    growth = large["slots"] / small["slots"]
    assert 8 < growth < 11
    # Starting up costs the same for both, so CPU time grows by less than the corpus.
    assert large["cpu_seconds"] / small["cpu_seconds"] < 1.1 * growth
    assert large["peak_mib"] / small["peak_mib"] < 1.15
