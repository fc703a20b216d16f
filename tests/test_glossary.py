"""The glossary of the pages and that of the docs are one."""

import re
from pathlib import Path

import pytest

from app.glossary import TERMS, define_term

PAGE = Path(__file__).resolve().parent.parent / "docs" / "glossary.md"


def test_the_docs_show_the_table_of_the_pages() -> None:
    first, _ = PAGE.read_text("utf-8").split("## Words that we do not use")
    rows = dict(re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|$", first, flags=re.MULTILINE))
    assert rows.pop("Term") == "Definition"
    assert rows == TERMS


def test_terms_are_in_order_and_definitions_are_sentences() -> None:
    assert list(TERMS) == sorted(TERMS, key=str.lower)
    assert [term for term, text in TERMS.items() if text[0].islower() or text[-1] != "."] == []
    assert [term for term, text in TERMS.items() if "|" in text or "\n" in text] == []


def test_a_term_that_is_not_there_is_an_error() -> None:
    assert define_term("L0") == TERMS["L0"]
    with pytest.raises(KeyError):
        define_term("unheard of")
