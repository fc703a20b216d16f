"""The catalog: annotations with history, and sentences for a catalog that cannot be had."""

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest

from feature_store import duckdb_attachment
from feature_store.annotations import TABLE_NAMES_QUERY
from feature_store.catalog import Catalog
from feature_store.errors import InputError
from feature_store.records import FeatureId

A, B = FeatureId("resid", 1), FeatureId("resid", 2)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog.duckdb", patience_s=0.3)


def in_force(catalog: Catalog, dictionary: str = "resid") -> list[tuple]:
    rows = catalog.annotations(dictionary).to_pylist()
    return [(row["feature"], row["kind"], row["value"]) for row in rows]


def test_the_newest_of_a_kind_is_in_force_and_the_rest_is_history(catalog: Catalog) -> None:
    for value in ("dogs", "pets", "all animals"):
        catalog.annotate(A, "label", value)
    catalog.annotate(A, "star", "1")
    catalog.annotate(B, "note", "look again")
    catalog.annotate(FeatureId("other", 1), "label", "elsewhere")
    assert in_force(catalog) == [
        (1, "label", "all animals"),
        (1, "star", "1"),
        (2, "note", "look again"),
    ]
    said = [(one.kind, one.value) for one in catalog.history(A)]
    assert said == [("label", "dogs"), ("label", "pets"), ("label", "all animals"), ("star", "1")]


def test_an_empty_value_takes_back(catalog: Catalog) -> None:
    catalog.annotate(A, "label", "dogs")
    catalog.annotate(A, "label", "")
    assert in_force(catalog) == []
    assert len(catalog.history(A)) == 2


def test_a_catalog_that_nobody_wrote_is_empty_and_not_made(catalog: Catalog) -> None:
    assert in_force(catalog) == [] and catalog.history(A) == []
    assert not catalog.path.exists()


def test_text_is_kept_as_it_was_said(catalog: Catalog) -> None:
    nasty = 'it\'s "quoted"; DROP TABLE annotation; -- 🐕\n\x00 end'
    catalog.annotate(A, "note", nasty)
    assert in_force(catalog) == [(1, "note", nasty)]


def test_a_block_that_fails_leaves_nothing(catalog: Catalog) -> None:
    catalog.annotate(A, "label", "dogs")
    with pytest.raises(RuntimeError), catalog.transaction() as db:
        db.execute("DELETE FROM annotation")
        raise RuntimeError
    assert in_force(catalog) == [(1, "label", "dogs")]


def test_nothing_is_held_between_transactions(catalog: Catalog) -> None:
    """Neither by what was asked and not fetched, nor by a block that failed."""
    catalog.annotate(A, "label", "dogs")
    with catalog.transaction() as db:
        kept = [db.sql("FROM annotation"), db.execute("FROM annotation"), db.cursor()]
    assert [file.name for file in catalog.path.parent.iterdir()] == ["catalog.duckdb"]
    with pytest.raises(RuntimeError), catalog.transaction() as db:
        kept.append(db.execute("FROM annotation"))
        raise RuntimeError
    with duckdb.connect(str(catalog.path)) as db:  # refused while it is attached anywhere
        assert db.execute("SELECT count(*) FROM annotation").fetchone() == (1,)
    assert in_force(catalog) == [(1, "label", "dogs")]


def test_reading_leaves_the_file_as_it_was(catalog: Catalog) -> None:
    catalog.annotate(A, "label", "dogs")
    before = (catalog.path.stat(), catalog.path.read_bytes())
    assert in_force(catalog) and catalog.history(A) and catalog.snapshot() is catalog.snapshot()
    assert in_force(Catalog(catalog.path))  # which looks whether it is up to date
    assert catalog.path.stat().st_mtime_ns == before[0].st_mtime_ns
    assert catalog.path.read_bytes() == before[1]


def test_an_instance_serves_again_and_keeps_nothing(catalog: Catalog) -> None:
    catalog.annotate(A, "label", "dogs")
    idle = list(duckdb_attachment._idle_instances)
    with catalog.transaction() as db:
        db.execute("CREATE TEMP TABLE mine AS SELECT 1")
        db.execute("SET VARIABLE mine = 1")
    assert duckdb_attachment._idle_instances == idle
    with catalog.transaction() as db:
        assert db.execute("SELECT getvariable('mine')").fetchone() == (None,)
        assert "mine" not in {name for (name,) in db.execute(TABLE_NAMES_QUERY).fetchall()}


