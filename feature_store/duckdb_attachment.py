"""DuckDB attachment: open a DuckDB file for one block by attaching it to an in-memory instance that
is reused, and detach it at the end.

Creating and closing a DuckDB instance takes some 15 ms, attaching a file 1 ms. So idle instances
without a file are kept, and each block uses one alone. Detaching writes the rest of the write-ahead
log into the file, closes it and releases its lock, as closing the instance would.
"""

import atexit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

ATTACHED_NAME = "catalog"
"""Name of an attached DuckDB file in SQL: the name that DuckDB itself gives to catalog.duckdb."""
AttachCall = Callable[[], object]
_idle_instances: list[duckdb.DuckDBPyConnection] = []  # appending and popping are atomic


@contextmanager
def attach_database(
    path: Path, *, read_only: bool, tries: Callable[[AttachCall], object]
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection whose default database is the DuckDB file at `path`, created if it is
    missing.

    `tries` is the retry loop: it calls the function that it gets, which attaches the file, until
    that succeeds, or raises the error of the last call: duckdb.IOException if another process has
    the file or it is not a DuckDB file, duckdb.ResourceInUseException if this process already has
    it open.
    """
    instance = (
        _idle_instances.pop()
        if _idle_instances
        else duckdb.connect(":memory:", config={"threads": 1})
    )
    try:
        tries(lambda: instance.execute(attach_statement(path, read_only)))
        db = instance.cursor()  # its settings and temporary views go with it
        try:
            db.execute(f"USE {ATTACHED_NAME}")
            yield db
        finally:
            db.close()
        instance.execute(f"DETACH {ATTACHED_NAME}")
    except BaseException:
        instance.close()  # whatever state it is in; its files are closed with it
        raise
    _idle_instances.append(instance)


def attach_statement(path: Path, read_only: bool) -> str:
    """Return the SQL statement that attaches a DuckDB file.

    It states TYPE duckdb: without it DuckDB looks for an extension on the network when the file is
    of another type.
    """
    quoted = str(path).replace("'", "''")
    return f"ATTACH '{quoted}' AS {ATTACHED_NAME} (TYPE duckdb{', READ_ONLY' * read_only})"


@atexit.register
def close_idle_instances() -> None:
    """Close the idle DuckDB instances when Python exits: DuckDB reports those that outlive it as
    leaks."""
    while _idle_instances:
        _idle_instances.pop().close()
