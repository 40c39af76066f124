"""Exact targets from what a cache has gathered, whatever else it has gathered."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest
from tests.integration import builds

from ckd_cache.build.dropping import DropRequest, drop_from_cache
from ckd_cache.format.identities import gather_name
from ckd_cache.format.reader import open_cache
from ckd_cache.merge.reading import merge_range
from ckd_cache.merge.rule import TargetRule
from ckd_cache.merge.source import merge_source
from ckd_cache.types import TargetArrays, array_names

PAIR, ALL = ("a", "b"), ("a", "b", "c")


@pytest.fixture(scope="module")
def cache(tmp_path_factory, tiny_texts, tiny_teacher_folder):
    """Three teachers, gathered for a pair of them and for all three."""
    folder = tmp_path_factory.mktemp("exact")
    builds.write_corpus(folder / "corpus.txt", tiny_texts[::60])
    builds.recipe(
        folder,
        {name: tiny_teacher_folder(seed) for seed, name in enumerate(ALL, 1)},
        objective={"views": 1, "mask_fraction": 0.2, "seed": 3},
        capture={"top_k": 6, "temperatures": [1.0, 2.0], "max_nats": 0.0},
        gather=[list(PAIR), list(ALL)],
        targets=[],
    )
    builds.rebuild(folder, folder / "whole.ckd")
    return folder / "whole.ckd"


def exact(cache, **changes) -> TargetArrays:
    fields: dict[str, Any] = {"weighting": "entropy", "tau": 1.0, "temperature": 1.0, "top_k": 20}
    rule = TargetRule(**fields | {"teachers": PAIR, "missing": "exact"} | changes)
    source = merge_source(open_cache(cache), "text", rule.teachers)
    return merge_range(source, rule, 0, source.reader.n_examples, 0.0)


@pytest.mark.parametrize("changes", [{}, {"temperature": 2.0}, {"mixture": "geometric"}])
def test_a_target_does_not_depend_on_what_else_was_gathered(cache, tmp_path, changes):
    only_all = shutil.copytree(cache, tmp_path / "all.ckd")
    pair = tuple(gather_name(name, PAIR) for name in PAIR)
    drop_from_cache(only_all, DropRequest(gathers=pair))
    one, other = exact(cache, **changes), exact(only_all, **changes)
    for name in array_names(TargetArrays):
        np.testing.assert_array_equal(other[name], one[name], err_msg=name)


def test_nothing_is_uncertain_where_all_is_known_and_nothing_rounded(cache):
    target = exact(cache)
    assert (target.uncertain[target.n_valid > 0] == 0.0).all()
    bucket = exact(cache, missing="bucket")
    assert (bucket.uncertain[bucket.n_valid > 0] > 0.0).any()