def test_two_catalogs_at_once_do_not_see_each_other(catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "it's another").mkdir()
    other = Catalog(tmp_path / "it's another" / "catalog.duckdb")
    other.annotate(B, "label", "cats")
    with other.transaction() as db:
        db.execute("CREATE TABLE mine AS SELECT 1")
        catalog.annotate(A, "label", "dogs")
        with catalog.transaction() as mine:
            assert "mine" not in {name for (name,) in mine.execute(TABLE_NAMES_QUERY).fetchall()}
    assert in_force(catalog) == [(1, "label", "dogs")]
    assert in_force(other) == [(2, "label", "cats")]


def test_threads_take_turns(catalog: Catalog, tmp_path: Path) -> None:
    """Also where each came to the file by a way of its own."""
    (tmp_path / "link.duckdb").symlink_to(catalog.path)
    ways = [catalog, Catalog(catalog.path), Catalog(tmp_path / "link.duckdb"), catalog]

    def work(number: int) -> None:
        for i in range(5):
            ways[number].annotate(FeatureId("resid", number), "note", str(i))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert in_force(catalog) == [(number, "note", "4") for number in range(4)]


@pytest.mark.process
def test_a_locked_catalog_names_its_holder(catalog: Catalog) -> None:
    catalog.annotate(A, "label", "dogs")
    code = (
        f"import duckdb; db = duckdb.connect({str(catalog.path)!r}); print(1, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout and other.stdout.readline()
        for ask in (lambda: catalog.annotate(A, "label", "x"), lambda: catalog.annotations("a")):
            with pytest.raises(InputError) as error:
                ask()
            assert str(error.value) == (
                f"{catalog.path} has been locked by process {other.pid} for over 0.3 s. "
                "Close that program, or wait until it is done, and try again."
            )
        other.communicate(b"\n")
    catalog.annotate(A, "label", "cats")
    assert in_force(catalog) == [(1, "label", "cats")]


def test_a_catalog_open_elsewhere_in_this_process(catalog: Catalog) -> None:
    catalog.annotate(A, "label", "dogs")
    with duckdb.connect(str(catalog.path)), pytest.raises(InputError) as error:
        catalog.annotate(A, "label", "cats", patience_s=0.1)
    assert f"has been locked by process {os.getpid()} for over 0.1 s. " in str(error.value)
    catalog.annotate(A, "label", "cats")


def test_a_newer_catalog(catalog: Catalog) -> None:
    catalog.annotate(A, "label", "dogs")
    with duckdb.connect(str(catalog.path)) as db:
        db.execute("INSERT INTO migration VALUES ('0099_dreams.sql')")
    fresh = Catalog(catalog.path)
    for ask in (lambda: fresh.annotate(A, "label", "x"), lambda: fresh.annotations("resid")):
        with pytest.raises(InputError) as error:
            ask()
        assert str(error.value) == (
            f"{catalog.path} was written by a newer Saefari (it has 0099_dreams.sql). "
            "Upgrade Saefari, or use another store."
        )


@pytest.mark.parametrize("content", [b"not a database at all" * 500, b""])
def test_a_damaged_catalog(catalog: Catalog, content: bytes) -> None:
    catalog.path.write_bytes(content)
    with pytest.raises(
        InputError, match="is not a catalog of Saefari, or it was changed or damaged"
    ):
        catalog.annotate(A, "label", "dogs")


def test_a_database_of_another_kind_is_not_looked_up_on_the_network(catalog: Catalog) -> None:
    with sqlite3.connect(catalog.path) as db:
        db.execute("CREATE TABLE annotation (label)")
    with pytest.raises(InputError, match="damaged .*is not a valid DuckDB database file"):
        catalog.annotate(A, "label", "dogs")


def test_a_read_only_catalog_is_read_and_refuses_to_write(catalog: Catalog) -> None:
    catalog.annotate(A, "label", "dogs")
    before = catalog.path.read_bytes()
    readers = [Catalog(catalog.path), Catalog(catalog.path)]
    for one in readers:
        one.writable = False
        assert in_force(one) == [(1, "label", "dogs")] and len(one.history(A)) == 1
        with pytest.raises(InputError) as error:
            one.annotate(A, "label", "cats")
        assert str(error.value) == f"{catalog.path} cannot be written: it was opened read-only."
    assert catalog.path.read_bytes() == before


def test_an_unknown_kind_is_refused(catalog: Catalog) -> None:
    with pytest.raises(duckdb.ConstraintException):
        catalog.annotate(A, "lable", "dogs")  # type: ignore[arg-type]
