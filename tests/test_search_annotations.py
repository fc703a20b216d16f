"""The copy of the catalog that pages read: kept until the file changes, and what is in it."""

from pathlib import Path

import duckdb
import pytest

from feature_store.catalog import Catalog
from feature_store.errors import InputError
from feature_store.records import FeatureId

A, B = FeatureId("resid", 1), FeatureId("resid", 2)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    found = Catalog(tmp_path / "catalog.duckdb", patience_s=0.3)
    for value in ("dogs", "pets"):
        found.annotate(A, "label", value)
    found.annotate(B, "label", "cats")
    found.annotate(B, "label", "")
    found.annotate(A, "star", "1")
    found.annotate(FeatureId("other", 1), "label", "elsewhere")
    return found


def test_a_snapshot_is_what_the_catalog_says(catalog: Catalog) -> None:
    said = catalog.snapshot()
    assert (
        said.values_of_feature(A) == {"label": "pets", "star": "1"}
        and said.values_of_feature(B) == {}
    )
    assert said.values_of_kind("resid", "label").to_pylist() == [{"feature": 1, "value": "pets"}]
    assert said.history(A) == catalog.history(A) and len(said.history(B)) == 2


def test_a_snapshot_is_kept_until_the_file_changes(catalog: Catalog) -> None:
    first = catalog.snapshot()
    assert catalog.snapshot() is first and catalog.last_snapshot() is first
    Catalog(catalog.path).annotate(B, "note", "of another process")
    assert catalog.snapshot().values_of_feature(B) == {"note": "of another process"}
    assert first.values_of_feature(B) == {}


def test_no_catalog_is_an_empty_snapshot(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "none.duckdb")
    assert (
        catalog.snapshot().values_of_feature(A) == {} and catalog.last_snapshot().history(A) == []
    )
    assert not catalog.path.exists()


def test_a_damaged_catalog_leaves_what_was_last_seen(catalog: Catalog) -> None:
    catalog.snapshot()
    catalog.path.write_bytes(b"not a database at all" * 500)
    with pytest.raises(InputError, match="is not a catalog of Saefari"):
        catalog.snapshot(0.1)
    assert catalog.last_snapshot().values_of_feature(A) == {"label": "pets", "star": "1"}


def test_a_read_only_catalog_gives_a_snapshot(catalog: Catalog) -> None:
    reader = Catalog(catalog.path)
    reader.writable = False
    assert reader.snapshot().values_of_feature(A)["label"] == "pets"
    with duckdb.connect(str(catalog.path), read_only=True):
        assert reader.snapshot().values_of_feature(A)["label"] == "pets"
