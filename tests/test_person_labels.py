"""People's labels are explanations: side by side with others, scored alike, none of them twice."""

from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.jobs import explaining, scoring
from app.jobs.explaining import Explaining
from app.jobs.scoring import Scoring
from feature_store import explanation_edits
from feature_store.catalog import Catalog
from feature_store.explanation_edits import NewExplanation, save_explanations
from feature_store.explanations import Explanation
from feature_store.label_index import LABEL_LENGTH, normalize_label, normalize_label_sql
from feature_store.records import FeatureId
from feature_store.score_storage import read_score_details
from feature_store.store import Store
from tests import jobs as rules
from tests.jobs import NAME, carry

FEATURE = FeatureId(NAME, 4)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog.duckdb")


def of(catalog: Catalog) -> list[Explanation]:
    return catalog.snapshot().scorable.of_feature(FEATURE)


def test_the_database_makes_the_same_label_of_a_text() -> None:
    with duckdb.connect() as db:

        @settings(max_examples=100)
        @given(st.text(alphabet=st.sampled_from("aé🙂\u0301 \t\v\x1c\x85\xa0\u3000\u200b\ufeff\n")))
        def check(text: str) -> None:
            wide = f"{text} {text * 60}"
            query = f"SELECT {normalize_label_sql('t.x')} FROM (SELECT ? AS x) AS t"
            ((found,),) = db.execute(query, [wide]).fetchall()
            assert (
                found == normalize_label(wide) == normalize_label(found)
                and len(found) <= LABEL_LENGTH
            )

        check()


def test_a_label_is_an_explanation_by_a_person(catalog: Catalog) -> None:
    save_explanations(catalog, [NewExplanation(FEATURE, "cats", "pattern")])
    catalog.annotate(FEATURE, "label", "dogs")
    label, written = of(catalog)
    assert (label.text, label.explainer, label.author, label.model) == (
        "dogs",
        "person",
        "person",
        "",
    )
    assert label.explanation < 0 and label.source == "saefari" and written.text == "cats"
    said = catalog.snapshot()
    assert said.scorable.explainers(NAME) == {"pattern", "person"}
    assert said.explanations.texts_by_feature(NAME) == {4: ["cats"]}, "exports have labels apart"


def test_the_words_of_an_explanation_are_no_second_one(catalog: Catalog) -> None:
    long = "dogs " * 60
    save_explanations(catalog, [NewExplanation(FEATURE, long, "pattern")])
    catalog.annotate(FEATURE, "label", normalize_label(long))
    assert [one.explainer for one in of(catalog)] == ["pattern"]
    explanation_edits.write_explanation(catalog, FEATURE, "big dogs")
    catalog.annotate(FEATURE, "label", "big dogs")
    assert [one.text for one in of(catalog)] == ["big dogs", long]


def test_undo_takes_a_label_back_and_its_number_comes_again_with_it(catalog: Catalog) -> None:
    catalog.annotate(FEATURE, "label", "dogs")
    (first,) = of(catalog)
    catalog.annotate(FEATURE, "label", "cats")
    (other,) = of(catalog)
    catalog.annotate(FEATURE, "label", "dogs")
    (again,) = of(catalog)
    assert again.explanation == first.explanation != other.explanation
    assert again.created > first.created
    catalog.annotate(FEATURE, "label", "")
    assert of(catalog) == []


def test_explanations_are_not_read_again_for_a_label(catalog: Catalog) -> None:
    """Their index of words takes a second to make, and labels are given one after the other."""
    save_explanations(catalog, [NewExplanation(FEATURE, "cats", "pattern")])
    first = catalog.snapshot()
    catalog.annotate(FEATURE, "label", "dogs")
    assert catalog.snapshot().explanations is first.explanations


@pytest.fixture
def store(base: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(explaining, "table", lambda: rules.EXPLAINERS)
    monkeypatch.setattr(scoring, "table", lambda: rules.SCORERS)
    found = Store.create(tmp_path / "store")
    (path,) = (base.path / "harvests").glob("*.duckdb")
    (found.path / "harvests" / path.name).hardlink_to(path)
    given = explaining.checked(found, Explaining("", NAME, "top:3", ("word",)))
    carry(found, "explain", given.to_json(), explaining.do)
    return found


def score(store: Store, explainer: str | None = "person", features: str = "top:3") -> dict:
    given = scoring.checked(store, Scoring("", NAME, features, ("by-hand",), explainer=explainer))
    return carry(store, "score", given.to_json(), scoring.do)[1]


def test_labels_are_scored_and_borrowed_like_other_explanations(store: Store) -> None:
    words = store.catalog.snapshot().explanations.texts_by_feature(NAME)
    a, b, c = words
    for feature in (a, b):
        store.catalog.annotate(FeatureId(NAME, feature), "label", f"it {words[feature][0]}")
    store.catalog.annotate(FeatureId(NAME, c), "label", words[c][0])
    result = score(store)
    (row,) = result["results"]
    assert row["explainer"] == "person" and result["skipped"]["unexplained"] == 1
    for feature, lender in ((a, b), (b, a)):
        (found,) = store.catalog.snapshot().scores.of_feature(FeatureId(NAME, feature))
        null = read_score_details(store.catalog, found.score).nulls["borrowed"]
        assert (null["lender"], null["label"]) == (lender, f"it {words[lender][0]}")
        assert found.explanation < 0 and found.value is not None
    assert [row["explainer"] for row in score(store, None)["results"]] == ["person", "word"]


def test_the_newest_word_of_a_person_is_scored(store: Store) -> None:
    feature = FeatureId(
        NAME, next(iter(store.catalog.snapshot().explanations.texts_by_feature(NAME)))
    )
    explanation_edits.write_explanation(store.catalog, feature, "written")
    store.catalog.annotate(feature, "label", "labelled")
    score(store)
    (found,) = store.catalog.snapshot().scores.of_feature(feature)
    label, *_ = store.catalog.snapshot().scorable.of_feature(feature)
    assert (label.text, label.explanation) == ("labelled", found.explanation)
