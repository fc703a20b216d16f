"""Storable text: replace characters in text from outside (replies of language models, other tools'
files, forms) that cannot be stored.

A Python string can hold half of a UTF-16 surrogate pair, for example after parsing the JSON escape
``"\\ud83d"``. UTF-8, DuckDB, JSON files and tokenizers refuse it. NUL characters pass some of these
and end a text early in others. Both are replaced by U+FFFD, the replacement character, when text
enters, so that everything that was read can be written.
"""

from collections.abc import Callable
from typing import Any

REPLACEMENT = "\ufffd"


def replace_lone_surrogates(text: str) -> str:
    """Return `text` with U+FFFD for each lone surrogate; two surrogates that form a pair become one
    character.

    All other characters are kept, including NUL and control characters.
    """
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def make_storable(text: str) -> str:
    """Return `text` with U+FFFD for lone surrogates and NULs, so that UTF-8, DuckDB and JSON can
    store it."""
    return replace_lone_surrogates(text).replace("\0", REPLACEMENT)


def make_storable_value(value: Any, fix: Callable[[str], str] = make_storable) -> Any:
    """Return a copy of a parsed JSON value with `fix` applied to every text, keys included, to make
    it storable.

    Tuples become lists, as in JSON. Values of other types are returned unchanged. If two keys
    become equal, U+FFFD is appended to one, so that no entry is lost.
    """
    if isinstance(value, str):
        return fix(value)
    if isinstance(value, list | tuple):
        return [make_storable_value(item, fix) for item in value]
    if isinstance(value, dict):
        found: dict[Any, Any] = {}
        for key, item in value.items():
            name = fix(key) if isinstance(key, str) else key
            while name in found:
                name = f"{name}{REPLACEMENT}"
            found[name] = make_storable_value(item, fix)
        return found
    return value
