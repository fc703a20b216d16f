"""A DuckDB file, opened for one block: attached to an instance that stays, and let go at its end.

An instance of DuckDB takes some 15 ms to make and to end, an attachment 1 ms. So instances without
any file are kept, and a block has one to itself. Detaching writes what is left of the log into the
file, closes it and gives up its lock, as ending the instance would.
"""

import atexit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

ATTACHED_NAME = "catalog"
"""What an attached file is called in SQL: as DuckDB itself would call catalog.duckdb."""
AttachCall = Callable[[], object]
_idle_instances: list[duckdb.DuckDBPyConnection] = []  # appending and popping are atomic


@contextmanager
def attach_database(
    path: Path, *, read_only: bool, tries: Callable[[AttachCall], object]
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that sees the file at `path`, by default, and no other; made where it is not.

    `tries` calls what it is given until the file could be had, or raises what the last call raised:
    duckdb.IOException where another process has the file or it is none of DuckDB's,
    duckdb.ResourceInUseException where this process has it open.
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
    """TYPE: without it a file of another kind sends DuckDB to the network for an extension."""
    quoted = str(path).replace("'", "''")
    return f"ATTACH '{quoted}' AS {ATTACHED_NAME} (TYPE duckdb{', READ_ONLY' * read_only})"


@atexit.register
def close_idle_instances() -> None:
    """DuckDB's objects that outlive Python are reported as leaks on the terminal."""
    while _idle_instances:
        _idle_instances.pop().close()
