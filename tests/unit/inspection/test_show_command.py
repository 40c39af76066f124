"""``ckd-cache show``: the text with its masks, and what is predicted there."""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import ckd_cache
from ckd_cache.cli.main import cli
from ckd_cache.inspection.text import view_example


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli, ["show", *arguments])


def three_slots(tiny: Any) -> int:
    """An example that has all three fates."""
    counts = [len(one) for one in tiny.parts["v0-0000"].slots.positions]
    return counts.index(3)


def words_of(tiny: Any) -> list[str]:
    """Texts of ids, from the tokenizer in the cache."""
    (path,) = tiny.path.glob("supports/*/tokenizer.json")
    vocabulary = json.loads(path.read_text())["model"]["vocab"]
    return sorted(vocabulary, key=vocabulary.__getitem__)


def test_the_view_is_what_was_written(tiny: Any) -> None:
    number = three_slots(tiny)
    part = tiny.parts["v0-0000"]
    words = words_of(tiny)
    view = view_example(tiny.path, "text", number, "gold", 2)
    assert (view.set, view.example, view.part) == ("text", number, "v0-0000")
    assert view.split == ["train", "fit", "test"][tiny.segments.splits[number]]
    assert [slot.fate for slot in view.slots] == ["masked", "random", "kept"]
    assert [slot.gold for slot in view.slots] == [words[i] for i in part.slots.gold[number]]
    assert [slot.seen for slot in view.slots] == [words[i] for i in part.slots.inputs[number]]
    assert [slot.position for slot in view.slots] == part.slots.positions[number].tolist()
    document = view.documents[0]
    assert (document.id, document.source, document.genre) == (
        f"doc-{number // 3}",
        "books",
        "fiction",
    )


def test_the_text_is_that_of_the_segment_before_masking(tiny: Any) -> None:
    from tokenizers import Tokenizer

    (path,) = tiny.path.glob("supports/*/tokenizer.json")
    tokenizer = Tokenizer.from_file(str(path))
    for number in range(7):
        view = view_example(tiny.path, "text", number, None, 1)
        expected = tokenizer.decode(tiny.segments.input_ids[number].tolist())
        assert "".join(piece.text for piece in view.pieces).strip() == expected


def test_predictions_are_those_of_the_arrays(tiny: Any) -> None:
    number = three_slots(tiny) + 7
    cache = ckd_cache.open(tiny.path)
    teacher = cache.teachers["b"].read(number, number + 1)
    target = cache.targets["gold"].read(number, number + 1)
    view = view_example(tiny.path, "text", number, "gold", 3)
    for slot in view.slots:
        at = (0, slot.slot)
        shown = slot.teachers[1]
        assert shown.name == "b"
        assert [token.id for token in shown.top] == teacher.ids[at][:3].tolist()
        np.testing.assert_allclose(
            [token.probability for token in shown.top], np.exp(teacher.logprobs[at][:3]), rtol=1e-6
        )
        assert shown.gold_rank == teacher.gold_rank[at]
        assert shown.gold_probability == pytest.approx(math.exp(teacher.gold_logprob[at]))
        assert shown.tail == pytest.approx(math.exp(teacher.tail[at][0]))
        assert shown.weight == target.weights[at][1]
        assert slot.target is not None
        assert slot.target.tail == pytest.approx(math.exp(target.tail[at]))
        assert slot.target.uncertain == target.uncertain[at]
        kept = target.ids[at].tolist()
        gold_rank = kept.index(slot.gold_id) if slot.gold_id in kept else None
        assert slot.target.gold_rank == gold_rank


def test_masks_are_marked_by_what_happened_to_them(tiny: Any) -> None:
    number = three_slots(tiny)
    text = run(str(tiny.path), "--example", str(number)).stdout
    masked, random, kept = view_example(tiny.path, "text", number, None, 1).slots
    marked = text.split("\n\n")[1]
    assert f"[0:{masked.gold}]".replace("##", "") in marked.replace("##", "")
    assert f"[1:{random.gold}→{random.seen}]".replace("##", "") in marked.replace("##", "")
    assert f"[2:={kept.gold}]".replace("##", "") in marked.replace("##", "")


