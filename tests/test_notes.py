"""A person's own words on the pages: saved, shown, undone; and when the catalog cannot be had."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import annotations, session
from app.panels import notes
from feature_store import store as store_module
from feature_store.catalog import Catalog
from feature_store.records import FeatureId
from feature_store.store import Store
from tests.pages import opened
from tests.stores import DEAD, make_store

A = FeatureId("resid", 3)
LABEL, NOTE, STAR = (f"notes_{kind}_resid/3" for kind in ("label", "note", "star"))
Open = Callable[..., AppTest]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    found = make_store(tmp_path / "store")
    monkeypatch.setenv(session.STORE, str(found.path))
    monkeypatch.setattr(annotations, "READ_PATIENCE_S", 0.1)
    monkeypatch.setattr(annotations, "WRITE_PATIENCE_S", 0.1)
    return found


@pytest.fixture
def visit(store: Store) -> Open:
    def go(page: str = session.FEATURE, **query: str) -> AppTest:
        return opened(page, **(query or {"feature": "resid/3"}))

    return go


def data(test: AppTest, key: str) -> dict:
    found = {part.key: part.proto.json for part in test.get("bidi_component")}
    return json.loads(found[key])


def words(test: AppTest) -> str:
    shown = [*test.markdown, *test.caption, *test.title, *test.text]
    return "\n".join(element.value for element in shown).replace("\\", "")


def said(store: Store, feature: FeatureId = A) -> dict[str, str]:
    return Catalog(store.catalog.path).snapshot().values_of_feature(feature)


def test_what_is_typed_is_saved_and_shown(visit: Open, store: Store) -> None:
    test = visit()
    test.text_input(key=LABEL).set_value("  <b>dogs</b> \n & cats ").run()
    test.text_area(key=NOTE).set_value("one\n\ntwo ").run()
    test.checkbox(key=STAR).check().run()
    want = {"label": "<b>dogs</b> & cats", "note": "one\n\ntwo", "star": "1"}
    assert said(store) == want
    heading = data(test, "feature_heading")
    assert heading["label"] == want["label"] and heading["starred"] and heading["writable"]
    again = visit()
    assert again.text_input(key=LABEL).value == want["label"]
    assert again.text_area(key=NOTE).value == want["note"] and again.checkbox(key=STAR).value


def test_undo_sets_the_former_value_again_and_history_grows(visit: Open, store: Store) -> None:
    test = visit()
    for label in ("dogs", "cats"):
        test.text_input(key=LABEL).set_value(label).run()
    assert test.button(key="notes_undo").help == "Set the label to “dogs” again\\."
    test.button(key="notes_undo").click().run()
    assert said(store) == {"label": "dogs"} and test.text_input(key=LABEL).value == "dogs"
    history = [row["cells"][1:] for row in data(test, "notes_history")["rows"]]
    assert history == [["label", "dogs"], ["label", "cats"], ["label", "dogs"]]
    test.button(key="notes_undo").click().run()
    assert said(store) == {"label": "cats"}


def test_the_first_label_is_taken_back(visit: Open, store: Store) -> None:
    test = visit()
    assert not [button for button in test.button if button.key == "notes_undo"]
    test.checkbox(key=STAR).check().run()
    assert test.button(key="notes_undo").help == "Remove the star."
    test.button(key="notes_undo").click().run()
    assert said(store) == {} and not test.checkbox(key=STAR).value
    assert not data(test, "feature_heading")["starred"]


def test_each_feature_has_its_own_fields(visit: Open, store: Store) -> None:
    test = visit()
    test.text_input(key=LABEL).set_value("dogs").run()
    test.query_params["feature"] = "resid/4"
    test.run()
    assert test.text_input(key="notes_label_resid/4").value == ""
    assert said(store, FeatureId("resid", 4)) == {}


def test_a_label_of_another_person_appears(visit: Open, store: Store) -> None:
    test = visit()
    test.text_input(key=LABEL).set_value("dogs").run()
    Catalog(store.catalog.path).annotate(A, "label", "all animals")
    test.run()
    assert test.text_input(key=LABEL).value == "all animals"
    assert len(data(test, "notes_history")["rows"]) == 2


def test_a_dead_feature_can_be_annotated(visit: Open, store: Store) -> None:
    test = visit(feature=f"resid/{DEAD}")
    test.text_input(key=f"notes_label_resid/{DEAD}").set_value("dead").run()
    assert said(store, FeatureId("resid", DEAD)) == {"label": "dead"}


@pytest.mark.process
def test_a_locked_catalog_gives_its_sentence_and_loses_nothing(visit: Open, store: Store) -> None:
    test = visit()
    test.text_input(key=LABEL).set_value("dogs").run()
    code = "import duckdb, sys; db = duckdb.connect(sys.argv[1]); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(store.catalog.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout and other.stdout.readline()
        test.text_input(key=LABEL).set_value("cats").run()
        assert f"Not saved: label. {store.catalog.path} has been locked by process" in words(test)
        assert str(other.pid) in words(test)
        test.query_params["feature"] = "resid/4"
        test.run()
        test.query_params["feature"] = "resid/3"
        test.run()
        assert not test.exception and test.text_input(key=LABEL).value == "cats"
        other.communicate(b"\n")
    test.button(key="notes_again").click().run()
    assert said(store) == {"label": "cats"} and "Not saved" not in words(test)


def test_a_catalog_that_cannot_be_read_leaves_the_page(visit: Open, store: Store) -> None:
    store.catalog.path.write_bytes(b"not a database at all" * 500)
    test = visit()
    assert "Labels and notes cannot be read at the moment." in words(test)
    assert data(test, "feature_contexts")["groups"]
    table = data(visit(session.FEATURES, dictionary="resid"), "features_table")
    assert len(table["rows"]) == 39


def test_a_read_only_catalog_hides_the_edits(
    visit: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.catalog.annotate(A, "label", "dogs")
    store.catalog.annotate(A, "note", "look *again* <i>")
    monkeypatch.setattr(store_module.os, "access", lambda path, mode: False)
    test = visit()
    keys = {part.key for part in [*test.text_input, *test.text_area, *test.button, *test.checkbox]}
    assert not {key for key in keys if key and key.startswith("notes_")}
    assert "read-only" in words(test) and "look *again* <i>" in words(test)
    assert data(test, "feature_heading")["writable"] is False


def test_the_table_has_labels_and_stars_and_filters_by_them(visit: Open, store: Store) -> None:
    for index, kind, value in ((3, "label", "dogs"), (5, "label", "cats"), (5, "star", "1")):
        store.catalog.annotate(FeatureId("resid", index), kind, value)  # type: ignore[arg-type]
    store.catalog.annotate(FeatureId("abs", 4), "label", "elsewhere")
    rows = data(visit(session.FEATURES, dictionary="resid"), "features_table")["rows"]
    shown = {row["target"]: row["cells"][1:3] for row in rows if row["cells"][2]}
    assert shown == {"3": ["", "dogs"], "5": ["★", "cats"]} and len(rows) == 39
    test = visit(session.FEATURES, dictionary="resid", labelled="1")
    assert [row["target"] for row in data(test, "features_table")["rows"]] == ["3", "5"]
    test.checkbox(key="filtering_starred").check().run()
    assert [row["target"] for row in data(test, "features_table")["rows"]] == ["5"]
    assert test.query_params["starred"] == "1" and test.query_params["labelled"] == "1"


def test_a_filter_that_is_not_one_is_refused(visit: Open) -> None:
    test = visit(session.FEATURES, dictionary="resid", starred="maybe")
    assert "starred=maybe is not starred=1." in words(test)


def test_a_label_that_is_too_long_stays_in_its_field_and_is_not_cut(
    visit: Open, store: Store
) -> None:
    test = visit()
    test.text_input(key=LABEL).set_value("dogs " * 100).run()
    assert "at most 200 characters, this one has 499" in words(test) and said(store) == {}
    assert test.text_input(key=LABEL).value == ("dogs " * 100).strip()
    test.text_input(key=LABEL).set_value("dogs").run()
    assert "Not saved" not in words(test) and said(store) == {"label": "dogs"}


def test_a_label_is_one_line() -> None:
    assert annotations.cleaned("label", " a\n\tb  c ") == "a b c"
    assert annotations.cleaned("note", "\n a\n b \n") == "a\n b"
    assert notes.describe_undo("note", "") == "Remove the note."
