"""The table of features: DuckDB's filters, orders and pages against the same done by hand."""

from pathlib import Path

import numpy as np
import pytest

from feature_store.annotations import Annotations
from feature_store.errors import InputError
from feature_store.exchange.import_rows import check_rows
from feature_store.exchange.import_writer import save_import
from feature_store.feature_table import (
    NUMBER_COLUMNS,
    SORT_COLUMNS,
    FeatureQuery,
    order_features,
    read_feature_rows,
)
from feature_store.harvest_reader import SCALAR_COLUMNS, HarvestFile
from feature_store.records import FeatureId
from tests.stores import D_SAE, DEAD, make_store

LABELS = {4: "Park bench", 2: "dogs", 9: "a walk in the PARK"}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[HarvestFile, Annotations]:
    store = make_store(Path(tmp_path_factory.mktemp("table")) / "store")
    for index, label in LABELS.items():
        store.catalog.annotate(FeatureId("resid", index), "label", label)
    store.catalog.annotate(FeatureId("resid", 9), "star", "1")
    store.catalog.annotate(FeatureId("abs", 3), "label", "park of the other dictionary")
    return store.harvest(), store.catalog.snapshot()


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("column", SCALAR_COLUMNS)
def test_every_column_sorts_and_what_is_missing_comes_last(stored, column, descending) -> None:
    file, said = stored
    wanted = FeatureQuery(order=column, descending=descending)
    values = file.feature_table("resid").column(column).to_pylist()
    known = sorted(
        (i for i in range(D_SAE) if values[i] is not None),
        key=lambda i: ((-1 if descending else 1) * values[i], i),
    )
    missing = [i for i in range(D_SAE) if values[i] is None]
    assert order_features(file, "resid", wanted, said).tolist() == known + missing


def test_bounds_hold_at_both_ends_and_an_open_end_is_open(stored) -> None:
    file, said = stored
    between = (("n_active", 45, 50), ("max_act", None, 1e9))
    assert order_features(file, "resid", FeatureQuery(between), said).tolist() == [5, 6, 8, 9, 10]
    assert DEAD not in order_features(file, "resid", FeatureQuery((("max_act", 0, None),)), said)


def test_labels_filter_and_sort_in_any_case(stored) -> None:
    file, said = stored
    found = order_features(file, "resid", FeatureQuery(name_contains="pArk", order="label"), said)
    assert found.tolist() == [9, 4]
    labelled = FeatureQuery(required_annotations=("label",), order="label", descending=True)
    assert order_features(file, "resid", labelled, said).tolist() == [4, 2, 9]
    assert order_features(
        file, "resid", FeatureQuery(required_annotations=("label", "star")), said
    ).tolist() == [9]
    assert len(order_features(file, "resid", FeatureQuery(required_annotations=("label",)))) == 0


def test_an_explanation_stands_where_nobody_gave_a_label(tmp_path: Path) -> None:
    """The newest one; a person's label comes before it, and only that counts as labelled."""
    store = make_store(tmp_path / "store")
    texts = [(1, "old words"), (4, "not shown"), (1, "zoo"), (7, "abc")]
    lines = [
        {
            "dictionary": "resid",
            "feature": feature,
            "text": text,
            "explainer": "",
            "model": "",
            "author": "model",
            "provenance": "{}",
        }
        for feature, text in texts
    ]
    save_import(store.catalog, check_rows("explanations", lines, "rows"))
    store.catalog.annotate(FeatureId("resid", 4), "label", "Park")
    file, said = store.harvest(), store.catalog.snapshot()
    named = read_feature_rows(file, "resid", [7, 4, 1, 0], ["feature", "label"], said)
    assert named.column("label").to_pylist() == ["abc", "Park", "zoo", None]
    assert [said.feature_names.name_of(("resid", i)) for i in (7, 4, 1, 0)] == [
        "abc",
        "Park",
        "zoo",
        "",
    ]
    assert [said.feature_names.short_name_of(("resid", i)) for i in (7, 0)] == ["abc", ""]
    assert order_features(file, "resid", FeatureQuery(order="label"), said)[:3].tolist() == [
        7,
        4,
        1,
    ]
    assert order_features(file, "resid", FeatureQuery(name_contains="ZO"), said).tolist() == [1]
    assert order_features(
        file, "resid", FeatureQuery(required_annotations=("label",)), said
    ).tolist() == [4]


def test_only_some_features(stored) -> None:
    file, said = stored
    wanted = FeatureQuery(only_features=(30, 3, 12), order="n_active", descending=True)
    assert order_features(file, "resid", wanted, said).tolist() == [30, 12, 3]


def test_a_pages_rows_come_in_the_order_asked_for(stored) -> None:
    file, said = stored
    asked = np.array([9, 0, 4, DEAD], dtype=np.int32)
    page = read_feature_rows(
        file, "resid", asked, ["feature", "label", "max_act", "promoted"], said
    )
    assert page.column("feature").to_pylist() == asked.tolist()
    assert page.column("label").to_pylist() == [LABELS[9], None, LABELS[4], None]
    held = file.feature_table("resid").column("max_act").to_pylist()
    assert page.column("max_act").to_pylist() == [held[i] for i in asked]
    assert page.column("promoted").to_pylist() == [[2, 3, 8]] * 4
    assert read_feature_rows(file, "resid", [], annotations=said).num_rows == 0


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        (FeatureQuery((("densty", 0, 1),)), "Did you mean 'density'"),
        (FeatureQuery(order="promoted"), "No column to sort by called 'promoted'"),
        (FeatureQuery(required_annotations=("note",)), "Features cannot be filtered by 'note'"),
    ],
)
def test_mistakes_are_sentences(stored, wanted: FeatureQuery, sentence: str) -> None:
    file, said = stored
    with pytest.raises(InputError, match=sentence):
        order_features(file, "resid", wanted, said)
    assert set(SORT_COLUMNS) > set(NUMBER_COLUMNS)
