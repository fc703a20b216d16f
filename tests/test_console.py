"""SQL over a harvest: what it answers, what it refuses, and that it can always be stopped."""

import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from feature_store import feature_list_edits, sql_console, sql_console_worker
from feature_store.exchange.import_rows import check_rows
from feature_store.exchange.import_writer import save_import
from feature_store.records import FeatureId
from feature_store.sql_console import MAX_ROWS, SqlError, SqlQuery, run_query
from feature_store.store import Store
from tests.stores import make_store

pytestmark = pytest.mark.process
HARVEST = "tiny-0001"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = make_store(tmp_path_factory.mktemp("console") / "sto're")
    store.catalog.annotate(FeatureId("resid", 3), "label", "parks; '</script>'")
    return store


@pytest.fixture
def db(store: Store) -> Iterator[duckdb.DuckDBPyConnection]:
    """What the worker's process has, in this one: quick to ask many things."""
    path = store.harvest(HARVEST).path
    store.harvest(HARVEST).close()  # one process has a file in one configuration only
    said = sql_console.select_catalog_tables(
        store.catalog.snapshot(), " ".join(sql_console.CATALOG_TABLES)
    )
    with sql_console_worker.open_confined_database(str(path), said, 256) as db:
        yield db


def refusal(store: Store, sql: str) -> str:
    with pytest.raises(SqlError) as caught:
        run_query(store, HARVEST, sql)
    return str(caught.value)


def refused(db: duckdb.DuckDBPyConnection, sql: str) -> str:
    with pytest.raises((SystemExit, duckdb.Error)) as caught:
        sql_console_worker.run_read_query(db, sql, 10, 64)
    return str(caught.value)


def test_harvest_and_annotations_join(store: Store) -> None:
    found = run_query(
        store,
        HARVEST,
        "SELECT feature, value, n_active FROM annotation JOIN feature USING (dictionary, feature)",
    )
    assert found.table.to_pylist() == [
        {"feature": 3, "value": "parks; '</script>'", "n_active": 43}
    ]
    assert not found.truncated


def test_whole_numbers_stay_whole_and_odd_types_become_words(store: Store) -> None:
    sql = 'SELECT sum(n_active) s, INTERVAL 1 DAY AS "a ""b", 1 x, 2 x FROM feature'
    table = run_query(store, HARVEST, sql).table
    assert table.schema.field("s").type == pa.int64()
    assert table.column('a "b').to_pylist() == ["1 day"]
    assert len(set(table.column_names)) == 4


@pytest.mark.parametrize(
    "sql",
    [
        "PIVOT (SELECT dictionary, split FROM context) ON split",
        "SHOW TABLES",
        "DESCRIBE feature",
        "EXPLAIN SELECT 1",
        "FROM harvest.feature;",
        "VALUES (1)",
    ],
)
def test_every_way_of_reading_works(db: duckdb.DuckDBPyConnection, sql: str) -> None:
    assert sql_console_worker.run_read_query(db, sql, 10, 64).num_rows


def test_rows_beyond_the_limit_are_cut_and_it_says_so(store: Store) -> None:
    exact = run_query(store, HARVEST, f"SELECT * FROM range({MAX_ROWS})")
    more = run_query(
        store, HARVEST, f"SELECT range AS r FROM range({MAX_ROWS + 1}) ORDER BY r DESC"
    )
    assert (exact.table.num_rows, exact.truncated) == (MAX_ROWS, False)
    assert (more.table.num_rows, more.truncated) == (MAX_ROWS, True)
    assert more.table.column("r")[0].as_py() == MAX_ROWS


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO annotation SELECT * FROM annotation",
        "DELETE FROM harvest.feature",
        "UPDATE feature SET density = 0",
        "DROP TABLE annotation",
        "CREATE TABLE t AS SELECT 1",
        "SET threads = 4",
        "PRAGMA enable_profiling",
        "RESET memory_limit",
        "DETACH harvest",
        "ATTACH 'other.duckdb'",
        "COPY (SELECT 1) TO 'out.csv'",
        "EXPORT DATABASE 'out'",
        "INSTALL fts",
        "LOAD fts",
        "CALL pragma_version()",
        "BEGIN",
        "CHECKPOINT",
        "USE harvest",
    ],
)
def test_whatever_is_not_reading_is_refused(db: duckdb.DuckDBPyConnection, sql: str) -> None:
    assert "The console only reads, and this is" in refused(db, sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM read_text('{file}')",
        "SELECT * FROM read_blob('{file}')",
        "SELECT * FROM glob('{file}')",
        "SELECT * FROM read_parquet('{file}')",
        "SELECT * FROM '{file}'",
        "SELECT * FROM read_json('{file}')",
        "SELECT * FROM query('FROM read_csv(''{file}'')')",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{file}.out'",
        "FROM read_csv('http://127.0.0.1:9/a')",
        "SELECT getenv('HOME')",
    ],
)
def test_files_and_variables_are_out_of_reach(
    db: duckdb.DuckDBPyConnection, sql: str, tmp_path: Path
) -> None:
    """Within a SELECT too: by DuckDB, whose own words are shown."""
    file = tmp_path / "secret.csv"
    file.write_text("secret\n1\n")
    said = refused(db, sql.format(file=file))
    assert "Error" in said or "The console refuses" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret.csv"]


