"""JSON as its standard has it (RFC 8259), for everything that is written and read.

Python's own module writes the words NaN and Infinity, which other programs refuse, and reads them,
keys that occur twice, numbers that overflow to infinity, and halves of characters. Here writing a
number that is not finite is an error that names its place, and so is reading one.
`tests/test_architecture.py` holds that no other module of the packages calls Python's.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NoReturn, Protocol

from feature_store.errors import InputError
from feature_store.storable_text import make_storable_value, replace_lone_surrogates

NOT_FINITE = "not_finite"
"""The key under which `record_nonfinite` says which values were not finite."""
SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
"""An escape that may stand for half a character: where there is one, texts are looked at."""


class ValueReader(Protocol):
    """A parser of JSON values, also of one that stands inside a text."""

    def decode(self, s: str) -> Any: ...

    def raw_decode(self, s: str, idx: int = 0) -> tuple[Any, int]: ...


class JsonError(InputError):
    """A text that is not strict JSON, or a value that strict JSON cannot hold.

    `reason` says what is wrong, without a full stop; `place` is "line 3, column 7", counted from 1,
    or empty where it is not known.
    """

    def __init__(
        self, what: str, reason: str, line: int | None = None, column: int | None = None
    ) -> None:
        self.reason = reason
        parts = [f"line {line}"] * (line is not None) + [f"column {column}"] * (column is not None)
        self.place = ", ".join(parts)
        super().__init__(f"{what}: {reason}{f' ({self.place})' if self.place else ''}.")


def dump_json(
    value: Any,
    *,
    indent: int | None = None,
    sort_keys: bool = False,
    compact: bool = False,
    ascii_only: bool = False,
    default: Callable[[Any], Any] | None = None,
) -> str:
    """Return `value` as strict JSON text that UTF-8 can encode.

    `compact` leaves out the spaces after commas and colons; `ascii_only` escapes every other
    character; `default` converts what JSON has no type for. Halves of characters become U+FFFD.
    Raises JsonError, which names the place, for a number that is not finite and for a value that
    JSON has no type for.
    """
    separators = (",", ":") if compact else None
    try:
        text = json.dumps(
            value,
            ensure_ascii=ascii_only,
            allow_nan=False,
            indent=indent,
            sort_keys=sort_keys,
            separators=separators,
            default=default,
        )
    except (TypeError, ValueError, RecursionError) as bad:
        found = find_nonfinite(value) if isinstance(bad, ValueError) else {}
        place = next(iter(found), None)
        reason = f"{place} is {found[place]}" if place else str(bad)
        raise JsonError("This cannot be written as JSON", reason) from bad
    if ascii_only and SURROGATE_ESCAPE.search(text):
        text = json.dumps(
            make_storable_value(json.loads(text), replace_lone_surrogates),
            indent=indent,
            separators=separators,
        )
    return replace_lone_surrogates(text)


def parse_json(
    content: str | bytes,
    what: str = "This is not JSON",
    *,
    nonfinite: Literal["refuse", "keep"] = "refuse",
) -> Any:
    """Return the value of a JSON text in UTF-8 (a byte order mark is passed over).

    Halves of characters in its texts become U+FFFD; NUL, which JSON allows, stays. Raises
    JsonError, which begins with `what`, for what is not JSON, keys that occur twice in one object,
    NaN, Infinity and numbers too large for a float. `nonfinite="keep"` lets those numbers pass: for
    configurations in which other programs write them and of which only other keys are read.
    """
    keep = nonfinite == "keep"
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
        value = json.loads(
            text.removeprefix("\ufeff"),
            object_pairs_hook=_read_object,
            parse_constant=float if keep else _refuse_constant,
            parse_float=float if keep else _read_float,
        )
    except UnicodeDecodeError as bad:
        line = bad.object.count(b"\n", 0, bad.start) + 1
        raise JsonError(what, "it is not UTF-8", line) from bad
    except json.JSONDecodeError as bad:
        raise JsonError(what, bad.msg, bad.lineno, bad.colno) from bad
    except RecursionError as bad:
        raise JsonError(what, "it is nested too deeply") from bad
    except ValueError as bad:  # our refusals, and whole numbers of thousands of digits
        raise JsonError(what, str(bad)) from bad
    if SURROGATE_ESCAPE.search(text) or replace_lone_surrogates(text) != text:
        value = make_storable_value(value, replace_lone_surrogates)
    return value


def null_nonfinite(value: Any) -> Any:
    """Return a copy of `value` with None for every number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: null_nonfinite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [null_nonfinite(item) for item in value]
    return value


def record_nonfinite(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return `facts` with None for every number that is not finite, and a record of these.

    The record stands under `not_finite`, only if there is any: a map from the place of a value,
    such as `rows[2].score`, to "NaN", "Infinity" or "-Infinity".
    """
    found = find_nonfinite(facts)
    return {**null_nonfinite(facts), NOT_FINITE: found} if found else dict(facts)


def find_nonfinite(value: Any, place: str = "") -> dict[str, str]:
    """Return the numbers in `value` that are not finite: place, such as `rows[2].score` -> name."""
    if isinstance(value, float):
        return {} if math.isfinite(value) else {place or "the value": _name(value)}
    if isinstance(value, Mapping):
        parts = [(f"{place}.{key}" if place else str(key), item) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        parts = [(f"{place}[{i}]", item) for i, item in enumerate(value)]
    else:
        return {}
    return {at: name for part, item in parts for at, name in find_nonfinite(item, part).items()}


def _name(number: float) -> str:
    """Return what JavaScript calls a number that is not finite."""
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; ValueError for a key that occurs twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} occurs twice in one object")
    return found


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a number in JSON")


def _read_float(word: str) -> float:
    number = float(word)
    if not math.isfinite(number):
        raise ValueError(f"the number {word[:40]} is too large")
    return number


STRICT_DECODER: ValueReader = json.JSONDecoder(
    object_pairs_hook=_read_object, parse_constant=_refuse_constant, parse_float=_read_float
)
"""What `parse_json` parses with, for readers of a part of a text (json_stream.py)."""
FAST_DECODER: ValueReader = json.JSONDecoder(parse_constant=_refuse_constant)
"""For millions of small objects: keys that occur twice and numbers that overflow pass."""
