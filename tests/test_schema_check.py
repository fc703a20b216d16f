"""Databases that other programs, other versions or damage left in a store: one sentence each."""

import random
from pathlib import Path

import duckdb
import pytest

from feature_store.catalog import Catalog
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile
from feature_store.records import FeatureId
from feature_store.store import Store
from tests.stores import make_store

FEATURE = FeatureId("resid", 1)
FOREIGN = [
    ("CREATE TABLE annotation (label VARCHAR)", "annotation"),
    ("CREATE VIEW explanation AS SELECT 1", "explanation"),
    ("CREATE TABLE migration (n INTEGER)", 'column "name" not found'),
    (
        "CREATE TABLE migration (name VARCHAR); "
        "INSERT INTO migration VALUES ('0001_annotations.sql')",
        "no table 'annotation'",
    ),
]
"""Statements in an empty database, and what the sentence names."""
CHANGED = [
    ("ALTER TABLE experiment ADD COLUMN mine INTEGER", "column 'mine', which is not Saefari's"),
    ("ALTER TABLE experiment DROP COLUMN versions", "'experiment' has no column 'versions'"),
    ("DROP TABLE circuit_word", "no table 'circuit_word'"),
    ("ALTER TABLE circuit_node ALTER label TYPE BLOB", "holds BLOB and not VARCHAR"),
]
"""Statements in a catalog of ours."""


def sees(catalog: Catalog) -> str:
    """The one sentence that reading and writing give alike; nothing is changed by either."""
    before = catalog.path.read_bytes()
    said = set()
    for ask in (catalog.snapshot, lambda: catalog.annotate(FEATURE, "label", "cats")):
        with pytest.raises(InputError) as caught:
            ask()
        said.add(str(caught.value))
    assert catalog.path.read_bytes() == before
    (sentence,) = said
    assert "catalog.duckdb" in sentence and "Move it to another folder" in sentence
    return sentence


@pytest.mark.parametrize(("statement", "named"), FOREIGN)
def test_tables_of_another_program_are_not_a_catalog(
    tmp_path: Path, statement: str, named: str
) -> None:
    with duckdb.connect(str(tmp_path / "catalog.duckdb")) as db:
        db.execute(statement)
    assert named in sees(Catalog(tmp_path / "catalog.duckdb"))


@pytest.mark.parametrize(("statement", "named"), CHANGED)
def test_a_catalog_that_somebody_changed_is_refused(
    tmp_path: Path, statement: str, named: str
) -> None:
    Catalog(tmp_path / "catalog.duckdb").annotate(FEATURE, "label", "dogs")
    with duckdb.connect(str(tmp_path / "catalog.duckdb")) as db:
        db.execute(statement)
    catalog = Catalog(tmp_path / "catalog.duckdb")
    assert named in sees(catalog)


def test_another_programs_table_beside_ours_is_nobodys_business(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog.duckdb")
    with duckdb.connect(str(catalog.path)) as db:
        db.execute("CREATE TABLE mine AS SELECT 1 AS x")
    catalog.annotate(FEATURE, "label", "dogs")
    assert catalog.history(FEATURE)[0].value == "dogs"
    with duckdb.connect(str(catalog.path)) as db:
        assert db.execute("FROM mine").fetchall() == [(1,)]


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (
            "UPDATE harvest SET schema = 0",
            "an older Saefari, whose files this one cannot read (schema 0; this one",
        ),
        ("UPDATE harvest SET schema = -3", "(schema -3; this one reads 1 and 2). Harvest again"),
        ("UPDATE harvest SET schema = 3", "a newer Saefari (schema 3"),
        ("DELETE FROM harvest", "0 rows in 'harvest'"),
        ("INSERT INTO harvest FROM harvest", "2 rows in 'harvest'"),
        ("DROP TABLE silent_window", "no table 'silent_window'"),
        ("ALTER TABLE feature DROP COLUMN density", "no column 'density'"),
        ("ALTER TABLE feature ALTER density TYPE VARCHAR", "holds VARCHAR and not"),
        ("DROP TABLE harvest", "harvest"),
    ],
)
def test_a_harvest_of_another_schema_is_named(tmp_path: Path, statement: str, named: str) -> None:
    store = make_store(tmp_path / "store")
    good = store.harvest().path
    bad = good.with_name("bad.duckdb")
    bad.write_bytes(good.read_bytes())
    with duckdb.connect(str(bad)) as db:
        db.execute(statement)
    (problem,) = Store(store.path).problems()
    assert problem.startswith("bad.duckdb ") and named in problem
    assert [file.path for file in store.harvests()] == [good]


def test_an_older_catalog_that_may_not_be_written_says_so(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog.duckdb")
    catalog.annotate(FEATURE, "label", "dogs")
    with duckdb.connect(str(catalog.path)) as db:
        db.execute("DROP TABLE circuit_word")
        db.execute("DELETE FROM migration WHERE name LIKE '%circuit%'")
    reader = Catalog(catalog.path)
    reader.writable = False
    assert reader.history(FEATURE)[0].value == "dogs"
    with pytest.raises(InputError, match="an older Saefari.* once where it can be written"):  # noqa: SIM117
        with reader.read_transaction() as db:
            db.execute("FROM circuit_word")


@pytest.mark.parametrize("seed", range(4))
def test_damaged_bytes_are_refused_or_harmless(tmp_path: Path, seed: int) -> None:
    """Cut anywhere, or changed anywhere: no other error; a file that was cut is refused."""
    random_ = random.Random(seed)
    catalog = Catalog(tmp_path / "catalog.duckdb")
    for number in range(8):
        catalog.annotate(FeatureId("resid", number), "label", "dogs " * 50)
    harvest = make_store(tmp_path / "store").harvest().path
    for path in (catalog.path, tmp_path / "harvest.duckdb"):
        good = (catalog.path if path == catalog.path else harvest).read_bytes()
        content = bytearray(good)
        if seed % 2:
            content = content[: random_.randrange(len(content))]
        for _ in range(0 if seed % 2 else 200):
            content[random_.randrange(len(content))] = random_.randrange(256)
        path.write_bytes(content)
        try:
            if path == catalog.path:
                Catalog(path).snapshot()
                Catalog(path).annotate(FEATURE, "label", "cats")
            else:
                file = HarvestFile(path)
                file.payload(FeatureId("resid", 1))
        except InputError as error:
            assert path.name in str(error)
        else:
            assert not seed % 2
