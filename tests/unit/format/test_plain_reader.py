"""The reader written out in docs/format.md, without this library, reads the same numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ckd_cache.format.reader import open_cache

PAGE = Path(__file__).resolve().parents[3] / "docs" / "format.md"


@pytest.fixture(scope="module")
def plain():
    section = PAGE.read_text(encoding="utf-8").split("## Reading without this library")[1]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert "ckd_cache" not in code
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    return names


@pytest.mark.parametrize(
    ("kind", "name"), [("teachers", "a"), ("teachers", "b"), ("targets", "mix")]
)
@pytest.mark.parametrize("part", ["v0-0000", "v1-0000"])
def test_distributions(plain, built, kind, name, part):
    found = plain["distributions"](built, "text", kind, name, part)
    start = 10 * int(part[1])
    expected = getattr(open_cache(built).set("text"), kind)[name].read(start, start + 10)
    assert set(found) == set(expected.keys())
    used = expected.n_valid > 0
    kept = np.arange(expected.ids.shape[-1]) < expected.n_valid[..., None]
    for key, values in found.items():
        if key in ("ids", "logprobs"):
            np.testing.assert_allclose(values[kept], expected[key][kept], rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_allclose(values[used], expected[key][used], rtol=1e-6, err_msg=key)


def test_examples(plain, built):
    seen, positions, gold = plain["examples"](built, "text", "v1-0000")
    expected = open_cache(built).set("text").examples.read(10, 20)
    for row in range(10):
        count = int(expected.slot_mask[row].sum())
        assert seen[row] == expected.input_ids[row][expected.attention_mask[row] == 1].tolist()
        assert positions[row] == expected.slot_positions[row][:count].tolist()
        assert gold[row] == expected.gold_ids[row][:count].tolist()
