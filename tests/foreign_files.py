"""Other people's files: every way in which a good JSON file can be wrong, for property tests."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ABSENT = object()
BAD_VALUES = [
    ABSENT,
    None,
    True,
    -1,
    3.5,
    float("nan"),
    float("-inf"),
    10**30,
    "",
    "x",
    "\ud800\0",
    "<script>" * 2000,
    [],
    [None],
    {},
    {"a": 1},
]
BAD_CONTENTS: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"# notes",
    "not UTF-8": b'{"a": "\xff"}',
    "nested": b"[" * 100_000,
    "twice": b'{"a": 1, "a": 2}',
    "too large": b'{"a": 1e999}',
    "digits": b'{"a": ' + b"9" * 5000 + b"}",
    **{text: text.encode() for text in ("null", "true", "1", '"x"', "[]", "[1]", "{}", "NaN")},
}


def spoil(good: Any) -> Iterator[tuple[str, str]]:
    """Give (what is wrong, JSON) for every value of a good one replaced by every bad one."""
    for path in paths(good):
        for bad in BAD_VALUES:
            whole = copy.deepcopy(good)
            at = whole
            for part in path[:-1]:
                at = at[part]
            if bad is ABSENT:
                del at[path[-1]]
            else:
                at[path[-1]] = copy.deepcopy(bad)
            where = ".".join(map(str, path))
            yield f"{where} {'absent' if bad is ABSENT else repr(bad)[:20]}", json.dumps(whole)


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the path of every value inside a value."""
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for key in keys:
        yield (*at, key)
        yield from paths(value[key], (*at, key))


def spoil_file(path: Path, good: Any) -> Iterator[str]:
    """Put every wrong content at `path`, one after the other, and say which it is.

    Truncated, another thing than JSON, a folder, and all that `spoil` gives.
    """
    whole = json.dumps(good).encode()
    contents = dict(BAD_CONTENTS)
    contents |= {f"cut at {n}": whole[:n] for n in (1, len(whole) // 2, len(whole) - 1)}
    contents |= {what: text.encode() for what, text in spoil(good)}
    for what, content in contents.items():
        path.write_bytes(content)
        yield what
    path.unlink()
    path.mkdir()
    yield "a folder"
    path.rmdir()
    path.write_bytes(whole)
