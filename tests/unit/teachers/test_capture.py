"""Running a teacher over examples: batches, unused slots, and numbers that are no numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ckd_cache.errors import TeacherError
from ckd_cache.format.spec import Capture
from ckd_cache.numerics.topk import reference_distributions
from ckd_cache.teachers.capture import capture
from ckd_cache.teachers.load import Head, LoadedTeacher
from ckd_cache.types import Examples, array_names

KEPT = Capture(k=8, temperatures=(1.0, 2.0), max_nats=0.0, step=0.0)
Folders = Callable[..., Path]


@pytest.fixture
def teacher(tiny_teacher_folder: Folders) -> LoadedTeacher:
    from transformers import AutoModelForMaskedLM

    model = AutoModelForMaskedLM.from_pretrained(tiny_teacher_folder(0), dtype=torch.float32)
    return LoadedTeacher(
        "prose", model.eval(), torch.device("cpu"), "float32", "sdpa", "slots", 400
    )


def examples_of(lengths: list[int], counts: list[int], slots: int = 4) -> Examples:
    generator = np.random.default_rng(0)
    ids = np.zeros((len(lengths), max(lengths)), np.int64)
    mask = np.zeros_like(ids)
    positions = np.zeros((len(lengths), slots), np.int64)
    used, gold = np.zeros(positions.shape, np.bool_), np.zeros_like(positions)
    for row, (length, count) in enumerate(zip(lengths, counts, strict=True)):
        ids[row, :length], mask[row, :length] = generator.integers(5, 400, length), 1
        positions[row, :count] = np.sort(generator.choice(length, count, replace=False))
        used[row, :count], gold[row, :count] = True, generator.integers(5, 400, count)
    return Examples(ids, mask, np.zeros_like(ids), positions, used, gold)


@pytest.fixture
def shapes(teacher: LoadedTeacher) -> list[tuple[int, int]]:
    """Shapes of the batches that the teacher's encoder sees."""
    seen: list[tuple[int, int]] = []
    teacher.model.bert.register_forward_hook(
        lambda _m, _a, output: seen.append(tuple(output.last_hidden_state.shape[:2]))
    )
    return seen


def test_batches_by_tokens_each_padded_to_its_own_longest_row(
    teacher: LoadedTeacher, shapes: list[tuple[int, int]]
) -> None:
    examples = examples_of([3, 9, 20, 5, 6, 7, 4], [1, 2, 4, 2, 0, 0, 1])
    done: list[int] = []
    capture(teacher, examples, KEPT, 40, "x", on_batch=done.append)
    # Rows 4 and 5 have no slots: their batch is passed over, and still reported.
    assert shapes == [(2, 9), (2, 20), (1, 4)]
    assert done == [2, 2, 2, 1]


def test_a_row_longer_than_the_budget_runs_alone(
    teacher: LoadedTeacher, shapes: list[tuple[int, int]]
) -> None:
    capture(teacher, examples_of([30, 20], [1, 1]), KEPT, 8, "x")
    assert shapes == [(1, 30), (1, 20)]


@pytest.mark.parametrize("head", ["slots", "plain"])
def test_arrays_are_padded_and_typed(teacher: LoadedTeacher, head: Head) -> None:
    plain = LoadedTeacher("prose", teacher.model, teacher.device, "float32", "sdpa", head, 400)
    examples = examples_of([9, 5, 12], [4, 0, 2])
    arrays = capture(plain, examples, KEPT, 100, "x")
    assert arrays.ids.shape == arrays.logprobs.shape == (3, 4, 8)
    assert arrays.tail.shape == arrays.logsumexp.shape == arrays.entropy.shape == (3, 4, 2)
    unused = ~examples.slot_mask
    for name in array_names(type(arrays)):
        values = arrays[name]
        whole = "u4" if name == "gold_rank" else "i4"
        kind = whole if name in {"ids", "n_valid", "gold_rank"} else "f4"
        assert values.dtype.str.endswith(kind), name
        if kind == "f4":
            assert np.isnan(values[unused]).all(), name
            assert np.isfinite(values[~unused]).all(), name
        else:
            assert not values[unused].any(), name
    assert (arrays.n_valid[~unused] == 8).all()


def test_numbers_are_those_of_the_reference(teacher: LoadedTeacher) -> None:
    examples = examples_of([9, 5, 12], [4, 0, 2])
    arrays = capture(teacher, examples, KEPT, 100, "x")
    with torch.no_grad():
        logits = teacher.model(
            torch.from_numpy(examples.input_ids), torch.from_numpy(examples.attention_mask)
        ).logits
    rows, numbers = np.nonzero(examples.slot_mask)
    at_slots = logits[rows, examples.slot_positions[rows, numbers]].numpy()
    expected = reference_distributions(at_slots, examples.gold_ids[rows, numbers], 8, (1.0, 2.0))
    for name in array_names(type(arrays)):
        np.testing.assert_allclose(
            arrays[name][rows, numbers], getattr(expected, name), rtol=1e-5, atol=1e-5
        )


def test_more_entries_than_the_support_has(teacher: LoadedTeacher) -> None:
    wide = Capture(k=1000, temperatures=(1.0,), max_nats=0.0, step=0.0)
    arrays = capture(teacher, examples_of([5], [2]), wide, 100, "x")
    assert arrays.ids.shape == (1, 4, 400)
    assert np.isneginf(arrays.tail[0, :2]).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_no_number_is_refused_with_teacher_shard_and_example(
    teacher: LoadedTeacher, bad: float
) -> None:
    """Only example 3 of the shard reads token 77, whose embedding is broken."""
    examples = examples_of([6, 6, 6, 6, 6], [2, 2, 2, 2, 2])
    examples.input_ids[examples.input_ids == 77] = 78
    examples.input_ids[3, 2] = 77
    with torch.no_grad():
        teacher.model.bert.embeddings.word_embeddings.weight[77] = bad
    # The output embedding is tied: untie it, or every slot would predict NaN for token 77.
    decoder = teacher.model.cls.predictions.decoder
    decoder.weight = torch.nn.Parameter(decoder.weight.detach().nan_to_num(0.0, 0.0, 0.0))
    message = r"teacher prose .* in text/teachers/prose/v0-0000 shard 4, example 1003, at token"
    with pytest.raises(TeacherError, match=message):
        capture(teacher, examples, KEPT, 12, "text/teachers/prose/v0-0000 shard 4", 1000)


def test_nan_weights_are_refused(teacher: LoadedTeacher) -> None:
    with torch.no_grad():
        teacher.model.cls.predictions.bias[11] = float("nan")
    with pytest.raises(TeacherError, match="example 0, at token"):
        capture(teacher, examples_of([6], [2]), KEPT, 100, "x")


def test_no_examples(teacher: LoadedTeacher) -> None:
    nothing: Any = examples_of([5], [1])
    empty = Examples(*(nothing[name][:0] for name in nothing.keys()))  # noqa: SIM118
    assert len(capture(teacher, empty, KEPT, 100, "x")) == 0
