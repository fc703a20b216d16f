"""A person's SQL over a harvest and the annotations: read-only, in a process that can be stopped.

The query never holds the catalog: it gets a copy of the annotations. What it may not do (no files,
no extensions, no settings) DuckDB itself refuses, in console_worker.py: one process a query.
"""

import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.annotations import ANNOTATION_SCHEMA, Annotations
from feature_store.errors import InputError
from feature_store.explanation_scores import SCORE_SCHEMA as SCORE
from feature_store.explanations import EXPLANATION_SCHEMA as EXPLANATION
from feature_store.feature_lists import ENTRY_SCHEMA, HEADING_SCHEMA
from feature_store.harvest_reader import HarvestFile
from feature_store.harvest_writer import SCHEMA_FILE
from feature_store.private_paths import hide_paths, private_paths
from feature_store.store import Store
from feature_store.strict_json import dump_json

WORKER = Path(__file__).with_name("console_worker.py")
QUERY_SECONDS = 10.0
"""A query is stopped after this long; the start of its process does not count."""
START_SECONDS = 60.0
"""How long a process may take to begin with the query."""
MAX_ROWS = 10_000
PATIENCE_S = 2.0
"""How long a query waits for another process that has the catalog."""
MEMORY_MEGABYTES = 256
"""DuckDB's memory; an answer may take a quarter of it."""

CATALOG_TABLES = {
    "annotation": ANNOTATION_SCHEMA,
    "feature_list": HEADING_SCHEMA,
    "list_entry": ENTRY_SCHEMA,
    "explanation": EXPLANATION,
    "score": SCORE,
}
"""The tables of the catalog that a query sees, with their columns."""


class SqlError(InputError):
    """What DuckDB, or the console, says against a query; its lines are meant to be kept."""


@dataclass(frozen=True)
class SqlResult:
    """What a query gave."""

    table: pa.Table
    cut: bool
    """Whether there were more than ROWS rows."""
    seconds: float


class SqlQuery:
    """One query under way in its own process."""

    def __init__(self, store: Store, harvest: HarvestFile, sql: str) -> None:
        """Start it. Raises InputError where the catalog cannot be read."""
        said = select_catalog_tables(store.catalog.snapshot(PATIENCE_S), sql)
        request = {
            "tables": list(said),
            "harvest": str(harvest.path.resolve()),
            "sql": sql,
            "rows": MAX_ROWS + 1,
            "megabytes": MEMORY_MEGABYTES,
            "seconds": QUERY_SECONDS,
        }
        sent = dump_json(request).encode() + b"\n" + b"".join(map(serialize_table, said.values()))
        self.sql = sql
        self.started = time.monotonic()
        self._private = private_paths(store.path, harvest.path)
        self._outcome: SqlResult | SqlError | None = None
        self._cancelled = False
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER)],  # -P: modules beside the script shadow nothing
            bufsize=0,  # what is read line by line must not be read ahead
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._thread = threading.Thread(target=self._run, args=[sent], daemon=True)
        self._thread.start()

    def wait(self, seconds: float | None = None) -> bool:
        """Whether it has ended, after `seconds` at most."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def cancel(self) -> None:
        """Stop it now; an ended query stays as it is."""
        self._cancelled = True
        self._process.kill()

    def answer(self) -> SqlResult:
        """Wait for the answer. Raises SqlError with what was said against the query."""
        self.wait()
        if isinstance(self._outcome, SqlResult):
            return self._outcome
        raise self._outcome or SqlError("The query ended without an answer.")

    def _run(self, given: bytes) -> None:
        if not self._begin(given):
            self._outcome = SqlError(
                f"The query's process did not begin within {START_SECONDS:g} s: this machine is "
                "too busy. Try again."
            )
            return
        self.started = time.monotonic()
        try:
            out, said = self._process.communicate(timeout=QUERY_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            self._outcome = SqlError(
                f"Stopped after {QUERY_SECONDS:g} s. Ask for less: one dictionary, or smaller "
                f"joins."
            )
            return
        seconds = time.monotonic() - self.started
        if self._cancelled and self._process.returncode:
            self._outcome = SqlError("Cancelled.")
        elif self._process.returncode:
            sentence = describe_worker_failure(said.decode(errors="replace"))
            self._outcome = SqlError(hide_paths(sentence, self._private))
        else:
            table = hide_table_paths(pa.ipc.open_stream(out).read_all(), self._private)
            self._outcome = SqlResult(table.slice(0, MAX_ROWS), table.num_rows > MAX_ROWS, seconds)

    def _begin(self, given: bytes) -> bool:
        """Send the request and wait until the worker begins with the query; False if it does not.

        A worker that ended meanwhile has begun, too: what it says is read afterwards.
        """
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self._process.kill()

        clock = threading.Timer(START_SECONDS, give_up)
        clock.start()
        try:
            source, target = self._process.stdin, self._process.stdout
            assert source is not None and target is not None
            left = memoryview(given)
            with suppress(BrokenPipeError), source:
                while left:
                    left = left[source.write(left) :]
            self._process.stdin = None  # it is closed, and communicate() would flush it
            target.readline()
        finally:
            clock.cancel()
        if late.is_set():
            self._process.communicate()
        return not late.is_set()


def select_catalog_tables(said: Annotations, sql: str) -> dict[str, pa.Table]:
    """The catalog's tables by name; those that a query does not name are sent without rows."""
    tables = [said.every, *said.lists.tables(), said.explanations.table, said.scores.table]
    return {
        name: table if name in sql.casefold() else table.schema.empty_table()
        for name, table in zip(CATALOG_TABLES, tables, strict=True)
    }


def hide_table_paths(table: pa.Table, private: list[str]) -> pa.Table:
    """Return a table whose texts name none of these paths.

    The worker refuses the queries that would show one; this holds for those that nobody thought of.
    """
    for i, field in enumerate(table.schema):
        if not pa.types.is_string(field.type):
            continue
        column = table.column(i)
        for path in private:
            options = pc.ReplaceSubstringOptions(path, Path(path).name)
            column = pc.call_function("replace_substring", [column], options)
        table = table.set_column(i, field, column)
    return table


def describe_worker_failure(said: str) -> str:
    """The worker's last words; without any it was stopped by the system, for its memory."""
    if not said.strip() or "Traceback" in said or "terminate called" in said:
        return f"The query needs more than {MEMORY_MEGABYTES} MB of memory. Ask for less at once."
    return said.strip()


def run_query(store: Store, harvest_id: str, sql: str) -> SqlResult:
    """Answer one query over a harvest. Raises SqlError with what was said against it."""
    return SqlQuery(store, store.harvest(harvest_id), sql).answer()


def serialize_table(table: pa.Table) -> bytes:
    """A table as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    return sink.getvalue().to_pybytes()


@cache
def list_console_tables() -> dict[str, list[tuple[str, str]]]:
    """Every table that a query may name, with its columns' names and types."""
    with duckdb.connect(config={"threads": 1}) as db:
        db.execute(SCHEMA_FILE.read_text(encoding="utf-8"))
        for name, shape in CATALOG_TABLES.items():
            db.register("incoming", shape.empty_table())
            db.execute(f"CREATE TABLE {name} AS SELECT * FROM incoming")
            db.unregister("incoming")
        rows = db.execute(
            "SELECT table_name, column_name, data_type FROM duckdb_columns() "
            "WHERE schema_name = 'main' AND NOT internal "
            "ORDER BY table_oid, column_index"
        ).fetchall()
    found: dict[str, list[tuple[str, str]]] = {}
    for table, column, kind in rows:
        found.setdefault(table, []).append((column, kind))
    return found
