"""The corpus's tokenizer: any fast tokenizer, held to what the cache needs of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import AutoConfig, AutoTokenizer

from ckd_cache.errors import CorpusError, StorageError
from ckd_cache.fingerprint import canonical_json, hash_bytes
from ckd_cache.modeling.tokenizer_files import TOKENIZER_FILES, holds_tokenizer
from ckd_cache.modeling.unreadable import first_line, is_unreadable
from ckd_cache.types import JsonObject

__all__ = ["CorpusTokenizer", "Encoded", "load_tokenizer"]

_SPECIAL = ("mask", "pad", "cls", "sep", "unk", "bos", "eos")
_PROBES = ("a", "the", "0", ".", "\u4e00")
_BATCH_CHARACTERS = 1 << 18
# Where a tokenizer was loaded from says nothing about it, and differs between machines.
_NOT_SAVED = ("_commit_hash", "_name_or_path", "is_local", "local_files_only", "name_or_path")
_CONFIG = "tokenizer_config.json"
_MODEL_CONFIG = "config.json"


@dataclass(frozen=True, slots=True)
class Encoded:
    """A document in tokens, without special tokens around it.

    Attributes:
        ids: (n,) uint32, token ids.
        word_starts: (n,) bool, whether a word of the pre-tokenizer begins here; the first does.
        char_starts: (n,) int64, first code point of each token in the document.
        char_ends: (n,) int64, code point after the last one of each token.
    """

    ids: NDArray[np.uint32]
    word_starts: NDArray[np.bool_]
    char_starts: NDArray[np.int64]
    char_ends: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of tokens, n."""
        return len(self.ids)


@dataclass(frozen=True)
class CorpusTokenizer:
    """A fast tokenizer and what is fixed about it.

    Attributes:
        name: folder or hub name, as it was asked for.
        size: number of tokens; ids are 0 … size - 1.
        special: ids of mask, pad, cls, sep, unk, bos and eos; None where there is none.
        prefix: ids that its template puts before one sequence.
        suffix: ids that its template puts after one sequence.
        has_words: whether it divides text into words before it divides words into tokens.
        behaviour: sha256 of its canonical JSON without truncation and padding.
        tokens: sha256 of the canonical JSON of its token strings by id.
        token_strings: the tokens by id.
        loaded: the tokenizer of transformers; truncation and padding are off.
    """

    name: str
    size: int
    special: dict[str, int | None]
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    has_words: bool
    behaviour: str
    tokens: str
    token_strings: tuple[str, ...]
    loaded: Any

    @property
    def n_special(self) -> int:
        """Special tokens that the template adds around one sequence."""
        return len(self.prefix) + len(self.suffix)

    @property
    def mask_id(self) -> int | None:
        """Id of the mask token; None if there is none."""
        return self.special["mask"]

    @property
    def pad_id(self) -> int | None:
        """Id of the padding token; None if there is none."""
        return self.special["pad"]

    def require_mask(self) -> int:
        """Id of the mask token.

        Raises:
            CorpusError: there is none.
        """
        if self.mask_id is None:
            message = (
                f"Tokenizer {self.name} has no mask token, expected one for masked language "
                "modelling. Use the tokenizer of a masked language model, or name its mask token "
                f"as `mask_token` in its {_CONFIG}."
            )
            raise CorpusError(message)
        return self.mask_id

    def require_words(self) -> None:
        """Check that whole words can be masked.

        Raises:
            CorpusError: the tokenizer does not divide text into words.
        """
        if not self.has_words:
            message = (
                f"Tokenizer {self.name} has no pre-tokenizer, so that it knows of no words; "
                "expected one for `whole_word: true`. Set `whole_word: false`."
            )
            raise CorpusError(message)

    def description(self) -> JsonObject:
        """Its ``tokenizer.json``, with nothing of truncation and padding."""
        return _description(self.loaded.backend_tokenizer)

    def encode_documents(self, texts: Sequence[str]) -> list[Encoded]:
        """Texts in tokens: no special tokens around them, nothing truncated.

        A special token that is written out in a text becomes that special token's id.
        """
        backend = self.loaded.backend_tokenizer
        return [
            _encoded(encoding)
            for batch in _batches(texts)
            for encoding in backend.encode_batch(batch, add_special_tokens=False)
        ]

    def save(self, folder: Path | None = None) -> dict[str, bytes]:
        """The tokenizer's files as `transformers` writes and reads them, path to bytes.

        The bytes do not depend on where it was loaded from.

        Args:
            folder: where a temporary folder may be made; default: the system's place for them.

        Raises:
            StorageError: the temporary folder cannot be written to.
        """
        with TemporaryDirectory(dir=folder) as scratch:
            try:
                self.loaded.save_pretrained(scratch)
            except Exception as error:
                # The library tokenizers raises Exception itself where the disk refuses.
                if type(error) is not Exception:
                    raise
                message = (
                    f"{scratch}: the tokenizer's files cannot be written there ({error}). Make room"
                    " for temporary files, or name another place with the environment variable"
                    " TMPDIR."
                )
                raise StorageError(message) from error
            files = {
                path.relative_to(scratch).as_posix(): path.read_bytes()
                for path in sorted(Path(scratch).rglob("*"))
                if path.is_file()
            }
        files[_CONFIG] = _without_origin(files[_CONFIG])
        return files


