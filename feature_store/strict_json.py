"""Strict JSON (RFC 8259): the only functions that write and parse JSON in the packages.

Python's json module writes the words NaN and Infinity, which other programs refuse, and accepts
them, keys that occur twice, numbers that overflow to infinity, and lone surrogates. Here both
writing and reading a number that is not finite is an error that names its place.
`tests/test_architecture.py` checks that no other module of the packages uses Python's json.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NoReturn, Protocol

from feature_store.errors import InputError
from feature_store.storable_text import make_storable_value, replace_lone_surrogates

NOT_FINITE = "not_finite"
"""Key under which `record_nonfinite` lists the values that were not finite."""
SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
"""Pattern of a JSON escape that may be half of a surrogate pair; only texts that contain one are
checked."""


class ValueReader(Protocol):
    """Protocol of a JSON decoder, which can also parse one value inside a longer text."""

    def decode(self, s: str) -> Any: ...

    def raw_decode(self, s: str, idx: int = 0) -> tuple[Any, int]: ...


class JsonError(InputError):
    """Error for a text that is not strict JSON, or a value that strict JSON cannot hold.

    `reason` says what is wrong, without a full stop; `place` is "line 3, column 7", counted from 1,
    or empty if unknown.
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

    `compact` omits the spaces after commas and colons; `ascii_only` escapes every other character;
    `default` converts values that JSON has no type for. Lone surrogates become U+FFFD. Raises
    JsonError, which names the place, for a number that is not finite and for a value that JSON has
    no type for.
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
    """Parse a strict JSON text in UTF-8 (a byte order mark is skipped) and return its value.

    Lone surrogates in its texts become U+FFFD; NUL, which JSON allows, is kept. Raises JsonError,
    which begins with `what`, for anything but JSON, keys that occur twice in one object, NaN,
    Infinity and numbers too large for a float. `nonfinite="keep"` accepts such numbers: for
    configurations of other programs of which only other keys are used.
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
    """Return a copy of a JSON value with None for every number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: null_nonfinite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [null_nonfinite(item) for item in value]
    return value


def record_nonfinite(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return `facts` for JSON with None for every number that is not finite, and a record of these
    numbers.

    The record is stored under `not_finite`, if there is any: a map from the place of a value, such
    as `rows[2].score`, to "NaN", "Infinity" or "-Infinity".
    """
    found = find_nonfinite(facts)
    return {**null_nonfinite(facts), NOT_FINITE: found} if found else dict(facts)


def find_nonfinite(value: Any, place: str = "") -> dict[str, str]:
    """Return the numbers in a JSON value that are not finite: place, such as `rows[2].score` ->
    name."""
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
    """Return JavaScript's name of a number that is not finite: NaN, Infinity or -Infinity."""
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object from its pairs; ValueError for a key that occurs twice."""
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
"""Strict JSON decoder with the rules of `parse_json`, for readers of a part of a text
(json_stream.py)."""
FAST_DECODER: ValueReader = json.JSONDecoder(parse_constant=_refuse_constant)
"""Faster JSON decoder for millions of small objects: it accepts keys that occur twice and
numbers that overflow."""
