"""Text from outside (replies of language models, other tools' files, forms), made storable.

A Python string can hold halves of UTF-16 surrogate pairs, for example after parsing the JSON escape
``"\\ud83d"``. UTF-8, DuckDB, JSON files and tokenizers refuse them. NUL characters pass some of
these and end a text early in others. Both are replaced by U+FFFD, the replacement character, where
text enters, so that nothing that was read can fail to be written.
"""

from collections.abc import Callable
from typing import Any

REPLACEMENT = "\ufffd"


def replace_lone_surrogates(text: str) -> str:
    """Return `text` with U+FFFD for each lone surrogate; two that form a pair become one character.

    All other characters are kept, NUL and control characters included.
    """
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def make_storable(text: str) -> str:
    """Return `text` with U+FFFD for lone surrogates and NULs: UTF-8, DuckDB and JSON hold it."""
    return replace_lone_surrogates(text).replace("\0", REPLACEMENT)


def make_storable_value(value: Any, fix: Callable[[str], str] = make_storable) -> Any:
    """Return a copy of a parsed JSON value in which every text, keys included, went through `fix`.

    Tuples become lists, as in JSON. Values of other types are returned as they are. Two keys that
    become the same by it are told apart by an appended U+FFFD, so that no entry is lost.
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
