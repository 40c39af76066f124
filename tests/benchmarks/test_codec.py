"""What docs/performance.md says of the codec, on fewer slots."""

from __future__ import annotations

import pytest
from tests.benchmarks.codec import BOUND, HALVES, KEPT, OURS, captured, compared, cut


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return captured(tmp_path_factory.mktemp("codec"), 8_192)


@pytest.mark.full
@pytest.mark.parametrize("k", KEPT)
@pytest.mark.parametrize("name", ["prose", "tech", "random"])
def test_values_take_half_of_float16_and_the_whole_is_near_its_bound(found, name, k):
    ways, _ = compared(cut(found[name], k))
    assert ways[OURS].nats <= 1e-4
    assert ways[OURS].values <= 0.5 * ways[HALVES].values
    assert ways[OURS].whole <= 1.11 * ways[BOUND].whole
