"""What a judge reads: nothing in a label or text can leave its quotes or forge a mark."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.scorers.prompt_templates import (
    PROMPTS_FOLDER,
    escape_text,
    list_as_json,
    load_score_prompt,
    mark_tokens,
    number_lines,
    quote_as_json,
)

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)


@given(TEXT)
def test_quoting_is_json_on_one_line_without_marks(text: str) -> None:
    line = quote_as_json(text)
    assert json.loads(line) == text and line.isprintable()
    assert not {"«", "»"} & set(line)


@given(st.lists(TEXT, min_size=1, max_size=6), st.frozensets(st.integers(0, 5)))
def test_marks_taken_away_leave_the_text(tokens: list[str], marks: frozenset[int]) -> None:
    marks &= frozenset(range(len(tokens)))
    line = mark_tokens(tokens, marks)
    assert json.loads(line.replace("«", "").replace("»", "")) == "".join(tokens)
    assert line.count("«") == line.count("»") == sum(i - 1 not in marks for i in marks)


def test_marks_by_hand() -> None:
    tokens = ["a", ' "b', "«", "c\n"]
    assert mark_tokens(tokens, frozenset()) == r'"a \"b\u00abc\n"'
    assert mark_tokens(tokens, frozenset((1, 3))) == r'"a« \"b»\u00ab«c\n»"'
    assert mark_tokens(tokens, frozenset((1, 2))) == r'"a« \"b\u00ab»c\n"'


def test_what_does_not_print_is_escaped() -> None:
    assert escape_text("\u202e\u2028\x00\u00a0é") == "\\u202e\\u2028\\u0000\\u00a0é"
    assert list_as_json(["a", '"']) == r'["a", "\""]'
    assert number_lines(["x", "y"]) == "1. x\n2. y"


@pytest.mark.parametrize("path", sorted(PROMPTS_FOLDER.glob("score_*.md")), ids=lambda p: p.stem)
def test_every_prompt_is_filled_once(path: object) -> None:
    """A `$label` in a label stays as it is; versions tell wordings apart."""
    one = load_score_prompt(path.stem.removeprefix("score_"))  # type: ignore[attr-defined]
    fields = {"label": '"$items $n"', "items": "ITEMS", "n": 5, "most": 4}
    text = one.fill(**fields)
    names = one.template.get_identifiers()
    assert ('"$items $n"' in text) == ("label" in names) and text.count("ITEMS") == (
        "items" in names
    )
    assert one.version.startswith(path.stem) and len(one.version.split()[1]) == 8  # type: ignore[attr-defined]
