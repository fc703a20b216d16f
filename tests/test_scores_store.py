"""Scores in the catalog: kept whole, the newest in force, one of them in the table of features."""

from dataclasses import replace
from pathlib import Path

import pytest

from feature_store.catalog import Catalog
from feature_store.errors import InputError
from feature_store.explanation_edits import NewExplanation, save_explanations
from feature_store.explanation_scores import ExplanationScore
from feature_store.feature_table import FeatureQuery, order_features, read_feature_rows
from feature_store.label_index import normalize_label
from feature_store.records import FeatureId
from feature_store.score_storage import NewScore, read_score_details, save_scores
from tests.stores import make_store

FEATURE = FeatureId("resid", 4)
ESTIMATE = {"value": 0.8, "low": 0.7, "high": 0.9, "n": 50, "n_documents": 40, "note": ""}
ITEMS = [
    {
        "sequence": i,
        "start": 3,
        "document": i,
        "kind": "top",
        "truth": 1.0,
        "answer": i % 2,
        "probability": None,
        "failed": "" if i else "refusal",
        "weight": 2.5,
    }
    for i in range(3)
]


def said(text: str = "dogs", feature: FeatureId = FEATURE, **changes) -> NewExplanation:
    return NewExplanation(feature, text, "pattern", provenance={"source": "saefari"}, **changes)


def scored(explanation: int, value: float | None = 0.8, **changes) -> NewScore:
    row = NewScore(
        explanation,
        FEATURE,
        "detection",
        "balanced accuracy",
        "pattern",
        ESTIMATE | {"value": value},
        {"hard": ESTIMATE | {"value": 0.6}},
        {"borrowed": ESTIMATE | {"value": 0.5, "label": "cats", "lender": 9, "failed": 0}},
        ITEMS,
        1,
        {"seed": 0},
        "tiny-0001",
        "score-1",
    )
    return replace(row, **changes)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog.duckdb")


def test_a_score_comes_out_as_it_went_in(catalog: Catalog) -> None:
    (number,) = save_explanations(catalog, [said()])
    save_scores(catalog, [scored(number)])
    (found,) = catalog.snapshot().scores.of_feature(FEATURE)
    assert (found.explanation, found.value, found.low, found.n) == (number, 0.8, 0.7, 50)
    assert (found.hard, found.borrowed, found.constant, found.failed) == (0.6, 0.5, None, 1)
    kept = read_score_details(catalog, found.score)
    assert kept.judged == ITEMS and kept.detail == {"seed": 0}
    assert kept.nulls["borrowed"]["label"] == "cats" and kept.parts["hard"]["value"] == 0.6
    with pytest.raises(InputError, match="There is no score 99"):
        read_score_details(catalog, 99)


def test_the_newest_of_a_judge_is_in_force(catalog: Catalog) -> None:
    (number,) = save_explanations(catalog, [said()])
    save_scores(catalog, [scored(number, 0.6), scored(number, 0.7, judge="m")])
    save_scores(catalog, [scored(number, None, scorer="fuzzing"), scored(number, 0.9)])
    found = catalog.snapshot().scores.of_feature(FEATURE)
    assert {(s.scorer, s.judge): s.value for s in found} == {
        ("detection", "pattern"): 0.9,
        ("detection", "m"): 0.7,
        ("fuzzing", "pattern"): None,
    }
    assert catalog.snapshot().scores.of_feature(FeatureId("resid", 5)) == []


def test_the_same_sentence_keeps_its_number(catalog: Catalog) -> None:
    first = save_explanations(
        catalog, [said("a"), said("b"), said("a"), said("a", FeatureId("x", 4))]
    )
    again = save_explanations(catalog, [said("c"), said("b")])
    assert first[0] == first[2] and len({*first, *again}) == 4 and again[1] == first[1]
    assert [e.text for e in catalog.snapshot().explanations.of_feature(FEATURE)] == ["c", "b", "a"]


def test_nothing_is_half_kept(catalog: Catalog) -> None:
    (number,) = save_explanations(catalog, [said()])
    with pytest.raises(ValueError, match="JSON"):
        save_scores(catalog, [scored(number), scored(number, detail={"x": float("nan")})])
    assert catalog.snapshot().scores.of_feature(FEATURE) == []
    assert save_explanations(catalog, []) == [] and save_scores(catalog, []) is None


def test_the_tables_score_is_the_labels_else_the_newests(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    old, new = save_explanations(store.catalog, [said("old"), said("new")])
    save_scores(store.catalog, [scored(old, 0.6), scored(old, 0.7, judge="m")])
    assert in_table(store) == 0.7  # the newest of those that have one
    save_scores(store.catalog, [scored(new, 0.65), scored(new, 0.99, scorer="fuzzing")])
    assert in_table(store) == 0.65
    store.catalog.annotate(FEATURE, "label", "old")
    assert in_table(store) == 0.7


def test_the_tables_score_is_that_of_a_persons_own_label(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    (number,) = save_explanations(store.catalog, [said("new")])
    save_scores(store.catalog, [scored(number, 0.9)])
    store.catalog.annotate(FEATURE, "label", "in my words")
    assert in_table(store) == 0.9
    label, _ = store.catalog.snapshot().scorable.of_feature(FEATURE)
    save_scores(store.catalog, [scored(label.explanation, 0.6)])
    assert in_table(store) == 0.6
    store.catalog.annotate(FEATURE, "label", "")
    assert in_table(store) == 0.9


def test_a_long_explanation_is_the_label_that_its_beginning_is(tmp_path: Path) -> None:
    """Labels hold 200 characters; an explanation that was made one may have more, and two lines."""
    store = make_store(tmp_path / "store")
    long, new = save_explanations(store.catalog, [said("dogs,\n " * 60), said("new")])
    save_scores(store.catalog, [scored(long, 0.6), scored(new, 0.9)])
    store.catalog.annotate(FEATURE, "label", normalize_label("dogs,\n " * 60))
    assert in_table(store) == 0.6


def in_table(store) -> float | None:
    said = store.catalog.snapshot()
    return (
        read_feature_rows(store.harvest(), "resid", [4], ["score"], said)
        .column("score")
        .to_pylist()[0]
    )


def test_the_table_sorts_and_filters_by_score(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    numbers = save_explanations(
        store.catalog, [said("x", FeatureId("resid", i)) for i in (2, 9, 30)]
    )
    values = [0.6, 0.9, 0.7]
    pairs = zip(numbers, zip((2, 9, 30), values, strict=True), strict=True)
    save_scores(store.catalog, [scored(n, v, feature=FeatureId("resid", i)) for n, (i, v) in pairs])
    file, said_of = store.harvest(), store.catalog.snapshot()
    order = order_features(file, "resid", FeatureQuery(order="score", descending=True), said_of)
    assert order[:4].tolist() == [9, 30, 2, 0]
    good = FeatureQuery(between=(("score", 0.65, None),), order="density")
    assert order_features(file, "resid", good, said_of).tolist() == [9, 30]
    assert len(order_features(file, "resid", good)) == 0


def test_what_is_read_is_read_once(catalog: Catalog) -> None:
    (number,) = save_explanations(catalog, [said()])
    save_scores(catalog, [scored(number)])
    first = catalog.snapshot()
    catalog.annotate(FEATURE, "star", "1")
    assert catalog.snapshot() is not first and catalog.snapshot().scores is first.scores
    assert isinstance(first.scores.of_feature(FEATURE)[0], ExplanationScore)