def load_tokenizer(
    name_or_path: str, root: Path, *, revision: str | None = None
) -> CorpusTokenizer:
    """Load a fast tokenizer.

    Args:
        name_or_path: a folder, relative to ``root``, or else a name on the hub.
        root: the recipe's folder.
        revision: of a name on the hub.

    Raises:
        CorpusError: there is no such tokenizer, it is not a fast one, its ids have holes, or its
            template cannot be told apart from the text.
    """
    loaded = _load(name_or_path, root, revision)
    backend = getattr(loaded, "backend_tokenizer", None)
    if backend is None or not loaded.is_fast:
        message = (
            f"Tokenizer {name_or_path} is a {type(loaded).__name__}, which runs in Python and "
            "gives no character offsets; expected a fast tokenizer (one with a tokenizer.json). "
            "Use a model that has one."
        )
        raise CorpusError(message)
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = False
    tokens = _token_strings(name_or_path, backend)
    special = {kind: getattr(loaded, f"{kind}_token_id") for kind in _SPECIAL}
    prefix, suffix = _template(name_or_path, backend)
    _check_template(name_or_path, special, (*prefix, *suffix), tokens)
    return CorpusTokenizer(
        name=name_or_path,
        size=len(tokens),
        special=special,
        prefix=prefix,
        suffix=suffix,
        has_words=backend.pre_tokenizer is not None,
        behaviour=_behaviour(backend),
        tokens=hash_bytes(canonical_json(tokens)),
        token_strings=tuple(tokens),
        loaded=loaded,
    )


def _load(name: str, root: Path, revision: str | None) -> Any:
    folder = root / name
    is_folder = folder.is_dir()
    if not is_folder and (_looks_like_path(name) or Path(name).exists()):
        message = (
            f"Tokenizer {name}: there is no folder {folder}. Paths are relative to the recipe's "
            "folder; correct `tokenizer` (or the first teacher's `model`)."
        )
        raise CorpusError(message)
    if is_folder and not holds_tokenizer(folder):
        message = (
            f"Tokenizer {name}: there is no tokenizer in {folder}, expected one of "
            f"{', '.join(TOKENIZER_FILES)}. Name a folder that has one, or save one there with "
            "`AutoTokenizer.from_pretrained(…).save_pretrained(…)`."
        )
        raise CorpusError(message)
    where = str(folder) if is_folder else name
    try:
        return AutoTokenizer.from_pretrained(
            where, revision=revision, local_files_only=True if is_folder else None
        )
    except Exception as error:
        if not is_unreadable(error):
            raise
        message = _not_loaded(name, folder, is_folder, error)
        raise CorpusError(message) from error


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.count("/") > 1


