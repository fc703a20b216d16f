"""A store: what it says when something is wrong, word for word, and that the rest still opens."""

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from backend.harvest.work_folder import WorkLock
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile
from feature_store.records import FeatureId
from feature_store.store import Store
from tests.stores import D_SAE, DEAD, make_store

COMMAND = "saefari harvest --model MODEL --dictionary DICTIONARY --corpus TEXT --store"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "store")


def says(error: pytest.ExceptionInfo, words: str) -> None:
    assert str(error.value) == words


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        Store(tmp_path / "no")
    says(error, f"There is no store at {tmp_path}/no. Make one: {COMMAND} {tmp_path}/no")


def test_a_folder_that_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        Store(tmp_path)
    says(
        error,
        f"{tmp_path} is not a Saefari store: it has no folder harvests/. "
        f"Make one: {COMMAND} {tmp_path}/store",
    )


def test_a_file_in_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(InputError) as error:
        Store(tmp_path / "file")
    assert "is not a Saefari store" in str(error.value)
    with pytest.raises(InputError) as error:
        Store.create(tmp_path / "file")
    says(error, f"{tmp_path}/file is a file. Give --store a folder.")
    with pytest.raises(InputError) as error:
        Store.create(tmp_path / "file" / "store")
    says(error, f"No store can be made at {tmp_path}/file/store: Not a directory.")


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(InputError) as error:
        Store.create(tmp_path)
    says(
        error,
        f"{tmp_path} holds other things and is not a Saefari store. "
        "Give --store an empty or a new folder.",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_empty_store(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    with pytest.raises(InputError) as error:
        store.harvest()
    says(
        error,
        f"The store at {store.path} holds no finished harvest. Make one: {COMMAND} {store.path}",
    )
    assert (store.harvests(), store.problems(), store.unfinished()) == ([], [], [])


def rewritten(store: Store, name: str, sql: str) -> Path:
    """A copy of the store's harvest with something changed in it."""
    path = store.path / "harvests" / f"{name}.duckdb"
    path.write_bytes((store.path / "harvests" / "tiny-0001.duckdb").read_bytes())
    with duckdb.connect(str(path)) as db:
        db.execute(sql)
    return path


def test_a_harvest_of_a_newer_saefari(store: Store) -> None:
    path = rewritten(store, "future", "UPDATE harvest SET schema = 99")
    with pytest.raises(InputError) as error:
        HarvestFile(path)
    says(
        error,
        "future.duckdb was written by a newer Saefari (schema 99; this one reads 1 and 2). "
        "Upgrade Saefari, or harvest again with --again.",
    )


@pytest.mark.parametrize("damage", ["truncated", "random", "empty"])
def test_a_damaged_harvest_is_named_and_the_others_still_open(store: Store, damage: str) -> None:
    whole = (store.path / "harvests" / "tiny-0001.duckdb").read_bytes()
    bad = {"truncated": whole[:9000], "random": os.urandom(50_000), "empty": b""}[damage]
    (store.path / "harvests" / "bad.duckdb").write_bytes(bad)
    (problem,) = store.problems()
    assert problem == (
        "bad.duckdb is not a harvest file, or it is damaged. Delete it and harvest again."
    )
    assert [file.record.id for file in store.harvests()] == ["tiny-0001"]
    assert len(store.harvest().contexts(FeatureId("resid", 1))) == 60


@pytest.mark.parametrize("tenth", range(10))
def test_damage_anywhere_in_a_harvest_is_one_sentence(store: Store, tenth: int) -> None:
    """Four kilobytes of noise: found on opening or on reading, never a traceback."""
    path = store.path / "harvests" / "tiny-0001.duckdb"
    whole = path.read_bytes()
    path.unlink()
    at = 12288 + (len(whole) - 12288) * tenth // 10
    bad = store.path / "harvests" / "bad.duckdb"
    bad.write_bytes(whole[:at] + os.urandom(4096) + whole[at + 4096 :])
    said = store.problems()
    for file in store.harvests():
        try:
            for feature in range(D_SAE):
                file.payload(FeatureId("resid", feature))
            file.feature_table("resid"), file.silent_windows("resid")
        except InputError as error:
            said.append(str(error))
    assert set(said) <= {
        "bad.duckdb is not a harvest file, or it is damaged. Delete it and harvest again."
    }


def test_a_damaged_file_does_not_hide_the_others(store: Store) -> None:
    """Cut where the header still reads, which DuckDB reports in several ways."""
    whole = (store.path / "harvests" / "tiny-0001.duckdb").read_bytes()
    for number in range(1, 9):
        bad = whole[: len(whole) * number // 9]
        (store.path / "harvests" / f"bad-{number}.duckdb").write_bytes(bad)
    assert len(store.problems()) + len(store.harvests()) == 9
    assert all(words.startswith("bad-") for words in store.problems())
    assert "tiny-0001.duckdb" in {file.path.name for file in store.harvests()}


def test_another_programs_database_is_named(store: Store) -> None:
    with duckdb.connect(str(store.path / "harvests" / "sales.duckdb")) as db:
        db.execute("CREATE TABLE sale (price INTEGER)")
    (problem,) = store.problems()
    assert problem.startswith("sales.duckdb is a DuckDB file but not a harvest that this Saefari")
    assert problem.endswith("Move it out of harvests/.") and "\n" not in problem


def test_a_harvest_without_its_row_is_incomplete(store: Store) -> None:
    rewritten(store, "half", "DELETE FROM harvest")
    assert store.problems() == [
        "half.duckdb is not a complete harvest: it has 0 rows in 'harvest'. "
        "Delete the file and harvest again."
    ]


def test_what_is_half_written_is_unfinished_and_not_a_harvest(store: Store) -> None:
    work = store.path / "work" / "begun-1"
    work.mkdir(parents=True)
    (work / "config.json").write_text("{}")
    (work / "publishing.tmp").write_bytes(b"half")
    (store.path / "work" / "planning-7").mkdir()
    assert [(one.id, one.path) for one in store.unfinished()] == [("begun-1", work)]
    assert len(store.harvests()) == 1 and not store.problems()


@pytest.mark.process
def test_a_harvest_file_that_is_being_written_names_the_writer(store: Store) -> None:
    path = store.path / "harvests" / "tiny-0001.duckdb"
    code = f"import duckdb; db = duckdb.connect({str(path)!r}); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout and writer.stdout.readline()
        (problem,) = Store(store.path).problems()
        writer.communicate(b"\n")
    assert problem == (
        f"tiny-0001.duckdb is being written by process {writer.pid}. Wait until it ends."
    )
    assert len(Store(store.path).harvests()) == 1


@pytest.mark.process
def test_work_in_another_process_names_it(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from backend.harvest.work_folder import WorkLock\n"
        f"with WorkLock(Path({str(tmp_path)!r}), 'x'): print(1, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout and other.stdout.readline()
        with pytest.raises(InputError) as error, WorkLock(tmp_path, "The harvest tiny-1"):
            pass
        other.kill()  # a lock dies with its process
    says(
        error,
        f"The harvest tiny-1 is being made by process {other.pid}. Wait until it ends, or stop it: "
        "the same command then resumes where it stopped.",
    )
    with WorkLock(tmp_path, "The harvest tiny-1"):
        pass


@pytest.mark.parametrize("index", [D_SAE, 10**12])
def test_a_feature_out_of_range(store: Store, index: int) -> None:
    with pytest.raises(InputError) as error:
        store.find_harvest(FeatureId("resid", index))
    says(error, f"There is no feature resid/{index}: resid has features 0 to 39.")


def test_a_dictionary_or_harvest_that_is_unknown(store: Store) -> None:
    with pytest.raises(InputError) as error:
        store.find_harvest(FeatureId("resd", 1))
    says(
        error,
        f"No harvest in {store.path} has a dictionary called 'resd'. Did you mean 'resid'? "
        "There are: abs, resid.",
    )
    with pytest.raises(InputError) as error:
        store.harvest("tiny-0002")
    says(error, "No harvest called 'tiny-0002'. Did you mean 'tiny-0001'? There are: tiny-0001.")
    with pytest.raises(InputError) as error:
        store.harvest().dictionary("nothing alike")
    says(
        error,
        "No dictionary in harvest tiny-0001 called 'nothing alike'. There are: abs, resid.",
    )


def test_the_newest_harvest_that_has_the_dictionary_answers(store: Store) -> None:
    rewritten(
        store,
        "newer",
        "UPDATE harvest SET id = 'newer', finished = '2027-01-01'; "
        "DELETE FROM dictionary WHERE dictionary = 'abs'",
    )
    assert store.harvest().record.id == "newer"
    assert store.find_harvest(FeatureId("resid", 1)).record.id == "newer"
    assert store.find_harvest(FeatureId("abs", 1)).record.id == "tiny-0001"


def test_a_harvest_dropped_in_or_deleted_is_seen_and_files_open_once(store: Store) -> None:
    (first,) = store.harvests()
    assert store.harvests()[0] is first
    path = rewritten(store, "more", "UPDATE harvest SET id = 'more'")
    assert {file.record.id for file in store.harvests()} == {"more", "tiny-0001"}
    path.unlink()
    assert store.harvests() == [first]


def test_a_dead_feature_has_facts_and_no_contexts(store: Store) -> None:
    file = store.harvest()
    feature = FeatureId("abs", DEAD)
    assert file.facts(feature).n_active == 0 and file.contexts(feature) == []
    assert file.payload(feature).tokens == []


def test_the_table_filters_sorts_and_pages(store: Store) -> None:
    file = store.harvest()
    every = file.feature_table("resid")
    assert every.column("feature").to_pylist() == list(range(D_SAE))
    strong = file.feature_table(
        "resid",
        between={"n_active": (50, 60)},
        order="n_active",
        descending=True,
        limit=4,
        offset=1,
    )
    assert strong.column("n_active").to_pylist() == [59, 58, 57, 56]
    last = file.feature_table("resid", order="max_act", descending=True)
    assert last.column("feature").to_pylist()[-1] == DEAD  # absent values sort last
    with pytest.raises(InputError, match="^No column called 'denstiy'. Did you mean 'density'?"):
        file.feature_table("resid", order="denstiy")


def test_around_a_peak_stays_inside_its_sequence(store: Store) -> None:
    file = store.harvest()
    for context in file.contexts(FeatureId("abs", 2)):
        begin, tokens = file.tokens_around(context, 1000, 1000)
        assert begin == 0
        assert tokens.tolist() == file.sequences.tokens(context.sequence).tolist()
        begin, tokens = file.tokens_around(context, 2, 1)
        assert begin == max(context.peak - 2, 0) and tokens[-1] in file.sequences.tokens(
            context.sequence
        )


def test_silent_windows_by_split(store: Store) -> None:
    file = store.harvest()
    score = file.silent_windows("resid", "score")
    assert {w.split for w in score} == {"score"} and len(score) == 5
    assert len(file.silent_windows("resid")) == 10
