"""The stream and what PyTorch's DataLoader makes of it."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from ckd_cache.errors import CkdCacheError, DamagedCacheError, IncompleteCacheError, StudentError
from ckd_cache.format.reader import SetReader, open_cache
from ckd_student.stream import open_stream
from ckd_student.torch_data import Collator, OrderSampler, StreamDataset


@pytest.fixture
def text(cache) -> SetReader:
    return open_cache(cache).set("text")


def expected_numbers(text, split):
    slots = text.examples.read(0, text.n_examples).slot_mask.any(axis=1)
    return np.flatnonzero(slots & (text.examples.splits(0, text.n_examples) == split)).tolist()


@pytest.mark.parametrize(("split", "number"), [("train", 0), ("fit", 1), ("test", 2)])
def test_a_stream_has_the_examples_of_its_split_that_have_slots(cache, text, split, number):
    stream = open_stream(cache, target="mix", split=split, window=3)
    assert sorted(stream.numbers()) == expected_numbers(text, number)
    assert len(stream) == len(list(stream)) == len(expected_numbers(text, number))


def test_the_example_without_a_slot_is_left_out(cache, student_cache):
    numbers = set(open_stream(cache, target=None).numbers())
    assert student_cache.WITHOUT_SLOTS not in numbers
    assert student_cache.WITHOUT_SLOTS + student_cache.SEGMENTS not in numbers
    assert student_cache.WITHOUT_SLOTS + 1 in numbers


def test_examples_are_those_of_the_cache_with_their_target(cache, text):
    stream = open_stream(cache, target="mix", seed=3, window=2)
    examples = text.examples.read(0, text.n_examples)
    target = text.targets["mix"].read(0, text.n_examples)
    for number, row in zip(stream.numbers(), stream, strict=True):
        for name in examples.keys():  # noqa: SIM118
            np.testing.assert_array_equal(row[name], examples[name][number])
        for name in ("ids", "logprobs", "n_valid", "tail"):
            np.testing.assert_array_equal(row[f"target_{name}"], target[name][number])


def test_without_a_target_none_is_read(cache):
    assert not [name for name in next(iter(open_stream(cache, target=None))) if "target" in name]


def test_epochs_differ_and_come_back(cache):
    stream = open_stream(cache, target=None)
    first = list(stream.numbers())
    stream.set_epoch(1)
    second = list(stream.numbers())
    assert sorted(first) == sorted(second)
    assert first != second
    stream.set_epoch(0)
    assert list(stream.numbers()) == first


@pytest.mark.parametrize("window", [1, 3, 7])
def test_memory_holds_one_window_and_each_chunk_is_read_once_an_epoch(cache, window, monkeypatch):
    reads = []
    stream = open_stream(cache, target="mix", window=window)
    read = type(stream.source)._read

    def counting(source, start):
        reads.append(start)
        return read(source, start)

    monkeypatch.setattr(type(stream.source), "_read", counting)
    for _ in stream:
        assert len(stream.source._kept) <= window
    assert sorted(reads) == sorted(chunk_starts(stream))


def chunk_starts(stream):
    return [chunk.start for chunk in stream.chunks]


def test_missing_things_are_named(cache):
    with pytest.raises(IncompleteCacheError, match=r"no target 'gold'.*mix, partial, warm"):
        open_stream(cache, target="gold")
    lacking = (
        r"'partial' lacks 1 of 2 parts.*v1-0000.*build RECIPE --cache .*merge .*--name partial"
    )
    with pytest.raises(IncompleteCacheError, match=lacking):
        open_stream(cache, target="partial")
    with pytest.raises(IncompleteCacheError, match="gloss"):
        open_stream(cache, target=None, set_name="gloss")
    with pytest.raises(CkdCacheError, match=r"none\.ckd"):
        open_stream(cache / "none.ckd", target=None)


def test_a_split_without_examples_is_refused(cache, monkeypatch):
    monkeypatch.setattr("ckd_student.stream.chunks_of_split", lambda *_: [])
    with pytest.raises(StudentError, match="no example of split 'fit'"):
        open_stream(cache, target=None, split="fit")


def test_damage_is_reported_when_it_is_met(cache, tmp_path):
    copy = shutil.copytree(cache, tmp_path / "copy.ckd")
    path = copy / "text/targets/mix/v1-0000/ids/c/1/0/0"
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)
    with pytest.raises(DamagedCacheError, match=r"copy\.ckd"):
        list(open_stream(copy, target="mix"))


def batches(stream, **loader):
    collate = Collator(pad_id=0)
    dataset, sampler = StreamDataset(stream), OrderSampler(stream)
    loaded = DataLoader(dataset, batch_size=8, sampler=sampler, collate_fn=collate, **loader)
    return list(loaded)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_neither_repeat_nor_reorder(cache, workers):
    alone = batches(open_stream(cache, target="mix"))
    context = {"num_workers": workers, "multiprocessing_context": "fork"}
    together = batches(open_stream(cache, target="mix"), **context)
    assert len(alone) == len(together)
    for one, other in zip(alone, together, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert torch.equal(one[name].nan_to_num(), other[name].nan_to_num())


def test_a_stream_travels_to_another_process_without_its_chunks(cache):
    stream = open_stream(cache, target="mix")
    rows = list(stream)
    copy = pickle.loads(pickle.dumps(stream))
    assert not copy.source._kept
    assert len(list(copy)) == len(rows)


def test_batches_are_padded_and_unused_slots_have_no_label(cache, text):
    stream = open_stream(cache, target="mix")
    collate = Collator(pad_id=9)
    numbers = [1, 3, 8]
    batch = collate([stream.source.example(number) for number in numbers])
    examples = [text.examples.read(number, number + 1) for number in numbers]
    lengths = [int(example.attention_mask.sum()) for example in examples]
    slots = [int(example.slot_mask.sum()) for example in examples]
    assert batch["input_ids"].shape == (3, max(lengths))
    assert batch["labels"].shape == (3, max(slots))
    assert batch["target_ids"].shape == (3, max(slots), 6)
    assert batch["input_ids"].dtype == batch["labels"].dtype == torch.int64
    for row, example in enumerate(examples):
        ids = batch["input_ids"][row]
        assert ids[: lengths[row]].tolist() == example.input_ids[0, : lengths[row]].tolist()
        assert batch["attention_mask"][row].tolist() == [1] * lengths[row] + [0] * (
            max(lengths) - lengths[row]
        )
        gold = example.gold_ids[0, : slots[row]].tolist()
        assert batch["labels"][row].tolist() == gold + [-100] * (max(slots) - slots[row])