def test_a_python_variable_is_no_table(db: duckdb.DuckDBPyConnection) -> None:
    secret = pa.table({"a": [1]})
    with pytest.raises(duckdb.CatalogException, match="secret"):
        db.sql("FROM secret")
    assert secret.num_rows


def test_duckdbs_own_message_is_kept_with_its_lines(store: Store) -> None:
    said = refusal(store, "SELECT densty FROM feature")
    assert "Binder Error" in said and '"density"' in said and "\n" in said


@pytest.mark.parametrize(("sql", "n"), [("", 0), ("-- nothing", 0), ("SELECT 1; SELECT 2", 2)])
def test_one_query_at_a_time(db: duckdb.DuckDBPyConnection, sql: str, n: int) -> None:
    assert refused(db, sql) == f"Write one query: there are {n} here."


ENDLESS = "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range * b.range = 7"


def test_a_query_that_takes_too_long_is_stopped(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_console, "QUERY_SECONDS", 1.5)  # the process itself takes part of it
    assert refusal(store, ENDLESS).startswith("Stopped after 1.5 s.")


def test_cancelling_ends_the_process_at_once(store: Store) -> None:
    query = SqlQuery(store, store.harvest(HARVEST), ENDLESS)
    assert not query.wait(0.5)
    begun = time.monotonic()
    query.cancel()
    with pytest.raises(SqlError, match="Cancelled"):
        query.result()
    assert time.monotonic() - begun < 1
    assert query._process.poll() is not None


@pytest.mark.parametrize(
    "sql",
    ["SELECT list(range) FROM range(100000000)", "SELECT repeat('a', 50000000) FROM range(50)"],
)
def test_memory_is_limited(store: Store, sql: str) -> None:
    assert any(word in refusal(store, sql).lower() for word in ("memory", "is the most"))


def test_the_tables_named_at_the_side_are_those_that_answer(
    db: duckdb.DuckDBPyConnection,
) -> None:
    """Every table and column, once; the names are what a query may use."""
    assert {"feature", "context", "token", "annotation"} <= sql_console.list_console_tables().keys()
    for table, columns in sql_console.list_console_tables().items():
        found = sql_console_worker.run_read_query(db, f'SELECT * FROM "{table}" LIMIT 0', 10, 64)
        assert found.column_names == [name for name, _ in columns]


def test_lists_and_explanations_are_there_to_join(store: Store) -> None:
    one = feature_list_edits.create_list(store.catalog, "dogs")
    feature_list_edits.add_features(store.catalog, one, [FeatureId("resid", 3)])
    row = {
        "dictionary": "resid",
        "feature": 3,
        "text": "dogs",
        "explainer": "",
        "model": "",
        "author": "person",
        "provenance": "{}",
    }
    save_import(store.catalog, check_rows("explanations", [row], "rows"))
    joined = """SELECT name, text, n_active FROM list_entry JOIN feature_list USING (list)
        JOIN explanation USING (dictionary, feature) JOIN feature USING (dictionary, feature)"""
    assert run_query(store, HARVEST, joined).table.to_pylist() == [
        {"name": "dogs", "text": "dogs", "n_active": 43}
    ]
    shown = run_query(store, HARVEST, "SELECT DISTINCT table_name FROM duckdb_columns()").table
    assert {"feature_list", "list_entry", "explanation", "score"} <= set(
        shown["table_name"].to_pylist()
    )
    assert {
        "feature_list",
        "list_entry",
        "explanation",
        "score",
    } <= sql_console.list_console_tables().keys()


