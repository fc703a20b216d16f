"""Schema check: whether a DuckDB file has the tables that Saefari creates, each with its columns
and types."""

from collections.abc import Mapping
from functools import cache

import duckdb

COLUMNS_QUERY = """
    SELECT table_name, column_name, data_type FROM duckdb_columns()
    WHERE database_name = current_database() AND schema_name = 'main' AND NOT internal
    ORDER BY table_oid, column_index
"""
TableColumns = Mapping[str, Mapping[str, str]]
"""Schema of a database: table -> column -> type, as DuckDB writes it."""


@cache
def columns_of_statements(*statements: str) -> TableColumns:
    """Return the tables and columns that SQL statements create in an empty database."""
    with duckdb.connect(config={"threads": 1}) as db:
        for statement in statements:
            db.execute(statement)
        return read_columns(db)


def read_columns(db: duckdb.DuckDBPyConnection) -> TableColumns:
    """Read the tables and columns of the database that a connection uses."""
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in db.execute(COLUMNS_QUERY).fetchall():
        found.setdefault(table, {})[column] = kind
    return found


def find_schema_difference(found: TableColumns, expected: TableColumns) -> str | None:
    """Return a sentence about the first difference from the expected schema; None if there is none.

    Additional tables are ignored. Additional columns are refused, because rows are written to all
    columns of a table.
    """
    for table, columns in expected.items():
        if table not in found:
            return f"it has no table {table!r}"
        for column, kind in columns.items():
            if column not in found[table]:
                return f"its table {table!r} has no column {column!r}"
            if found[table][column] != kind:
                return (
                    f"the column {column!r} of its table {table!r} holds {found[table][column]} "
                    f"and not {kind}"
                )
        if extra := [name for name in found[table] if name not in columns]:
            return f"its table {table!r} has the column {extra[0]!r}, which is not Saefari's"
    return None
