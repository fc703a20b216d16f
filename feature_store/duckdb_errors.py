"""Why a DuckDB file cannot be had: who holds it, or that its bytes are wrong."""

import re

import duckdb


def parse_lock_holder(error: Exception) -> int | None:
    """The pid that DuckDB names as holding a file's lock, or None for any other error."""
    match = re.search(r"Conflicting lock is held in .*?\(PID (\d+)\)", str(error), re.DOTALL)
    return int(match.group(1)) if match else None


def is_file_damage(error: duckdb.Error) -> bool:
    """Whether DuckDB stumbled over the file's bytes, not over what it was asked.

    A block whose checksum is wrong raises the base class, with no type of its own.
    """
    kinds = (
        duckdb.IOException,
        duckdb.FatalException,
        duckdb.SerializationException,
        duckdb.InternalException,
    )
    return isinstance(error, kinds) or "checksum" in str(error)
