"""Which errors of transformers say that the files of a model or tokenizer are no good."""

from __future__ import annotations

__all__ = ["first_line", "is_unreadable"]

_LISTED = (OSError, ValueError, KeyError, TypeError, ImportError, RecursionError)


def is_unreadable(error: Exception) -> bool:
    """Whether an error of loading is the fault of the files that were loaded.

    The library tokenizers raises Exception itself for a file that it cannot parse, and a field of
    config.json of another type is an error of huggingface_hub. Any other type that is not listed
    here is a fault of the program.
    """
    from huggingface_hub.errors import StrictDataclassError

    return isinstance(error, (*_LISTED, StrictDataclassError)) or type(error) is Exception


def first_line(error: Exception) -> str:
    """The first line of an error's text, and the next if that one only opens it; else its type."""
    lines = [line.strip() for line in str(error).strip().splitlines()]
    if not lines:
        return type(error).__name__
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
