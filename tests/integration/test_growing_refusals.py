"""What may not become of the corpus of a cache, and what may stand beside it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration import builds
from tests.integration.builds import rebuild

from ckd_cache.errors import CorpusError, MismatchError
from ckd_cache.format.reader import open_cache

ONE, TWO, THREE = (
    {"name": name, "kind": "text", "paths": [f"{name}.txt"]} for name in ("one", "two", "three")
)


@pytest.fixture(scope="module")
def field(tmp_path_factory, tiny_texts, tiny_teacher_folder):
    """A folder with three sources, and a cache that holds two of them in two increments."""
    folder = tmp_path_factory.mktemp("field")
    for at, name in enumerate(("one", "two", "three")):
        builds.write_corpus(folder / f"{name}.txt", tiny_texts[20 * at : 20 * at + 20])
    for sources in ([ONE], [ONE, TWO]):
        corpus = {"sources": sources, "segment_tokens": 32}
        builds.recipe(folder, {"a": tiny_teacher_folder(1)}, corpus=corpus)
        rebuild(folder, folder / "two.ckd")
    return folder


@pytest.fixture
def changed(field, tmp_path) -> Callable[..., Path]:
    """Makes a copy of the field whose recipe has other sources, or other changes."""

    def make(*sources: dict[str, Any], **changes: Any) -> Path:
        shutil.copytree(field, tmp_path / "copy")
        path = tmp_path / "copy" / "recipe.yaml"
        content = yaml.safe_load(path.read_text())
        content["corpus"]["sources"] = list(sources) or [ONE, TWO]
        content["corpus"].update(changes)
        path.write_text(yaml.safe_dump(content))
        return path.parent

    return make


def refusal(folder: Path, error: type[Exception] = MismatchError) -> str:
    before = builds.stored_bytes(folder / "two.ckd")
    with pytest.raises(error) as caught:
        rebuild(folder, folder / "two.ckd")
    assert builds.stored_bytes(folder / "two.ckd") == before
    return str(caught.value)


@pytest.mark.parametrize(
    ("sources", "missing"), [((ONE,), "two"), ((TWO,), "one"), ((ONE, THREE), "two")]
)
def test_sources_that_are_left_out_are_named(changed, sources, missing):
    message = refusal(changed(*sources))
    assert "the corpus of set text: the cache holds 2 sources, one, two" in message
    assert f"the recipe does not name {missing}. Documents cannot be taken out" in message
    assert message.endswith("build into another folder with --cache.")


@pytest.mark.parametrize("sources", [(TWO, ONE), (ONE, THREE, TWO), (THREE, ONE, TWO)])
def test_another_order_is_refused(changed, sources):
    message = refusal(changed(*sources))
    assert "holds the sources one, two in this order, the recipe names" in message
    assert "new ones after them" in message


@pytest.mark.parametrize("name", ["one", "two"])
def test_changed_contents_of_any_increment_are_refused_by_source(changed, name):
    folder = changed(ONE, TWO, THREE)
    with (folder / f"{name}.txt").open("a") as file:
        file.write("\n\nOne more document.")
    assert f"sources.{name}.contents: in the cache" in refusal(folder)


def test_a_source_that_is_gone_is_refused_though_it_need_not_be_read_again(changed):
    folder = changed(ONE, TWO, THREE)
    (folder / "one.txt").unlink()
    message = refusal(folder, CorpusError)
    assert "Source one: 'one.txt' matches no file" in message


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"segment_tokens": 24}, "segment_tokens: in the cache 32, now 24"),
        ({"pack": False}, "pack: in the cache True, now False"),
        ({"deduplicate": False}, "deduplicate: in the cache True, now False"),
    ],
)
def test_an_increment_is_cut_like_those_before_it(changed, change, named):
    assert named in refusal(changed(ONE, TWO, THREE, **change))


def test_a_genre_is_fixed_for_what_is_there(changed):
    message = refusal(changed({**ONE, "genre": "other"}, TWO))
    assert "sources.one.genre: in the cache 'one', now 'other'" in message


def test_other_token_strings_are_refused_also_where_they_act_alike(changed, tmp_path):
    folder = changed(ONE, TWO, THREE)
    content = yaml.safe_load((folder / "recipe.yaml").read_text())
    shutil.copytree(content["teachers"][0]["model"], folder / "teacher")
    content["teachers"][0]["model"] = "teacher"
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content))
    config = folder / "teacher" / "tokenizer_config.json"
    config.write_text(config.read_text().replace('"[UNK]"', '"[SEP]"'))
    assert "support: in the cache" in refusal(folder)


def test_a_set_joins_a_cache_and_leaves_the_others_alone(field, tmp_path):
    folder = tmp_path / "field"
    shutil.copytree(field, folder)
    cache = folder / "two.ckd"
    before = builds.stored_bytes(cache)
    content = yaml.safe_load((folder / "recipe.yaml").read_text())
    text = {"corpus": content.pop("corpus"), "objective": content.pop("objective")}
    short = {"corpus": {"sources": [THREE], "segment_tokens": 16}, "objective": {"views": 2}}
    content["sets"] = {"text": text, "short": short}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content))
    record = open_cache(cache).manifest.sets["text"]
    assert rebuild(folder, cache).shards > 0
    after = builds.stored_bytes(cache)
    kept = {path for path in before if path.startswith(("text/", "supports/"))}
    assert all(after[path] == before[path] for path in kept)
    assert {path for path in after if path.startswith(("text/", "supports/"))} == kept
    manifest = open_cache(cache).manifest
    assert manifest.sets["text"] == record
    assert (manifest.complete, len(manifest.supports)) == (True, 1)
    reader = open_cache(cache).set("short")
    assert len(reader.targets["gold"].read(0, reader.n_examples)) == reader.n_examples > 0
    # Each set grows by itself.
    content["sets"]["short"]["corpus"]["sources"] = [THREE, ONE]
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content))
    rebuild(folder, cache)
    sets = open_cache(cache).manifest.sets
    assert (len(sets["short"].increments), sets["text"]) == (2, record)
