from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, EsmTokenizer, PreTrainedTokenizerFast

from ckd_cache.corpus.tokenizer import load_tokenizer
from ckd_cache.errors import CorpusError, StorageError
from ckd_cache.fingerprint import canonical_json, hash_bytes

FAMILIES = ("bert", "roberta", "albert", "deberta", "modernbert")
TEXTS = [
    "The quick brown fox; unaffable café in Zürich, 日本語 and \U0001f600 emoji.",
    "",
    "  spaces \n and\ttabs  ",
    "again",
]


@pytest.mark.parametrize("family", FAMILIES)
def test_agrees_with_transformers(family, tokenizer_root):
    tokenizer = load_tokenizer(family, tokenizer_root)
    plain = AutoTokenizer.from_pretrained(tokenizer_root / family)
    for text, encoded in zip(TEXTS, tokenizer.encode_documents(TEXTS), strict=True):
        expected = plain(text, add_special_tokens=False)["input_ids"]
        assert encoded.ids.tolist() == expected
        around = plain(text)["input_ids"]
        assert [*tokenizer.prefix, *expected, *tokenizer.suffix] == around
    assert tokenizer.size == len(plain)
    assert tokenizer.special["mask"] == plain.mask_token_id == tokenizer.require_mask()
    assert tokenizer.pad_id == plain.pad_token_id
    assert tokenizer.n_special == 2


@pytest.mark.parametrize("family", FAMILIES)
def test_offsets_count_code_points_and_cover_the_words(family, tokenizer_root):
    tokenizer = load_tokenizer(family, tokenizer_root)
    text = TEXTS[0]
    (encoded,) = tokenizer.encode_documents([text])
    assert encoded.word_starts[0]
    assert encoded.char_ends.max() == len(text)
    assert (encoded.char_starts <= encoded.char_ends).all()
    begins = [*np.flatnonzero(encoded.word_starts).tolist(), len(encoded)]
    words = [
        text[encoded.char_starts[a:b].min() : encoded.char_ends[a:b].max()].strip()
        for a, b in pairwise(begins)
    ]
    assert "unaffable" in words
    assert words[:2] == ["The", "quick"]
    assert "\U0001f600" in words


def test_special_tokens_in_text_become_their_ids(bert):
    (encoded,) = bert.encode_documents(["the [MASK] dog"])
    assert bert.mask_id in encoded.ids.tolist()
    at = encoded.ids.tolist().index(bert.mask_id)
    assert encoded.word_starts[at]
    assert encoded.word_starts[at + 1]


def test_nothing_is_truncated_whatever_the_file_says(tokenizer_root, tmp_path):
    folder = tmp_path / "short"
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_root / "modernbert")
    tokenizer.backend_tokenizer.enable_truncation(8)
    tokenizer.backend_tokenizer.enable_padding()
    tokenizer.save_pretrained(folder)
    assert json.loads((folder / "tokenizer.json").read_text())["truncation"]
    short = load_tokenizer("short", tmp_path)
    whole = load_tokenizer("modernbert", tokenizer_root)
    text = "the quick brown fox " * 2000
    assert len(short.encode_documents([text, "a"])[0]) == len(whole.encode_documents([text])[0])
    assert short.behaviour == whole.behaviour
    assert short.n_special == 2


def test_batches_give_what_single_texts_give(bert):
    texts = [f"fox {number} " * 4000 for number in range(40)] + ["again"] * 100
    together = bert.encode_documents(texts)
    assert len(together) == len(texts)
    for text, encoded in list(zip(texts, together, strict=True))[::13]:
        assert encoded.ids.tolist() == bert.encode_documents([text])[0].ids.tolist()


def test_fingerprint_of_tokens_is_that_of_the_documented_list(bert):
    strings = [bert.loaded.convert_ids_to_tokens(number) for number in range(bert.size)]
    assert bert.tokens == hash_bytes(canonical_json(strings))


def test_behaviour_changes_with_the_normaliser_but_not_with_the_folder(tokenizer_root, tmp_path):
    source = tokenizer_root / "modernbert"
    for name in ("same", "other"):
        AutoTokenizer.from_pretrained(source).save_pretrained(tmp_path / name)
    file = tmp_path / "other" / "tokenizer.json"
    settings = json.loads(file.read_text())
    settings["normalizer"] = {"type": "Lowercase"}
    file.write_text(json.dumps(settings))
    original = load_tokenizer("modernbert", tokenizer_root)
    assert load_tokenizer("same", tmp_path).behaviour == original.behaviour
    other = load_tokenizer("other", tmp_path)
    assert other.behaviour != original.behaviour
    assert other.tokens == original.tokens


