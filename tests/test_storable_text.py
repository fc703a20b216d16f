"""Whatever text comes in from outside can be written by UTF-8, DuckDB and JSON afterwards."""

import json

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.storable_text import (
    make_storable,
    make_storable_value,
    replace_lone_surrogates,
)

PIECES = st.sampled_from(["\0", "\ud83d", "\ude00", "\ufffd"]) | st.text(max_size=3)
ANY_TEXT = st.lists(PIECES, max_size=6).map("".join)
"""Texts with halves of surrogate pairs, which `st.text` leaves out, and NULs."""
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=25)
@given(st.lists(ANY_TEXT, min_size=1, max_size=20))
def test_every_text_can_be_stored_and_comes_back(texts: list[str]) -> None:
    fixed = [make_storable(text) for text in texts]
    with duckdb.connect() as db:
        db.execute("CREATE TABLE t (i INTEGER, text VARCHAR)")
        db.executemany("INSERT INTO t VALUES (?, ?)", [list(pair) for pair in enumerate(fixed)])
        assert [text for (text,) in db.execute("SELECT text FROM t ORDER BY i").fetchall()] == fixed
    for text in fixed:
        assert "\0" not in text and text.encode().decode() == text
        assert make_storable(text) == text


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        ("plain", "plain"),
        ("a\ud83d b", "a\ufffd b"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("\ud83d\ude00", "\U0001f600"),
        ("a\0b", "a\ufffdb"),
        ("\n\t\u2028\x7f", "\n\t\u2028\x7f"),
    ],
)
def test_only_what_cannot_be_stored_is_replaced(raw: str, kept: str) -> None:
    assert make_storable(raw) == kept
    assert replace_lone_surrogates(raw).replace("\0", "\ufffd") == kept


@given(ANY_JSON)
def test_values_keep_their_shape(value: object) -> None:
    """Every entry is still there, and the whole can be written as UTF-8."""
    fixed = make_storable_value(value)
    json.dumps(fixed, ensure_ascii=False).encode()
    assert count(fixed) == count(value)


def count(value: object) -> int:
    """The number of values in a value, itself included."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(count, inner))
