"""SQL console worker: the process that runs one SQL query of a person; sql_console.py starts it.

It imports no other Saefari module, so that it starts in a third of a second. It reads a JSON line
and the catalog's tables as Arrow streams from standard input and writes the result as an Arrow
stream, or an error message with exit status 1.
"""

import json
import re
import sys
from contextlib import suppress
from itertools import pairwise
from typing import Any, BinaryIO

import duckdb
import pyarrow as pa

DUCKDB_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,
    "temp_directory": "",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
}
READING_STATEMENTS = ("SELECT", "EXPLAIN", "MULTI")
"""Kinds of SQL statement that the console worker runs: SELECT includes SHOW, DESCRIBE and
VALUES; MULTI is PIVOT."""
ALLOWED_NAMES = {
    "duckdb_columns",
    "duckdb_constraints",
    "duckdb_functions",
    "duckdb_indexes",
    "duckdb_keywords",
    "duckdb_schemas",
    "duckdb_tables",
    "duckdb_types",
    "duckdb_views",
    "pragma_table_info",
    "pragma_version",
    "pragma_platform",
}
"""DuckDB's system tables that a console query may name: they describe tables, not files."""
REFUSED_NAMES = re.compile(
    r"\b(?:(?:duckdb|pragma)_\w+|pg_settings|database_list|current_setting|getenv|which_secret|"
    r"json_execute_serialized_sql)\b",
    re.IGNORECASE,
)
"""Pattern for DuckDB's system tables and functions; those not in ALLOWED_NAMES can reveal where
files lie."""
SQL_RUNNING_FUNCTIONS = {"query", "query_table"}
"""Functions that run SQL given as a text, whose names the console worker cannot check
beforehand."""
TYPES_SHOWN_AS_TEXT = ("interval", "bit", "union")
"""SQL types that neither a table on a page nor Parquet can hold: converted to DuckDB's text
form."""


def limit_resources(megabytes: int, seconds: float) -> None:
    """Limit the console worker's memory, processor time and written files, where the system
    supports it."""
    try:
        import resource
    except ImportError:  # Windows: the parent's clock and DuckDB's own limit remain
        return
    most = (2048 + 2 * megabytes) << 20  # address space, of which libraries take half unused
    for kind, limit in [
        (resource.RLIMIT_AS, most),
        (resource.RLIMIT_CPU, int(seconds) + 5),  # no process can stop it if the parent died
        (resource.RLIMIT_FSIZE, 0),
    ]:
        _, hard = resource.getrlimit(kind)
        if hard == resource.RLIM_INFINITY or limit < hard:
            with suppress(OSError, ValueError):  # not every system takes every limit
                resource.setrlimit(kind, (limit, hard))


def open_confined_database(
    harvest: str, tables: dict[str, pa.Table], megabytes: int
) -> duckdb.DuckDBPyConnection:
    """Open an in-memory DuckDB with the harvest attached read-only and copies of the catalog's
    tables; its configuration is locked, without access to other files."""
    db = duckdb.connect(config={**DUCKDB_CONFIG, "memory_limit": f"{megabytes}MB"})
    quoted = harvest.replace("'", "''")
    db.execute(f"ATTACH '{quoted}' AS harvest (READ_ONLY)")
    for name, table in tables.items():
        db.register("incoming", table)
        db.execute(f"CREATE TABLE {name} AS SELECT * FROM incoming")
        db.unregister("incoming")
    db.execute("SET search_path = 'memory,harvest'")
    db.execute("SET enable_external_access = false")
    db.execute("SET lock_configuration = true")
    return db


def run_read_query(db: duckdb.DuckDBPyConnection, sql: str, rows: int, megabytes: int) -> pa.Table:
    """Run one reading SQL statement and return its first `rows` rows.

    Exits the worker with an error message for several statements, for one that does not read, for a
    refused name and for a result that is too large.
    """
    kinds = [statement.type.name for statement in db.extract_statements(sql)]
    if len(kinds) != 1:
        sys.exit(f"Write one query: there are {len(kinds)} here.")
    if kinds[0] not in READING_STATEMENTS:
        sys.exit(f"The console only reads, and this is {kinds[0]}. Begin with SELECT.")
    if (name := find_refused_name(sql)) is not None:
        sys.exit(
            f"The console refuses {name}: it can reveal where files are on this machine, or "
            "run SQL that is not in the query. Tables and columns: SHOW TABLES, DESCRIBE NAME."
        )
    found = db.sql(sql).limit(rows)
    columns = [
        duckdb.ColumnExpression(name).cast("VARCHAR").alias(name)
        if kind.id in TYPES_SHOWN_AS_TEXT
        else duckdb.ColumnExpression(name)
        for name, kind in zip(found.columns, found.types, strict=True)
    ]
    table = found.select(*columns).to_arrow_table()
    if table.nbytes > megabytes << 20:
        sys.exit(
            f"The answer takes {table.nbytes >> 20} MB, and {megabytes} MB is the most. "
            "Ask for fewer columns or rows."
        )
    return cast_whole_numbers(table)


def find_refused_name(sql: str) -> str | None:
    """Return the first refused name in an SQL query, or None.

    The whole text is searched, including strings and comments, since DuckDB's parse of it cannot be
    predicted better. `query` is a common word and counts only as a function call.
    """
    for found in REFUSED_NAMES.finditer(sql):
        if found[0].casefold() not in ALLOWED_NAMES:
            return found[0]
    written = sql.encode()
    starts = [at for at, _ in duckdb.tokenize(sql)]
    tokens = [
        (written[at:end].strip(), kind)
        for (at, kind), end in zip(duckdb.tokenize(sql), [*starts[1:], len(written)], strict=True)
        if kind != duckdb.token_type.comment
    ]
    for (token, _), (following, _) in pairwise(tokens):
        name = token.strip(b'"').decode(errors="replace").casefold()
        if name in SQL_RUNNING_FUNCTIONS and following.startswith(b"("):
            return f"{name}()"
    return None


def cast_whole_numbers(table: pa.Table) -> pa.Table:
    """Convert the SQL result's columns of whole decimals to int64 if they fit: DuckDB returns
    sums as decimals."""
    for i, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type) and field.type.scale == 0:
            try:
                table = table.set_column(i, field.name, table.column(i).cast(pa.int64()))
            except pa.ArrowInvalid:
                continue  # larger than int64: stays a decimal
    return table


def main(source: BinaryIO, target: BinaryIO) -> None:
    """Read the request from standard input, run its SQL query and write the result."""
    request: dict[str, Any] = json.loads(source.readline())
    tables: dict[str, pa.Table] = {}
    for name in request["tables"]:
        with pa.ipc.open_stream(source) as stream:
            tables[name] = stream.read_all()
    megabytes = request["megabytes"]
    limit_resources(megabytes, request["seconds"])
    target.write(b"begun\n")
    target.flush()
    try:
        db = open_confined_database(request["harvest"], tables, megabytes)
        table = run_read_query(db, request["sql"], request["rows"], megabytes // 4)
        with pa.ipc.new_stream(target, table.schema) as out:
            out.write_table(table)
    except (duckdb.Error, MemoryError, pa.ArrowException) as error:
        sys.exit(str(error) or f"The query needs more than {megabytes} MB of memory.")


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
