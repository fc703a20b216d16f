"""SQL console: run a person's read-only SQL query over a harvest and the annotations, in a process
that can be stopped.

A query gets a copy of the annotations and never holds the catalog open. DuckDB itself refuses
access to files, extensions and settings: see sql_console_worker.py, of which each query starts one
process.
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

WORKER = Path(__file__).with_name("sql_console_worker.py")
QUERY_SECONDS = 10.0
"""Seconds after which a console query is stopped; the start of its process does not count."""
START_SECONDS = 60.0
"""Seconds within which a console query's process must have started."""
MAX_ROWS = 10_000
PATIENCE_S = 2.0
"""Seconds for which a console query waits for another process that has the catalog."""
MEMORY_MEGABYTES = 256
"""DuckDB's memory limit for a console query in megabytes; the result may take a quarter of it."""

CATALOG_TABLES = {
    "annotation": ANNOTATION_SCHEMA,
    "feature_list": HEADING_SCHEMA,
    "list_entry": ENTRY_SCHEMA,
    "explanation": EXPLANATION,
    "score": SCORE,
}
"""The catalog's tables that a console query can read, with their columns."""


class SqlError(InputError):
    """Error that DuckDB or the SQL console raises for a query; it is shown with its line breaks."""


@dataclass(frozen=True)
class SqlResult:
    """Result of a console query: its rows and how long it took."""

    table: pa.Table
    truncated: bool
    """Whether the query gave more than MAX_ROWS rows, of which the rest was dropped."""
    seconds: float


class SqlQuery:
    """A console query that runs in its own process."""

    def __init__(self, store: Store, harvest: HarvestFile, sql: str) -> None:
        """Start the SQL query in a new process. Raises InputError if the catalog cannot be read."""
        tables = select_catalog_tables(store.catalog.snapshot(PATIENCE_S), sql)
        request = {
            "tables": list(tables),
            "harvest": str(harvest.path.resolve()),
            "sql": sql,
            "rows": MAX_ROWS + 1,
            "megabytes": MEMORY_MEGABYTES,
            "seconds": QUERY_SECONDS,
        }
        sent = dump_json(request).encode() + b"\n" + b"".join(map(serialize_table, tables.values()))
        self.sql = sql
        self.started = time.monotonic()
        self._private = private_paths(store.path, harvest.path)
        self._outcome: SqlResult | SqlError | None = None
        self._cancelled = False
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                str(WORKER),
            ],  # -P: modules in the script's folder shadow nothing
            bufsize=0,  # what is read line by line must not be read ahead
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._thread = threading.Thread(target=self._run, args=[sent], daemon=True)
        self._thread.start()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the SQL query for up to `seconds`; return whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def cancel(self) -> None:
        """Stop the SQL query's process now; a query that has ended is not changed."""
        self._cancelled = True
        self._process.kill()

    def result(self) -> SqlResult:
        """Wait for the SQL query and return its result. Raises SqlError with the query's error
        message."""
        self.wait()
        if isinstance(self._outcome, SqlResult):
            return self._outcome
        raise self._outcome or SqlError("The query ended without an answer.")

    def _run(self, request: bytes) -> None:
        """Send the request to the worker process, wait for its reply and store the SQL result or
        error."""
        if not self._begin(request):
            self._outcome = SqlError(
                f"The query's process did not start within {START_SECONDS:g} s: this machine is "
                "too busy. Try again."
            )
            return
        self.started = time.monotonic()
        try:
            out, message = self._process.communicate(timeout=QUERY_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            self._outcome = SqlError(
                f"Stopped after {QUERY_SECONDS:g} s. Query one dictionary, or use smaller joins."
            )
            return
        seconds = time.monotonic() - self.started
        if self._cancelled and self._process.returncode:
            self._outcome = SqlError("Cancelled.")
        elif self._process.returncode:
            sentence = describe_worker_failure(message.decode(errors="replace"))
            self._outcome = SqlError(hide_paths(sentence, self._private))
        else:
            table = hide_table_paths(pa.ipc.open_stream(out).read_all(), self._private)
            self._outcome = SqlResult(table.slice(0, MAX_ROWS), table.num_rows > MAX_ROWS, seconds)

    def _begin(self, request: bytes) -> bool:
        """Send the request and wait until the worker process starts the SQL query; return False if
        it does not within START_SECONDS.

        A worker that ends early counts as started: its output is read afterwards.
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
            left = memoryview(request)
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


def select_catalog_tables(annotations: Annotations, sql: str) -> dict[str, pa.Table]:
    """Return the catalog's tables that an SQL console query can read, by name; those that the SQL
    does not name are empty, so that their rows are not sent."""
    tables = [
        annotations.all_rows,
        *annotations.lists.tables(),
        annotations.explanations.table,
        annotations.scores.table,
    ]
    return {
        name: table if name in sql.casefold() else table.schema.empty_table()
        for name, table in zip(CATALOG_TABLES, tables, strict=True)
    }


def hide_table_paths(table: pa.Table, private: list[str]) -> pa.Table:
    """Return a console query's result with private paths in its texts shortened to their last part.

    The worker already refuses the queries that are known to reveal paths; this covers the others.
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


def describe_worker_failure(message: str) -> str:
    """Return the console worker's error message; one that left none was killed for its memory
    use."""
    if not message.strip() or "Traceback" in message or "terminate called" in message:
        return (
            f"The query needs more than {MEMORY_MEGABYTES} MB of memory. "
            "Select fewer rows or columns."
        )
    return message.strip()


def run_query(store: Store, harvest_id: str, sql: str) -> SqlResult:
    """Run one SQL query over a harvest and return its result. Raises SqlError with its error
    message."""
    return SqlQuery(store, store.harvest(harvest_id), sql).result()


def serialize_table(table: pa.Table) -> bytes:
    """Return an Arrow table as the bytes of an Arrow stream, to send it to the console's worker
    process."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    return sink.getvalue().to_pybytes()


@cache
def list_console_tables() -> dict[str, list[tuple[str, str]]]:
    """Return every table that a console query can read, with the names and types of its columns."""
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
