"""The table of features: DuckDB's filters, orders and pages against the same done by hand."""

from pathlib import Path

import numpy as np
import pytest

from feature_store.annotations import Annotations
from feature_store.errors import InputError
from feature_store.exchange.shapes import checked
from feature_store.exchange.taking import take_in
from feature_store.reader import SCALARS, HarvestFile
from feature_store.records import FeatureId
from feature_store.table import NUMBERS, SORTED, Wanted, ordering, rows
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
@pytest.mark.parametrize("column", SCALARS)
def test_every_column_sorts_and_what_is_missing_comes_last(stored, column, descending) -> None:
    file, said = stored
    wanted = Wanted(order=column, descending=descending)
    values = file.feature_table("resid").column(column).to_pylist()
    known = sorted(
        (i for i in range(D_SAE) if values[i] is not None),
        key=lambda i: ((-1 if descending else 1) * values[i], i),
    )
    missing = [i for i in range(D_SAE) if values[i] is None]
    assert ordering(file, "resid", wanted, said).tolist() == known + missing


def test_bounds_hold_at_both_ends_and_an_open_end_is_open(stored) -> None:
    file, said = stored
    between = (("n_active", 45, 50), ("max_act", None, 1e9))
    assert ordering(file, "resid", Wanted(between), said).tolist() == [5, 6, 8, 9, 10]
    assert DEAD not in ordering(file, "resid", Wanted((("max_act", 0, None),)), said)


def test_labels_filter_and_sort_in_any_case(stored) -> None:
    file, said = stored
    found = ordering(file, "resid", Wanted(says="pArk", order="label"), said)
    assert found.tolist() == [9, 4]
    labelled = Wanted(having=("label",), order="label", descending=True)
    assert ordering(file, "resid", labelled, said).tolist() == [4, 2, 9]
    assert ordering(file, "resid", Wanted(having=("label", "star")), said).tolist() == [9]
    assert len(ordering(file, "resid", Wanted(having=("label",)))) == 0


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
    take_in(store.catalog, checked("explanations", lines, "rows"))
    store.catalog.annotate(FeatureId("resid", 4), "label", "Park")
    file, said = store.harvest(), store.catalog.snapshot()
    named = rows(file, "resid", [7, 4, 1, 0], ["feature", "label"], said)
    assert named.column("label").to_pylist() == ["abc", "Park", "zoo", None]
    assert [said.called.of(("resid", i)) for i in (7, 4, 1, 0)] == ["abc", "Park", "zoo", ""]
    assert [said.called.short(("resid", i)) for i in (7, 0)] == ["abc", ""]
    assert ordering(file, "resid", Wanted(order="label"), said)[:3].tolist() == [7, 4, 1]
    assert ordering(file, "resid", Wanted(says="ZO"), said).tolist() == [1]
    assert ordering(file, "resid", Wanted(having=("label",)), said).tolist() == [4]


def test_only_some_features(stored) -> None:
    file, said = stored
    wanted = Wanted(among=(30, 3, 12), order="n_active", descending=True)
    assert ordering(file, "resid", wanted, said).tolist() == [30, 12, 3]


def test_a_pages_rows_come_in_the_order_asked_for(stored) -> None:
    file, said = stored
    asked = np.array([9, 0, 4, DEAD], dtype=np.int32)
    page = rows(file, "resid", asked, ["feature", "label", "max_act", "promoted"], said)
    assert page.column("feature").to_pylist() == asked.tolist()
    assert page.column("label").to_pylist() == [LABELS[9], None, LABELS[4], None]
    held = file.feature_table("resid").column("max_act").to_pylist()
    assert page.column("max_act").to_pylist() == [held[i] for i in asked]
    assert page.column("promoted").to_pylist() == [[2, 3, 8]] * 4
    assert rows(file, "resid", [], said=said).num_rows == 0


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        (Wanted((("densty", 0, 1),)), "Did you mean 'density'"),
        (Wanted(order="promoted"), "No column to sort by called 'promoted'"),
        (Wanted(having=("note",)), "Features have no 'note' to ask for"),
    ],
)
def test_mistakes_are_sentences(stored, wanted: Wanted, sentence: str) -> None:
    file, said = stored
    with pytest.raises(InputError, match=sentence):
        ordering(file, "resid", wanted, said)
    assert set(SORTED) > set(NUMBERS)
