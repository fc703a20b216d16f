"""DuckDB errors: tell from an exception whether another process holds a database file's lock or
the file is damaged."""

import re

import duckdb


def parse_lock_holder(error: Exception) -> int | None:
    """Return the pid that a DuckDB error names as the holder of a file's lock; None for other
    errors."""
    match = re.search(r"Conflicting lock is held in .*?\(PID (\d+)\)", str(error), re.DOTALL)
    return int(match.group(1)) if match else None


def is_file_damage(error: duckdb.Error) -> bool:
    """Return whether a DuckDB error is caused by the file's bytes and not by the query.

    A block with a wrong checksum raises the base class duckdb.Error, which has no type of its own.
    """
    kinds = (
        duckdb.IOException,
        duckdb.FatalException,
        duckdb.SerializationException,
        duckdb.InternalException,
    )
    return isinstance(error, kinds) or "checksum" in str(error)
