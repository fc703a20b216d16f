"""A JSON object read in parts is the object that is read at once, wherever the parts end."""

import json
from io import BytesIO
from typing import IO, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.json_stream import JsonObjectStream
from feature_store.strict_json import JsonError, parse_json

TEXTS = st.text(st.sampled_from('a"}],{[:\\ é😀'), max_size=5)
VALUES = st.recursive(
    st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.sampled_from(["links", "nodes", "x"]) | TEXTS, VALUES, max_size=5)


class Trickle(BytesIO):
    """A file that gives a few bytes at a time."""

    size = 1

    def read(self, n: int | None = -1) -> bytes:
        return super().read(self.size)


def read(source: IO[bytes]) -> dict[str, Any]:
    parts = JsonObjectStream(source, "f is not JSON", {"links", "nodes"}).entries()
    found = {}
    for key, value in parts:
        if key in ("links", "nodes") and not isinstance(
            value, list | dict | str | float | int | None
        ):
            value = [one for batch in value for one in batch]
        found[key] = value
    return found


@given(OBJECTS, st.sampled_from([None, 0, 2]), st.integers(1, 40))
def test_the_parts_are_the_whole(value: dict, indent: int | None, size: int) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=size % 2 == 0).encode()
    source = Trickle(text)
    source.size = size
    assert read(source) == read(BytesIO(text)) == value


@given(OBJECTS, st.integers(0, 400), st.sampled_from([b"", b",", b"]", b'"', b"NaN", b"\xff"]))
def test_what_is_no_json_is_refused_in_parts_too(value: dict, at: int, odd: bytes) -> None:
    """Cut, or with something put in: whatever is refused at once is refused, and nothing else."""
    text = json.dumps(value).encode()
    at = min(at, len(text))
    text = text[:at] + (odd + text[at:] if odd else b"")
    try:
        whole = parse_json(text)
    except JsonError:
        whole = None
    try:
        found = read(BytesIO(text))
    except JsonError as error:
        assert str(error).startswith("f is not JSON: ")
        assert not isinstance(whole, dict)
    else:
        assert found == whole


@pytest.mark.parametrize("text", [b"", b"[]", b'{"a": 1} 2', b'{"a": 1, "a": 2}', b"[" * 100_000])
def test_only_one_object_is_read(text: bytes) -> None:
    with pytest.raises(JsonError):
        read(BytesIO(text))