def test_every_slot_lists_teachers_weights_and_target(tiny: Any) -> None:
    number = three_slots(tiny)
    text = run(str(tiny.path), "--example", str(number), "--target", "other").stdout
    view = view_example(tiny.path, "text", number, "other", 5)
    for slot in view.slots:
        block = text.split(f"Slot {slot.slot}, ")[1].split("Slot ")[0]
        assert f"gold {slot.gold}, {slot.fate}" in block
        for one in slot.teachers:
            row = next(line for line in block.splitlines() if line.startswith(f"  {one.name} "))
            assert row.split()[1] == f"{one.weight:.3f}"
            assert f"{one.top[0].token} {one.top[0].probability:.3f}" in block
        assert "= other" in block


def test_slots_and_top_limit_what_is_listed(tiny: Any) -> None:
    number = three_slots(tiny)
    done = run(str(tiny.path), "--example", str(number), "--slots", "1", "--top", "1")
    assert "Slot 0," in done.stdout
    assert "Slot 1," not in done.stdout
    assert "2 more slots; --slots 3 lists all." in done.stdout
    view = view_example(tiny.path, "text", number, None, 1)
    assert all(len(one.top) == 1 for slot in view.slots for one in slot.teachers)


def test_piped_text_is_plain_narrow_and_stable(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = run(str(tiny.path), "--example", str(three_slots(tiny))).stdout
    monkeypatch.setenv("COLUMNS", "200")
    assert run(str(tiny.path), "--example", str(three_slots(tiny))).stdout == text
    assert "\x1b" not in text
    for line in text.splitlines():
        assert len(line) <= 80
        assert line == line.rstrip()


def test_a_terminal_gets_colours(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[" in run(str(tiny.path)).stdout


def test_the_default_is_the_first_example_with_slots(tiny: Any) -> None:
    counts = [len(one) for one in tiny.parts["v0-0000"].slots.positions]
    first = next(number for number, count in enumerate(counts) if count)
    assert first > 0
    assert run(str(tiny.path)).stdout.startswith(f"Example {first} of set text")


def test_an_example_without_slots_shows_its_text(tiny: Any) -> None:
    done = run(str(tiny.path), "--example", "0")
    assert done.exit_code == 0
    assert "0 slots" in done.stdout


def test_an_example_out_of_range_names_the_range(tiny: Any) -> None:
    done = run(str(tiny.path), "--example", "14")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "No example 14 in set 'text'" in done.stderr
    assert "its examples are 0 to 13. Try --example 13." in done.stderr


@pytest.mark.parametrize("arguments", [["--example", "-1"], ["--top", "0"], ["--slots", "x"]])
def test_bad_options_are_usage_errors(tiny: Any, arguments: list[str]) -> None:
    assert run(str(tiny.path), *arguments).exit_code == 2


def test_an_unknown_target_or_set_lists_the_known_ones(tiny: Any) -> None:
    assert "there is 'gold', 'other'" in run(str(tiny.path), "--target", "x").stderr
    assert "it has text" in run(str(tiny.path), "--set-name", "x").stderr


def test_json_has_all_slots(tiny: Any) -> None:
    number = three_slots(tiny)
    done = run(str(tiny.path), "--example", str(number), "--json", "--slots", "0")
    record = json.loads(done.stdout)
    assert record["example"] == number
    assert len(record["slots"]) == 3
    assert record["slots"][0]["teachers"][0]["top"][0]["probability"] > 0


def test_an_unfinished_cache_shows_the_teachers_that_are_there(unfinished: Any) -> None:
    first = view_example(unfinished.path, "text", 1, None, 1)
    second = view_example(unfinished.path, "text", 8, None, 1)
    assert [one.name for one in first.slots[0].teachers] == ["a", "b"]
    assert [one.name for one in second.slots[0].teachers] == ["a"]
    assert second.target is None
    assert second.slots[0].teachers[0].weight is None
    assert run(str(unfinished.path), "--example", "8").exit_code == 0


def test_an_altered_tokenizer_is_damage(tiny: Any, tmp_path: Path) -> None:
    copy = tmp_path / "copy.ckd"
    shutil.copytree(tiny.path, copy)
    (path,) = copy.glob("supports/*/tokenizer.json")
    path.write_bytes(path.read_bytes().replace(b"fox", b"fax"))
    done = run(str(copy))
    assert done.exit_code == 3
    assert "tokenizer.json" in done.stderr


def test_transformers_and_torch_are_not_needed(tiny: Any) -> None:
    import subprocess

    code = (
        "import sys\n"
        "from ckd_cache.inspection.text import view_example\n"
        f"view_example({str(tiny.path)!r}, 'text', None, None, 3)\n"
        "assert not {'torch', 'transformers', 'dask'} & set(sys.modules)\n"
    )
    sources = str(Path(ckd_cache.__file__).parents[1])
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": sources})
