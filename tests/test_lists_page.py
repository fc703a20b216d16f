"""Lists on the pages: made, filled, read-only, refused; explanations beside the person's label."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import annotations, keeping, session
from app.lists import history, page
from feature_store import feature_list_edits as edits
from feature_store import store as store_module
from feature_store.exchange.import_rows import check_rows
from feature_store.exchange.import_writer import save_import
from feature_store.feature_lists import FeatureLists
from feature_store.records import FeatureId
from feature_store.store import Store
from tests.pages import opened
from tests.stores import make_store

A, B, GONE = FeatureId("resid", 3), FeatureId("abs", 4), FeatureId("gone", 1)
MARKUP = "<script>alert(1)</script> *dogs*"
MEMBERS = "collecting_resid/3"
Open = Callable[..., AppTest]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    found = make_store(tmp_path / "store")
    monkeypatch.setenv(session.STORE, str(found.path))
    monkeypatch.setattr(annotations, "READ_PATIENCE_S", 0.1)
    monkeypatch.setattr(keeping, "WRITE_PATIENCE_S", 0.1)
    return found


@pytest.fixture
def visit(store: Store) -> Open:
    def go(page: str = session.LISTS, **query: str) -> AppTest:
        return opened(page, **query)

    return go


def data(test: AppTest, key: str) -> dict:
    found = {part.key: part.proto.json for part in test.get("bidi_component")}
    return json.loads(found[key])


def words(test: AppTest) -> str:
    shown = [*test.markdown, *test.caption, *test.title, *test.text]
    return "\n".join(element.value for element in shown).replace("\\", "")


def lists(store: Store) -> FeatureLists:
    return store.catalog.snapshot().lists


def test_a_list_is_made_described_and_filled(visit: Open, store: Store) -> None:
    test = visit()
    assert "No list yet." in words(test)
    test.text_input(key="lists_new").set_value(f" {MARKUP} ").run()
    (made,) = lists(store).current
    assert made.name == MARKUP and test.query_params["list"] in (made.id, [made.id])
    test = visit(list=made.id)
    test.text_area(key=f"list_description_{made.id}").set_value("why").run()
    test.text_input(key="list_add").set_value("3, abs/4").run()
    assert lists(store).get(made.id).features == [A, B]
    assert test.text_input(key="list_add").value == ""
    assert [row["feature"] for row in data(test, "list_entries")["rows"]] == ["resid/3", "abs/4"]
    assert data(visit(), "lists_table")["rows"][0]["cells"][:4] == [
        MARKUP,
        "2",
        "abs, resid",
        "why",
    ]


def test_a_feature_that_does_not_exist_is_refused_and_the_text_stays(
    visit: Open, store: Store
) -> None:
    one = edits.create_list(store.catalog, "dogs")
    test = visit(list=one)
    test.text_input(key="list_add").set_value("3, resid/999").run()
    assert "There is no feature resid/999" in words(test)
    assert lists(store).get(one).features == []
    assert test.text_input(key="list_add").value == "3, resid/999"


def test_what_others_change_appears_and_undo_takes_it_back(visit: Open, store: Store) -> None:
    one = edits.create_list(store.catalog, "dogs")
    edits.add_features(store.catalog, one, [A, GONE])
    test = visit(list=one)
    edits.describe_list(store.catalog, one, name="cats")
    edits.write_note(store.catalog, one, A, MARKUP)
    test.run()
    assert test.text_input(key=f"list_name_{one}").value == "cats"
    rows = data(test, "list_entries")["rows"]
    assert rows[0]["note"] == MARKUP and rows[0]["density"]
    assert rows[1]["target"] is None and rows[1]["problem"]
    undo = next(button for button in test.button if button.label == "Undo")
    assert "note of resid/3" in (undo.help or "").replace("\\", "")
    undo.click().run()
    assert data(test, "list_entries")["rows"][0]["note"] == ""


def test_a_deleted_list_says_so_and_comes_back(visit: Open, store: Store) -> None:
    one = edits.create_list(store.catalog, "dogs")
    test = visit(list=one)
    next(button for button in test.button if button.label == "Delete").click().run()
    assert "This list is deleted." in words(test) and lists(store).current == []
    test = visit()
    test.button(key=f"back_{one}").click().run()
    assert [found.id for found in lists(store).current] == [one]


def test_lists_of_a_feature_are_chosen_on_its_page(visit: Open, store: Store) -> None:
    one = edits.create_list(store.catalog, "dogs")
    test = visit(session.FEATURE, feature="resid/3")
    test.multiselect(key=MEMBERS).select(one).run()
    assert lists(store).get(one).features == [A] and not test.exception
    assert test.multiselect(key=MEMBERS).value == [one]
    test.multiselect(key=MEMBERS).unselect(one).run()
    assert lists(store).get(one).features == []


def test_a_list_that_is_not_there_is_refused(visit: Open) -> None:
    test = visit(list="<b>x")
    assert "There is no list '<b>x' in this store." in words(test)


def test_a_read_only_catalog_hides_every_edit_and_says_why(
    visit: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = edits.create_list(store.catalog, "dogs")
    edits.add_features(store.catalog, one, [A])
    monkeypatch.setattr(store_module.os, "access", lambda path, mode: False)
    for test in (visit(), visit(list=one)):
        assert keeping.READ_ONLY in words(test)
        assert not {button.label for button in test.button} & {"Undo", "Delete", "Import"}
        assert not [field for field in test.text_input if field.key in ("lists_new", "list_add")]
    assert data(test, "list_entries")["writable"] is False
    assert test.text_input(key=f"list_name_{one}").disabled
    test = visit(session.FEATURE, feature="resid/3")
    assert "Lists: dogs" in words(test) and not test.multiselect


def test_a_change_that_fails_is_said_and_the_typed_name_stays(
    visit: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = edits.create_list(store.catalog, "dogs")
    test = visit(list=one)
    test.text_input(key=f"list_name_{one}").set_value("  ").run()
    assert "A list needs a name." in words(test) and lists(store).get(one).name == "dogs"
    assert test.text_input(key=f"list_name_{one}").value == "  "


def test_explanations_stand_on_the_page_and_become_the_label(visit: Open, store: Store) -> None:
    rows = [
        {
            "dictionary": "resid",
            "feature": 3,
            "text": text,
            "explainer": "tokens",
            "model": "m",
            "author": "model",
            "provenance": '{"source": "neuronpedia"}',
        }
        for text in (MARKUP, "cats")
    ]
    save_import(store.catalog, check_rows("explanations", rows, "rows"))
    test = visit(session.FEATURE, feature="resid/3", tab="Explanations")
    assert MARKUP in words(test) and "tokens · m · neuronpedia · imported" in words(test)
    uses = [button for button in test.button if button.label == "Use as label"]
    uses[-1].click().run()
    assert store.catalog.snapshot().values_of_feature(A)["label"] == MARKUP
    assert len([button for button in test.button if button.label == "Use as label"]) == 1
    test = visit()
    test.button(key="withdraw_resid_tokens_m").click().run()
    assert "2 explanations taken back." in words(test)
    assert store.catalog.snapshot().explanations.of_feature(A) == []


def test_a_search_finds_explanations_too(visit: Open, store: Store) -> None:
    rows = [
        {
            "dictionary": "resid",
            "feature": 3,
            "text": text,
            "explainer": "",
            "model": "",
            "author": "person",
            "provenance": "{}",
        }
        for text in ("elephants by night", "grey elephant")
    ]
    save_import(store.catalog, check_rows("explanations", rows, "rows"))
    store.catalog.annotate(FeatureId("resid", 5), "label", "elephant")
    table = visit(session.SEARCH, dictionary="resid", q="elephant").dataframe[0].value
    assert list(table["feature"]) == [5, 3] and list(table["label"]) == [
        "elephant",
        "grey elephant",
    ]
    assert list(table["why"]) == ["label", "explanation: “grey elephant”"]


def test_what_a_search_found_goes_into_a_new_list(visit: Open, store: Store) -> None:
    for index in (5, 9):
        store.catalog.annotate(FeatureId("resid", index), "label", "elephant")
    test = visit(session.SEARCH, dictionary="resid", q="elephant")
    button = next(button for button in test.button if button.label == "Add")
    button.click().run()
    assert "Choose a list, or type the name of a new one." in words(test)
    one = edits.create_list(store.catalog, MARKUP)
    test.run()
    test.selectbox(key="search_list").select(one)
    next(button for button in test.button if button.label == "Add").click().run()
    assert [feature.index for feature in lists(store).get(one).features] == [5, 9]


def test_history_says_what_was_done(store: Store) -> None:
    one = edits.create_list(store.catalog, "dogs")
    edits.add_features(store.catalog, one, [A, B])
    edits.write_note(store.catalog, one, A, "a\nnote")
    edits.move_feature(store.catalog, one, A, 1)
    edits.remove_features(store.catalog, one, [B])
    edits.describe_list(store.catalog, one, name="cats")
    edits.undo_change(store.catalog, one)
    told = [change.words for change in history.changes(lists(store).history(one))]
    assert told == [
        "created “dogs”",
        "added resid/3, abs/4",
        "note of resid/3: “a note”",
        "moved abs/4, resid/3",
        "removed abs/4",
        "called it “cats”",
        "called it “dogs”",
    ]


def test_python_to_copy_gives_the_list(store: Store) -> None:
    from app.lists import sheet

    one = edits.create_list(store.catalog, "dogs")
    edits.add_features(store.catalog, one, [A, B])
    found: dict = {}
    exec(sheet.lines(store.path, one), found)
    assert list(found["notes"]) == [A, B] and found["features"][1].facts.feature == 4
    exec(sheet.all_lines(store.path), found)
    assert [each.id for each in found["lists"]] == [one]


def test_entries_are_typed_in_any_of_three_ways(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "store", lambda: store)
    file = store.harvest()
    here = session.Place(file, file.dictionary("resid"))
    assert page.typed("3, abs/4;\n resid/3,", here) == [A, B, A]
