"""Builds that come to nothing, and the exit codes of what is refused."""

from __future__ import annotations

import shutil

import pytest
from click.testing import CliRunner
from tests.integration import builds
from tests.integration.builds import rebuild

from ckd_cache.cli.main import cli
from ckd_cache.errors import CorpusError, MismatchError
from ckd_cache.format.reader import open_cache


@pytest.fixture
def small(tmp_path, tiny_teacher_folder):
    """A workshop with one tiny document and one teacher."""
    (tmp_path / "corpus.txt").write_text("one two three")
    builds.recipe(tmp_path, {"a": tiny_teacher_folder(1)})
    return tmp_path


@pytest.mark.parametrize(
    ("override", "advice"),
    [
        ("objective.mask_fraction=0.001", "Raise `objective.mask_fraction`, or give"),
        ("objective.whole_word=true", "set `objective.whole_word: false`"),
    ],
)
def test_a_build_without_slots_is_never_complete(small, override, advice):
    # Whole words of several pieces each, longer than what may be masked.
    (small / "corpus.txt").write_text("zqxjkv")
    cache = small / "none.ckd"
    for _ in range(2):
        with pytest.raises(CorpusError) as caught:
            rebuild(small, cache, override)
        message = str(caught.value)
        assert message.startswith("set text has no slots: its 1 document gave 1 segment with ")
        assert advice in message
        assert f"delete {cache} or build into another folder with --cache" in message
        assert not open_cache(cache).manifest.complete
    shutil.rmtree(cache)
    assert rebuild(small, cache, "objective.mask_fraction=0.9").slots > 0


def test_a_view_without_slots_is_no_error_if_another_has_some(small):
    outcome = rebuild(
        small, small / "some.ckd", "objective.mask_fraction=[0.0, 0.3]", "objective.views=12"
    )
    record = open_cache(small / "some.ckd").manifest.sets["text"]
    assert outcome.complete
    assert min(part.slots for part in record.parts) == 0 < outcome.slots


@pytest.mark.parametrize("text", ["", " \n\n \n"])
def test_a_build_without_documents_is_refused(small, text):
    (small / "corpus.txt").write_text(text)
    with pytest.raises(CorpusError, match="The corpus is empty: the source docs gave no text"):
        rebuild(small, small / "none.ckd")
    # Nothing that was begun refuses the corrected corpus.
    assert list((small / "none.ckd").iterdir()) == []
    (small / "corpus.txt").write_text("one two three four five six seven eight nine ten")
    assert rebuild(small, small / "none.ckd").complete


def test_only_what_has_a_name_may_join_under_another(workshop, built):
    with pytest.raises(MismatchError) as caught:
        rebuild(workshop, built, "capture.top_k=9")
    assert "under another name" in str(caught.value)
    for override in ("corpus.segment_tokens=48", "shards.slots=100", "objective.seed=4"):
        with pytest.raises(MismatchError) as caught:
            rebuild(workshop, built, override)
        assert str(caught.value).endswith("or build into another folder with --cache.")


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (0, ["inspect", "CACHE"]),
        (0, ["show", "CACHE"]),
        (0, ["build", "RECIPE", "--cache", "CACHE"]),
        (2, ["inspect"]),
        (2, ["inspect", "CACHE", "--verbose"]),
        (2, ["show", "CACHE", "--example", "-1"]),
        (2, ["merge", "CACHE", "--name", "a b"]),
        (2, ["merge", "CACHE", "--name", "x", "--teacher", ""]),
        (2, ["build", "RECIPE"]),
        (2, ["build", "gone.yaml", "--cache", "CACHE"]),
        (2, ["build", "RECIPE", "--cache", "CACHE", "--set", "captur.top_k=3"]),
        (2, ["build", "RECIPE", "--cache", "CACHE", "--set", "runtime.device=gpu"]),
        (1, ["inspect", "gone.ckd"]),
        (1, ["show", "CACHE", "--example", "99999"]),
        (1, ["show", "CACHE", "--target", "zebra"]),
        (1, ["show", "CACHE", "--set-name", "zebra"]),
        (1, ["merge", "CACHE", "--name", "x", "--teacher", "zebra"]),
        (1, ["merge", "CACHE", "--name", "x", "--set-name", "zebra"]),
        (1, ["merge", "CACHE", "--name", "x", "--temperature", "3"]),
        (1, ["merge", "CACHE", "--name", "gold", "--tau", "9"]),
        (1, ["build", "RECIPE", "--cache", "CACHE", "--set", "capture.top_k=3"]),
        (1, ["build", "RECIPE", "--cache", "CACHE", "--set", "teachers.0.model=gone/no/where"]),
    ],
)
def test_exit_codes(workshop, built, code, arguments):
    places = {"CACHE": str(built), "RECIPE": str(workshop / "recipe.yaml")}
    done = CliRunner().invoke(cli, [places.get(each, each) for each in arguments])
    assert done.exit_code == code, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert ("Error: " in done.stderr) == (code != 0)


def test_damage_has_a_code_of_its_own(built, tmp_path):
    cache = tmp_path / "damaged.ckd"
    shutil.copytree(built, cache)
    manifest = cache / "ckd.json"
    manifest.write_bytes(manifest.read_bytes()[:-9])
    for arguments in (["inspect", cache], ["show", cache], ["merge", cache, "--name", "x"]):
        done = CliRunner().invoke(cli, [str(each) for each in arguments])
        assert done.exit_code == 3, done.output
