"""The search page: empty, bad input, happy paths."""

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import meaning, session
from feature_store.records import FeatureId
from feature_store.store import Store
from tests.embedders import static_model
from tests.pages import opened
from tests.stores import make_store

Open = Callable[..., AppTest]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    found = make_store(tmp_path_factory.mktemp("find") / "store")
    said = (("resid", 3, "walking the dog"), ("abs", 5, "<b>parks</b> & *gardens*"))
    for dictionary, index, label in said:
        found.catalog.annotate(FeatureId(dictionary, index), "label", label)
    found.catalog.annotate(FeatureId("gone", 3), "label", "walking elsewhere")
    found.catalog.annotate(FeatureId("resid", 4000), "label", "walking beyond the last")
    return found


@pytest.fixture
def visit(store: Store, monkeypatch: pytest.MonkeyPatch) -> Open:
    monkeypatch.setenv(session.STORE, str(store.path))

    def go(**query: str) -> AppTest:
        return opened(session.SEARCH, **query)

    return go


def words_of(test: AppTest) -> str:
    shown = [*test.markdown, *test.caption, *test.title]
    return "\n".join(element.value for element in shown).replace("\\", "")


def rows(test: AppTest) -> list[tuple[str, int, str, str]]:
    table = test.dataframe[0].value
    return list(zip(*(table[c] for c in ("dictionary", "feature", "label", "why")), strict=True))


@pytest.mark.parametrize("query", ["", "   "])
def test_an_empty_search_says_what_can_be_typed(visit: Open, query: str) -> None:
    test = visit(q=query)
    assert "Type a word or a token, for instance" in words_of(test) and not len(test.dataframe)


def test_by_label_forgives_a_typing_error(visit: Open) -> None:
    """Labels of features that this harvest does not have are left out."""
    assert rows(visit(q="wlaking", by="label")) == [("resid", 3, "walking the dog", "label, alike")]
    found = rows(visit(q="parks", by="label"))
    assert found == [("abs", 5, "<b>parks</b> & *gardens*", "label")]


def test_by_meaning_finds_other_words(
    store: Store, visit: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a model of ours: dog and puppy are one direction there, and no label says puppy."""
    words = {"walking": (1.0, 0.2), "dog": (1.0, 0.0), "puppy": (1.0, 0.1), "parks": (0.0, 1.0)}
    folder = static_model(tmp_path / "pets", words)
    monkeypatch.setenv(meaning.SETTING, str(folder))
    test = visit(q="puppy", by="meaning")
    table = test.dataframe[0].value
    assert (table["dictionary"][0], table["feature"][0]) == ("resid", 3)
    assert table["cosine"][0] > 0.9 and "nearest by pets" in words_of(test)
    assert str(folder) not in words_of(test)
    assert len(visit(q="zebra", by="meaning").dataframe) == 0


def test_meaning_without_a_model_says_who_answers(visit: Open) -> None:
    """The corpus's own words answer, and the page says how to have a model do it."""
    test = visit(q="wlaking", by="meaning")
    assert test.dataframe[0].value["feature"][0] == 3
    said = words_of(test)
    assert "nearest by word vectors of the corpus and the labels" in said
    assert "“wlaking” taken for “walking”" in said and 'pip install "saefari[embed]"' in said


def test_a_model_that_is_not_there_is_said_and_the_words_answer(
    visit: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(meaning.SETTING, "no/such/model")
    test = visit(q="walking", by="meaning")
    said = words_of(test)
    assert "No model2vec model could be read from 'no/such/model'" in said
    assert "word vectors of the corpus" in said and test.dataframe[0].value["feature"][0] == 3


def test_meaning_without_labels_says_what_to_do(
    tmp_path: Path, visit: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(session.STORE, str(make_store(tmp_path / "store").path))
    test = visit(q="dog", by="meaning")
    assert "No feature here has a label or an explanation yet" in words_of(test)
    assert not len(test.dataframe)


def test_a_label_given_since_is_found(
    tmp_path: Path, visit: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index is made anew when labels change."""
    fresh = make_store(tmp_path / "store")
    monkeypatch.setenv(session.STORE, str(fresh.path))
    for index, label in ((3, "the dog sat"), (4, "the dog ran")):
        fresh.catalog.annotate(FeatureId("resid", index), "label", label)
        found = visit(q=label, by="meaning").dataframe[0].value
        assert (found["feature"][0], found["label"][0]) == (index, label)


def test_everything_puts_labels_first_and_says_each_reason(visit: Open) -> None:
    found = rows(visit(q="dog"))
    assert len(found) == 80 and found[0][:3] == ("resid", 3, "walking the dog")
    why = found[0][3]
    assert why.startswith("label · fires on “ dog”: 35")
    assert "top contexts peak there" in why and why.endswith("promotes “ dog” (rank 1)")
    assert "80 features · as tokens: “ dog”" in words_of(visit(q="dog"))


def test_one_dictionary_and_one_reason(visit: Open) -> None:
    found = rows(visit(q='" cat"', by="promotes", dictionary="abs", **{"in": "dictionary"}))
    assert {row[0] for row in found} == {"abs"}
    assert {row[3] for row in found} == {"promotes “ cat” (rank 2)"}


def test_what_is_typed_goes_into_the_url_and_stays(visit: Open) -> None:
    test = visit()
    test.text_input(key="search_q").set_value("dog").run()
    test.button_group(key="search_by").set_value("fires").run()
    assert test.query_params["q"] == "dog" and test.query_params["by"] == "fires"
    test.switch_page(session.FEATURES).run()
    test.query_params.clear()
    test.switch_page(session.SEARCH).run()
    assert test.text_input(key="search_q").value == "dog" and len(rows(test))


def test_nothing_found_says_so(visit: Open) -> None:
    test = visit(q="zzzzzz")
    assert "Nothing was found." in words_of(
        test
    ) and "no token is spelled or begins so" in words_of(test)


@pytest.mark.parametrize("name", ["by", "in"])
def test_a_choice_that_is_not_one_is_refused(visit: Open, name: str) -> None:
    assert "called 'luck'" in words_of(visit(q="dog", **{name: "luck"}))


def test_a_long_query_and_markup_are_only_text(visit: Open) -> None:
    test = visit(q="q" * 10_000)
    assert "at most 300 characters; this one has 10,000" in words_of(test)
    assert test.text_input(key="search_q").value == "q" * 10_000
    test = visit(q="<script>alert(1)</script>")
    assert test.text_input(key="search_q").value == "<script>alert(1)</script>"
    assert len(rows(test))  # it is a token of this vocabulary


def test_a_click_opens_the_feature(visit: Open) -> None:
    test = visit(q="parks", by="label")
    chosen = {"selection": {"rows": [], "columns": [], "cells": [[0, "why"]]}}
    test.session_state["search_results"] = chosen
    test.run()
    assert test.query_params["feature"] == "abs/5"


def test_a_click_on_steer_steers(visit: Open) -> None:
    test = visit(q="parks", by="label")
    chosen = {"selection": {"rows": [], "columns": [], "cells": [[0, "steer"]]}}
    test.session_state["search_results"] = chosen
    test.run()
    assert "Steer" in {one.value for one in test.title}


def test_a_broken_catalog_leaves_the_search_by_tokens(
    tmp_path: Path, visit: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = make_store(tmp_path / "store")
    broken.catalog.path.write_bytes(b"nothing" * 1000)
    monkeypatch.setenv(session.STORE, str(broken.path))
    test = visit(q="dog")
    assert "Labels may be out of date." in words_of(test) and len(rows(test)) == 80
