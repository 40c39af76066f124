"""docs/format.md lists exactly the members that a manifest has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel

from ckd_cache.format.manifest import (
    FilesRecord,
    FilledPart,
    GatherRecord,
    IncrementRecord,
    Manifest,
    PartRecord,
    SetRecord,
    SupportRecord,
    TargetRecord,
    TeacherRecord,
)
from ckd_cache.format.stats import gather_stats, target_stats, teacher_stats
from ckd_cache.types import GatherArrays, TargetArrays, TeacherArrays, array_names

PAGE = Path(__file__).resolve().parents[3] / "docs" / "format.md"
MODELS: dict[str, type[BaseModel]] = {
    "The whole of `ckd.json`:": Manifest,
    "`files`:": FilesRecord,
    "`supports.<fingerprint>`:": SupportRecord,
    "`sets.<name>`:": SetRecord,
    "`sets.<name>.increments[]`:": IncrementRecord,
    "`sets.<name>.parts[]`:": PartRecord,
    "`sets.<name>.teachers.<name>`:": TeacherRecord,
    "`sets.<name>.targets.<name>`:": TargetRecord,
    "`sets.<name>.gathers.<name>`:": GatherRecord,
    "`sets.<name>.teachers.<name>.parts.<part>`, and the same of `targets` and `gathers`:": (
        FilledPart
    ),
}
TEACHER_STATS, TARGET_STATS = "`stats` of a teacher part:", "`stats` of a target part:"
GATHER_STATS = "`stats` of a gather part:"


def tables() -> dict[str, list[str]]:
    """Members listed in the section, in order, by the end of the line above each table."""
    page = PAGE.read_text(encoding="utf-8")
    section = page.split("### Members of the manifest\n")[1].split("\n## ")[0]
    found = re.findall(r"^(.+:)\n\n\| member .*\n.*\n((?:\|.*\n)+)", section, re.MULTILINE)
    return {
        title.split(". ")[-1]: re.findall(r"^\| `(\w+)` \|", rows, re.MULTILINE)
        for title, rows in found
    }


def test_every_record_has_a_table():
    assert set(tables()) == {*MODELS, TEACHER_STATS, TARGET_STATS, GATHER_STATS}


@pytest.mark.parametrize("title", MODELS)
def test_members_are_those_of_the_model_in_its_order(title):
    by_the_writer = ["digest"] if MODELS[title] is Manifest else []
    assert sorted(tables()[title]) == sorted([*MODELS[title].model_fields, *by_the_writer])


def no_examples(kind):
    """Arrays of no examples with one slot, one kept id, and one temperature or teacher."""
    flat, deep = np.zeros((0, 1)), np.zeros((0, 1, 1))
    shapes = {"n_valid": flat, "gold_logprob": flat, "gold_rank": flat, "uncertain": flat}
    if kind is TargetArrays:
        shapes["tail"] = flat
    return kind(**{name: shapes.get(name, deep) for name in array_names(kind)})


def test_stats_are_those_that_are_computed():
    of_teacher = [*teacher_stats(no_examples(TeacherArrays)), "quantising_nats_sum"]
    assert tables()[TEACHER_STATS] == of_teacher
    of_target = [*target_stats(no_examples(TargetArrays), ["a"]), "quantising_nats_sum"]
    assert tables()[TARGET_STATS] == of_target
    nothing = GatherArrays(
        np.zeros((0, 1, 1), np.int32), np.zeros((0, 1, 1), np.float32), np.zeros((0, 1), np.int32)
    )
    assert tables()[GATHER_STATS] == [*gather_stats(nothing, np.zeros((0, 1), np.bool_))]


def test_a_manifest_has_the_listed_members(built):
    """Of the files themselves, whatever the models say."""
    stored = json.loads((built / "ckd.json").read_bytes())
    listed = tables()
    text = stored["sets"]["text"]
    for title, found in {
        "The whole of `ckd.json`:": stored,
        "`files`:": stored["files"],
        "`sets.<name>`:": text,
        "`sets.<name>.increments[]`:": text["increments"][0],
        "`sets.<name>.parts[]`:": text["parts"][0],
        "`sets.<name>.teachers.<name>`:": text["teachers"]["a"],
        "`sets.<name>.targets.<name>`:": text["targets"]["mix"],
    }.items():
        assert sorted(found) == sorted(listed[title]), title