SAVE = """
import hashlib, sys
from pathlib import Path
from ckd_cache.corpus.tokenizer import load_tokenizer
files = load_tokenizer(sys.argv[1], Path(sys.argv[2])).save()
sys.stdout.write(repr({name: hashlib.sha256(data).hexdigest() for name, data in files.items()}))
"""


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_files_load_again(family, tokenizer_root, tmp_path):
    tokenizer = load_tokenizer(family, tokenizer_root)
    files = tokenizer.save()
    write(tmp_path / "copy", files)
    assert not [name for name, data in files.items() if str(tokenizer_root).encode() in data]
    assert not {"is_local", "local_files_only"} & set(json.loads(files["tokenizer_config.json"]))
    again = load_tokenizer("copy", tmp_path)
    assert again.save() == files
    for name in ("behaviour", "tokens", "special", "prefix", "suffix", "size", "has_words"):
        assert getattr(again, name) == getattr(tokenizer, name)


def test_saved_files_are_the_same_bytes_in_another_process(bert, tmp_path):
    files = bert.save(tmp_path)
    write(tmp_path / "copy", files)
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", SAVE, "copy", str(tmp_path)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout == repr({name: hash_bytes(data) for name, data in files.items()})


def write(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def test_no_template_and_no_mask(tokenizer_root):
    bare = load_tokenizer("bare", tokenizer_root)
    assert (bare.prefix, bare.suffix, bare.mask_id, bare.pad_id) == ((), (), None, None)
    with pytest.raises(CorpusError, match=r"Tokenizer bare has no mask token"):
        bare.require_mask()


def _save(folder: Path, tokenizer: Tokenizer, **special: str) -> None:
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)


def test_template_tokens_must_be_named(tokenizer_root, tmp_path):
    backend = AutoTokenizer.from_pretrained(tokenizer_root / "modernbert").backend_tokenizer
    _save(tmp_path / "unnamed", backend, mask_token="[MASK]", pad_token="[PAD]")
    with pytest.raises(CorpusError, match=r"puts \[CLS\], \[SEP\] around a sequence"):
        load_tokenizer("unnamed", tmp_path)


def test_holes_in_the_ids_are_refused(tmp_path):
    backend = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "b": 3}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    _save(tmp_path / "holes", backend, unk_token="[UNK]")
    with pytest.raises(CorpusError, match="no token has id 2"):
        load_tokenizer("holes", tmp_path)


def test_words_need_a_pre_tokenizer(tmp_path):
    backend = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    _save(tmp_path / "wordless", backend, unk_token="[UNK]")
    with pytest.raises(CorpusError, match="whole_word: false"):
        load_tokenizer("wordless", tmp_path).require_words()


def test_slow_tokenizers_are_refused_by_name(tmp_path):
    vocabulary = tmp_path / "vocabulary"
    vocabulary.write_text("<cls>\n<pad>\n<eos>\n<unk>\n<mask>\nA\nL\n")
    EsmTokenizer(str(vocabulary)).save_pretrained(tmp_path / "esm")
    with pytest.raises(CorpusError, match=r"Tokenizer esm is a EsmTokenizer"):
        load_tokenizer("esm", tmp_path)


@pytest.mark.parametrize("name", ["./gone", "models/a/b", "no-such-org/no-such-model"])
def test_missing_tokenizers(name, tmp_path):
    with pytest.raises(CorpusError, match="there is no folder") as found:
        load_tokenizer(name, tmp_path)
    assert str(tmp_path) in str(found.value)


def test_a_folder_of_the_working_directory_is_not_taken(tokenizer_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tokenizer_root)
    with pytest.raises(CorpusError, match="relative to the recipe's folder"):
        load_tokenizer("bert", tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"model": 3}'])
def test_folders_without_a_usable_tokenizer(content, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "tokenizer.json").write_text(content)
    with pytest.raises(CorpusError, match="Tokenizer broken: no fast tokenizer"):
        load_tokenizer("broken", tmp_path)


@pytest.mark.parametrize("config", [None, '{"model_type": "bert"}'])
def test_no_tokenizer_is_made_up_for_a_folder_without_one(config, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    if config:
        (folder / "config.json").write_text(config)
        assert len(AutoTokenizer.from_pretrained(folder)) == 5, "what transformers makes up"
    with pytest.raises(
        CorpusError, match=r"there is no tokenizer in .*tokenizer\.json, vocab\.txt"
    ):
        load_tokenizer("model", tmp_path)


def test_faults_that_are_no_files_fault_come_through(tokenizer_root, monkeypatch):
    def fails(*_, **__):
        raise AttributeError

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", fails)
    with pytest.raises(AttributeError):
        load_tokenizer("bert", tokenizer_root)


def test_a_disk_that_refuses_the_tokenizers_files_is_said(bert, tmp_path, monkeypatch):
    """The library raises Exception itself there; a limit on file sizes stands for a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, before[1]))
    try:
        with pytest.raises(StorageError, match=r"cannot be written there .*TMPDIR"):
            bert.save(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