def _not_loaded(name: str, folder: Path, is_folder: bool, error: Exception) -> str:
    reason = first_line(error)
    config_fault = _config_fault(folder) if is_folder else None
    if config_fault is not None:
        return (
            f"Tokenizer {name}: {folder / _MODEL_CONFIG} is no configuration of a model that "
            f"transformers knows ({config_fault}); transformers reads it before the tokenizer. "
            "Correct it, or copy or download the folder again, whole."
        )
    if is_folder:
        return (
            f"Tokenizer {name}: no fast tokenizer can be loaded from {folder} ({reason}). "
            "Expected its tokenizer.json and tokenizer_config.json there; save them with "
            "`AutoTokenizer.from_pretrained(…).save_pretrained(…)`."
        )
    return (
        f"Tokenizer {name}: there is no folder {folder}, and the hub gave none of this name "
        f"({reason}). Correct `tokenizer` (or the first teacher's `model`), or download it first "
        "if this machine is offline."
    )


def _config_fault(folder: Path) -> str | None:
    """What is wrong with a folder's config.json, which transformers reads for tokenizers too."""
    if not (folder / _MODEL_CONFIG).is_file():
        return None
    try:
        AutoConfig.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:
        if not is_unreadable(error):
            raise
        return first_line(error)
    return None


def _token_strings(name: str, backend: Any) -> list[str]:
    vocabulary: dict[str, int] = backend.get_vocab(with_added_tokens=True)
    by_id = {number: token for token, number in vocabulary.items()}
    missing = next((number for number in range(len(by_id)) if number not in by_id), None)
    if missing is not None or not by_id or len(by_id) != len(vocabulary):
        shown = "two tokens share an id" if missing is None else f"no token has id {missing}"
        message = (
            f"Tokenizer {name} has {len(vocabulary)} tokens with ids up to {max(by_id, default=0)}"
            f", and {shown}; expected the ids 0, 1, 2, … without holes. Use another tokenizer, or "
            "fill the holes with unused added tokens."
        )
        raise CorpusError(message)
    return [by_id[number] for number in range(len(by_id))]


def _template(name: str, backend: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids that the template puts before and after one sequence."""
    for probe in _PROBES:
        plain = backend.encode(probe, add_special_tokens=False).ids
        if plain:
            full = backend.encode(probe, add_special_tokens=True)
            before = next((at for at, added in enumerate(full.special_tokens_mask) if not added), 0)
            after = before + len(plain)
            if full.ids[before:after] == plain:
                return tuple(full.ids[:before]), tuple(full.ids[after:])
    message = (
        f"Tokenizer {name}: encoding {', '.join(map(repr, _PROBES))} with and without special "
        "tokens differs by more than tokens before and after. Use a tokenizer whose template only "
        "puts special tokens around a sequence."
    )
    raise CorpusError(message)


def _check_template(
    name: str, special: dict[str, int | None], template: tuple[int, ...], tokens: list[str]
) -> None:
    unnamed = [tokens[number] for number in template if number not in special.values()]
    if unnamed:
        message = (
            f"Tokenizer {name} puts {', '.join(unnamed)} around a sequence, but none of its "
            f"{', '.join(f'{kind}_token' for kind in _SPECIAL)} is that. Name it in the "
            f"tokenizer's {_CONFIG}, so that it is never masked."
        )
        raise CorpusError(message)


def _behaviour(backend: Any) -> str:
    return hash_bytes(canonical_json(_description(backend)))


def _description(backend: Any) -> JsonObject:
    description: JsonObject = json.loads(backend.to_str())
    for setting in ("truncation", "padding"):
        description.pop(setting, None)
    return description


def _without_origin(config: bytes) -> bytes:
    settings = json.loads(config)
    for name in _NOT_SAVED:
        settings.pop(name, None)
    text = json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False)
    return f"{text}\n".encode()


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """Texts in pieces of bounded size: an encoding takes far more memory than its text."""
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _encoded(encoding: Any) -> Encoded:
    ids = np.array(encoding.ids, dtype=np.uint32)
    count = len(ids)
    word_ids = (-1 if word is None else word for word in encoding.word_ids)
    words = np.fromiter(word_ids, dtype=np.int64, count=count)
    starts = np.ones(count, dtype=np.bool_)
    starts[1:] = words[1:] != words[:-1]
    flat = chain.from_iterable(encoding.offsets)
    offsets = np.fromiter(flat, dtype=np.int64, count=2 * count)
    return Encoded(ids, starts, offsets[0::2].copy(), offsets[1::2].copy())
