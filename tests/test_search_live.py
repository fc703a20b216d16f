"""The search page with a live model: which features fire on a text."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import live, session
from backend.engine import LocalEngine
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile
from tests.harvests import Rig
from tests.pages import engine_loaded, opened

Open = Callable[..., AppTest]
TEXT = "the cat ran to the park"


@pytest.fixture
def visit(harvested: Path, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """The page, whose engine is the rig's, already loaded."""
    monkeypatch.setenv(session.STORE, str(harvested.parents[1]))
    here = LocalEngine(rig.lm, {one.name: one for one in rig.found}, bos=rig.lm.bos)
    monkeypatch.setattr(LocalEngine, "load", lambda *_: here)

    def go(**query: str) -> AppTest:
        file = HarvestFile(harvested)
        assert engine_loaded(file)
        return opened(session.SEARCH, **{"by": "text", **query})

    yield go


def words_of(test: AppTest) -> str:
    shown = [*test.markdown, *test.caption, *test.title]
    return "\n".join(element.value for element in shown).replace("\\", "")


def test_what_fires_is_what_the_engine_says(visit: Open, rig: Rig) -> None:
    """Every feature of the table at its strongest, BOS left out, best share first."""
    test = visit(q=TEXT)
    table = test.dataframe[0].value
    one = {d.name: d for d in rig.found}
    here = LocalEngine(rig.lm, one, bos=rig.lm.bos)
    read = here.read(TEXT)
    found = here.compute_activations(read, list(one))
    for name, number, value, position in table[
        ["dictionary", "feature", "activation", "position"]
    ].itertuples(index=False):
        acts = {p: v for p, v in found[name].by_position(number).items() if read.counted[p]}
        assert value == pytest.approx(max(acts.values(), key=abs))
        assert acts[position] == pytest.approx(value)
    shares = table["share"].dropna()
    assert len(table) and list(shares) == sorted(shares, reverse=True)
    assert "6 tokens. Click one" in words_of(test)


def test_order_place_and_selection_come_from_the_url(visit: Open, rig: Rig) -> None:
    name = rig.found[0].name
    query = {"q": TEXT, "sort": "activation", "in": "dictionary", "dictionary": name}
    table = visit(**query, at="3-4").dataframe[0].value
    assert set(table["position"]) <= {3, 4} and set(table["dictionary"]) == {name}
    sizes = list(table["activation"].abs())
    assert sizes == sorted(sizes, reverse=True)
    assert len(visit(**query).dataframe[0].value) > len(table)


def test_an_empty_text_says_what_happens(visit: Open) -> None:
    assert "the model reads it" in words_of(visit())


def test_a_selection_beyond_the_text_can_be_let_go(visit: Open) -> None:
    test = visit(q=TEXT, at="99")
    assert "'99' is no position of this text: it has 0 to 6." in words_of(test)
    test.button[0].click().run()
    assert len(test.dataframe) and "at" not in test.query_params


@pytest.mark.parametrize(
    ("times", "sentence"), [(60, "reads at most 32"), (4000, "A text may have 8,000 characters")]
)
def test_a_long_text_is_refused_and_can_be_cut(visit: Open, times: int, sentence: str) -> None:
    test = visit(q="cat " * times)
    assert sentence in words_of(test) and not len(test.dataframe)
    (cut,) = [button for button in test.button if "Cut to the first" in button.label]
    cut.click().run()
    assert "31 tokens" in words_of(test) and len(test.dataframe)
    assert len(test.query_params["q"]) < 130


def test_another_text_lets_the_selection_go(visit: Open) -> None:
    test = visit(q=TEXT, at="3")
    test.text_area(key="search_text").set_value("the dog sat").run()
    assert test.query_params["q"] == "the dog sat" and "at" not in test.query_params


def test_a_row_opens_its_feature_with_the_text(visit: Open) -> None:
    test = visit(q=TEXT)
    first = test.dataframe[0].value.iloc[0]
    chosen = {"selection": {"rows": [], "columns": [], "cells": [[0, "label"]]}}
    test.session_state["search_results"] = chosen
    test.run()
    assert test.query_params["feature"] == f"{first['dictionary']}/{first['feature']}"
    assert test.query_params["test"] == TEXT


def test_a_machine_without_the_weights_says_so(
    visit: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    visit(q=TEXT)
    live.models.clear()

    def missing(*_):
        raise InputError("This machine does not know where the model lies.")

    monkeypatch.setattr(LocalEngine, "load", missing)
    test = visit(q="another text")
    assert "This machine does not know where the model lies." in words_of(test)
    assert test.text_area(key="search_text").value == "another text"
    assert test.title[0].value == "Search"
