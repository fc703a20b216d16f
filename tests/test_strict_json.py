"""What is written as JSON any strict reader takes, and what strict readers refuse is not read."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.commands.terminal import print_json
from feature_store.strict_json import (
    JsonError,
    dump_json,
    find_nonfinite,
    null_nonfinite,
    parse_json,
    record_nonfinite,
)

PIECES = st.sampled_from(["\0", "\ud83d", "\ude00", "\ufeff"]) | st.text(max_size=3)
TEXTS = st.lists(PIECES, max_size=4).map("".join)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3),
    max_leaves=8,
)


def refuse(word: str) -> None:
    raise AssertionError(word)


@given(VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_every_finite_value_is_written_strictly_and_read_back(
    value: object, ascii_only: bool, indent: int | None
) -> None:
    """And a value that holds a number which is not finite is refused by the number's place."""
    places = find_nonfinite(value)
    if places:
        with pytest.raises(JsonError) as caught:
            dump_json(value, ascii_only=ascii_only, indent=indent)
        assert next(iter(places)) in str(caught.value)
        value = null_nonfinite(value)
    text = dump_json(value, ascii_only=ascii_only, indent=indent)
    assert not ascii_only or text.isascii()
    read = parse_json(text.encode())
    assert dump_json(read) == dump_json(value)
    json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"a": NaN}', "NaN is not a number in JSON"),
        ("[1, -Infinity]", "-Infinity is not a number in JSON"),
        ('{"a": 1e999}', "the number 1e999 is too large"),
        ('{"a": 1, "b": {"k": 1, "k": 2}}', "the key 'k' occurs twice"),
        ("[" + "9" * 5000 + "]", "integer string conversion"),
        ("[" * 200_000, "nested too deeply"),
        ('{"a": ', "Expecting value (line 1, column 7)"),
        ('{\n"a": 1,\n}', "(line 3, column 1)"),
        ("", "Expecting value"),
        (b"\xff\xfe{", "it is not UTF-8 (line 1)"),
        (b'{"a":\n"\xff"}', "it is not UTF-8 (line 2)"),
    ],
)
def test_what_is_not_strict_json_is_refused_with_its_reason(
    content: str | bytes, reason: str
) -> None:
    with pytest.raises(JsonError) as caught:
        parse_json(content, "f.json is not JSON")
    assert str(caught.value).startswith("f.json is not JSON: ") and reason in str(caught.value)


def test_halves_of_characters_become_storable() -> None:
    read = parse_json(
        b'\xef\xbb\xbf{"a\\ud800": ["\\ud83d", "\\ud83d\\ude00", "\\u0000", "\\\\ud800"]}'
    )
    assert read == {"a\ufffd": ["\ufffd", "\U0001f600", "\0", "\\ud800"]}
    json.dumps(read, ensure_ascii=False).encode()


def test_numbers_that_are_not_finite_can_be_kept_where_only_other_keys_count() -> None:
    read = parse_json('{"limit": [0.0, Infinity], "n": 1e999}', nonfinite="keep")
    assert read == {"limit": [0.0, math.inf], "n": math.inf}


def test_a_record_says_which_numbers_were_not_finite() -> None:
    """None takes their place, and nothing else changes."""
    facts = {"a": math.nan, "rows": [{"score": 1.0}, {"score": -math.inf}], "t": (1, math.inf)}
    assert record_nonfinite(facts) == {
        "a": None,
        "rows": [{"score": 1.0}, {"score": None}],
        "t": [1, None],
        "not_finite": {"a": "NaN", "rows[1].score": "-Infinity", "t[1]": "Infinity"},
    }
    assert record_nonfinite({"a": 1}) == {"a": 1}


def test_a_commands_json_has_null_for_what_is_no_number(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_json({"name": "é", "ev": math.nan, "rows": [1.0, math.inf]})
    assert json.loads(capsys.readouterr().out, parse_constant=refuse) == {
        "name": "é",
        "ev": None,
        "rows": [1.0, None],
        "not_finite": {"ev": "NaN", "rows[1]": "Infinity"},
    }