def test_the_clock_begins_with_the_query_and_not_with_its_process(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that takes longer to begin than a query may take answers all the same."""
    monkeypatch.setattr(sql_console, "QUERY_SECONDS", 0.6)
    slow = WORKER_START.replace("WORKER", str(sql_console.WORKER))
    path = store.path / "slow_worker.py"
    path.write_text(slow)
    monkeypatch.setattr(sql_console, "WORKER", path)
    answer = run_query(store, HARVEST, "SELECT 1 AS one")
    assert answer.table.to_pylist() == [{"one": 1}] and answer.seconds < 0.6
    monkeypatch.setattr(sql_console, "START_SECONDS", 0.2)
    assert "did not start within 0.2 s" in refusal(store, "SELECT 1")


WORKER_START = """
import runpy, time
time.sleep(1.2)
runpy.run_path("WORKER", run_name="__main__")
"""


def own_tables(db: duckdb.DuckDBPyConnection) -> list[str]:
    """Every query of DuckDB's own tables, views and functions without arguments."""
    views = db.execute(
        "SELECT DISTINCT 'FROM system.' || schema_name || '.' || view_name "
        "FROM duckdb_views() WHERE internal"
    ).fetchall()
    functions = db.execute(
        "SELECT DISTINCT CASE function_type WHEN 'table' THEN 'FROM ' ELSE 'SELECT ' END "
        "|| function_name || '()' FROM duckdb_functions() "
        "WHERE function_type IN ('table', 'scalar', 'macro') AND len(parameters) = 0 "
        "AND regexp_matches(function_name, '^[a-z_]+$')"
    ).fetchall()
    settings = db.execute("SELECT name FROM duckdb_settings()").fetchall()
    asked = [f"SELECT current_setting('{name}')" for (name,) in settings]
    return sorted(asked + [sql for (sql,) in [*views, *functions]])


def test_no_query_tells_where_files_lie(store: Store, db: duckdb.DuckDBPyConnection) -> None:
    """Whatever DuckDB has of its own is answered without a path, or not at all."""
    private = [str(store.path.parent), str(Path.home())]
    queries = [*own_tables(db), *TRICKS]
    assert len(queries) > 200
    answered = 0
    for sql in queries:
        try:
            table = sql_console_worker.run_read_query(db, sql, 1000, 64)
        except (SystemExit, duckdb.Error) as refusal_:
            said = str(refusal_)
        else:
            said = str(table.to_pylist())
            answered += 1
        assert not [path for path in private if path in said], sql
    assert answered > 20


TRICKS = [
    'SELECT path FROM "duckdb_databases"()',
    "SELECT reverse(path) FROM system.main.duckdb_databases",
    "FROM/**/DUCKDB_DATABASES( )",
    "FROM query('FROM duckdb_data' || 'bases()')",
    "FROM \"query\" /* a /* b */ c */ ('FROM duckdb_data' || 'bases()')",
    "FROM query -- x\n ('SELECT 1')",
    "FROM query_table('duckdb_' || 'databases')",
    "FROM query_table(['duckdb_' || 'databases'])",
    "FROM json_execute_serialized_sql(json_serialize_sql('FROM duckdb_data' || 'bases()'))",
    "SELECT hex(current_setting('secret_directory'))",
    "SELECT (SELECT string_agg(value) FROM duckdb_settings())",
    "EXPLAIN FROM duckdb_databases()",
    "EXPLAIN ANALYZE FROM duckdb_databases()",
    "PIVOT duckdb_databases() ON path USING count(*)",
    "SHOW DATABASES",
    "DESCRIBE duckdb_databases",
    "SUMMARIZE duckdb_databases",
    "FROM duckdb_secrets()",
    "SELECT getenv('HOME')",
    "FROM glob('*')",
    "FROM '/etc/passwd'",
    "FROM read_text('/etc/passwd')",
    "FROM pragma_storage_info('harvest.harvest')",
    "WITH a AS MATERIALIZED (FROM pragma_database_list) FROM a",
]
"""Ways around a list of names."""


def test_common_words_are_answered(db: duckdb.DuckDBPyConnection) -> None:
    """`query` is closed as a function only; DuckDB's tables of tables are open."""
    for sql in (
        "SELECT 'query' AS query, ' query (a)' AS text",
        "WITH query AS (SELECT 1 AS é) SELECT é FROM query",
        "SELECT column_name FROM duckdb_columns() WHERE table_name = 'feature'",
        "FROM pragma_table_info('feature')",
    ):
        assert sql_console_worker.run_read_query(db, sql, 10, 64).num_rows


def test_paths_are_hidden_in_what_a_query_gives_and_in_its_errors(store: Store) -> None:
    """Also where the query itself made the text: what it names is not said by this machine."""
    quoted = str(store.path.resolve()).replace("'", "''")
    found = run_query(store, HARVEST, f"SELECT '{quoted}/catalog.duckdb' AS path, NULL AS x").table
    (row,) = found.to_pylist()
    assert row["path"] == f"{store.path.name}/catalog.duckdb"
    assert str(store.path.parent) not in refusal(store, f"FROM '{quoted}/no.csv'")
