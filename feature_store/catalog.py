"""The catalog of a store, catalog.duckdb: a small, mutable DuckDB file that is opened for one short
transaction at a time.

DuckDB allows one process to write a file or several to read it, so no process keeps the catalog
open. Each transaction opens it and waits for its turn: for a lock within the process, and with
bounded, jittered retries between processes. The file is opened by attaching it to a DuckDB instance
that is reused: see duckdb_attachment.py.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import duckdb
import pyarrow as pa
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from feature_store.annotations import Annotations
from feature_store.duckdb_attachment import AttachCall, attach_database
from feature_store.duckdb_errors import is_file_damage, parse_lock_holder
from feature_store.errors import InputError
from feature_store.records import Annotation, FeatureId
from feature_store.schema_check import columns_of_statements, find_schema_difference, read_columns

MIGRATIONS_FOLDER = Path(__file__).with_name("migrations")
MIGRATION_TABLE = "CREATE TABLE IF NOT EXISTS migration (name VARCHAR PRIMARY KEY)"
PATIENCE_S = 15.0
"""Seconds for which a catalog transaction waits for other processes before it raises an error."""
AnnotationKind = Literal["label", "note", "star"]
_file_locks: dict[str, threading.Lock] = {}  # one for each file


class Catalog:
    """Catalog of a store, catalog.duckdb: opens its transactions, and reads and writes the
    annotations (labels, notes, stars) of features. Every method is one transaction."""

    def __init__(self, path: Path, *, patience_s: float = PATIENCE_S) -> None:
        self.path = path
        self.patience_s = patience_s
        self._lock = _file_locks.setdefault(os.path.realpath(path), threading.Lock())
        self._migrated = False
        self._cached: tuple[tuple[int, ...], Annotations] | None = None
        self.writable = True

    @contextmanager
    def transaction(self, patience_s: float | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the catalog in a transaction that is committed at the end of the block.

        Raises InputError if another process (named by its pid) keeps the catalog locked for longer
        than `patience_s`, if a newer Saefari wrote it, or if it may not be written.
        """
        if not self.writable:
            raise InputError(f"{self.path} cannot be written: it was opened read-only.")
        with self._lock, translate_duckdb_errors(self.path), self._opened(patience_s) as db:
            if not self._migrated:
                apply_migrations(db, self.path)
                self._migrated = True
            db.begin()
            yield db
            db.commit()

    def annotate(
        self,
        feature: FeatureId,
        kind: AnnotationKind,
        value: str,
        *,
        patience_s: float | None = None,
    ) -> None:
        """Write a label, note or star of a feature into the catalog; an empty value withdraws it.

        Older values stay as history. A value that is already in force is not written again.
        """
        which = [feature.dictionary, feature.index, kind]
        with self.transaction(patience_s) as db:
            row = db.execute(
                "SELECT arg_max(value, annotation) FROM annotation "
                "WHERE dictionary = ? AND feature = ? AND kind = ?",
                which,
            ).fetchone()
            if value != ((row and row[0]) or ""):
                db.execute(
                    "INSERT INTO annotation (dictionary, feature, kind, value, created) "
                    "VALUES (?, ?, ?, ?, ?)",
                    [*which, value, utc_now()],
                )

    def annotations(self, dictionary: str) -> pa.Table:
        """Read the annotations in force in a dictionary from the catalog: columns feature, kind,
        value, created."""
        if not self.path.exists():
            return pa.table({name: [] for name in ("feature", "kind", "value", "created")})
        with self.read_transaction() as db:
            return db.sql(
                "SELECT feature, kind, arg_max(value, annotation) AS value, "
                "max(created) AS created FROM annotation WHERE dictionary = ? "
                "GROUP BY feature, kind HAVING arg_max(value, annotation) <> '' "
                "ORDER BY feature, kind",
                params=[dictionary],
            ).to_arrow_table()

    def history(self, feature: FeatureId) -> list[Annotation]:
        """Read every annotation ever made of a feature from the catalog, oldest first."""
        if not self.path.exists():
            return []
        with self.read_transaction() as db:
            rows = db.execute(
                "SELECT dictionary, feature, kind, value, created FROM annotation "
                "WHERE dictionary = ? AND feature = ? ORDER BY annotation",
                [feature.dictionary, feature.index],
            ).fetchall()
        return [Annotation(*row) for row in rows]

    def snapshot(self, patience_s: float | None = None) -> Annotations:
        """Read all annotations in one catalog transaction; the result is cached until the file
        changes."""
        if not self.path.exists():
            return Annotations.empty()
        kept = self._cached
        if kept is None or kept[0] != self._stamp():
            with self.read_transaction(
                patience_s
            ) as db:  # while it is open, no other process writes
                kept = self._cached = (self._stamp(), Annotations.read(db, self.last_snapshot()))
        return kept[1]

    def last_snapshot(self) -> Annotations:
        """Return the latest snapshot of the catalog, for when it is locked; empty if there is
        none yet."""
        return self._cached[1] if self._cached else Annotations.empty()

    def _stamp(self) -> tuple[int, ...]:
        """Return modification time, size and inode of the catalog file, which change with every
        write."""
        stat = self.path.stat()
        return (stat.st_mtime_ns, stat.st_size, stat.st_ino)

    @contextmanager
    def read_transaction(
        self, patience_s: float | None = None
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the catalog in a transaction for reading. A catalog file without write permission
        can be read too, if it needs no schema migration."""
        if self.writable:
            with self.transaction(patience_s) as db:
                yield db
            return
        with (
            self._lock,
            translate_duckdb_errors(self.path, read_only=True),
            self._opened(patience_s) as db,
        ):
            yield db

    def _opened(
        self, patience_s: float | None
    ) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        tries = lambda attach: self._attach_with_retries(attach, patience_s)  # noqa: E731
        return attach_database(self.path, read_only=not self.writable, tries=tries)

    def _attach_with_retries(self, attach: AttachCall, patience_s: float | None) -> None:
        patience_s = self.patience_s if patience_s is None else patience_s
        retrying = Retrying(
            retry=retry_if_exception(lambda error: find_lock_holder(error) is not None),
            wait=wait_random_exponential(multiplier=0.02, max=0.5),
            stop=stop_after_delay(patience_s),
            reraise=True,
        )
        try:
            retrying(attach)
        except duckdb.Error as error:
            if pid := find_lock_holder(error):
                raise InputError(
                    f"{self.path} has been locked by process {pid} for over {patience_s:g} s. "
                    "Close that program, or wait until it is done, and try again."
                ) from error
            raise InputError(
                describe_foreign_catalog(self.path, first_error_line(error))
            ) from error


def find_lock_holder(error: BaseException) -> int | None:
    """Return the pid of the process that holds the catalog's lock, from the DuckDB error of a
    failed attempt to open it; None for any other error."""
    if isinstance(error, duckdb.ResourceInUseException):
        return os.getpid()
    return parse_lock_holder(error) if isinstance(error, duckdb.IOException) else None


@contextmanager
def translate_duckdb_errors(path: Path, *, read_only: bool = False) -> Iterator[None]:
    """Raise an InputError for DuckDB's errors about a damaged catalog file or missing catalog
    tables."""
    try:
        yield
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        if read_only:
            raise InputError(
                f"{path} was written by an older Saefari ({first_error_line(error)}). Open the "
                f"store "
                "once where it can be written, to bring it up to date."
            ) from error
        raise InputError(describe_foreign_catalog(path, first_error_line(error))) from error
    except duckdb.Error as error:
        if not is_file_damage(error):
            raise
        raise InputError(
            f"{path} cannot be read or written: {first_error_line(error)}. Nothing was changed. "
            f"Free "
            "space on the disk, or put back a copy of the file."
        ) from error


def first_error_line(error: duckdb.Error) -> str:
    """Return the first line of a DuckDB error, without its hints and final full stop."""
    return str(error).splitlines()[0].rstrip(".")


def describe_foreign_catalog(path: Path, why: str) -> str:
    """Return the error message for a DuckDB file that is not a catalog of this Saefari."""
    return (
        f"{path} is not a catalog of Saefari, or it was changed or damaged ({why}). Move it to "
        "another folder: Saefari then makes a new catalog, and the old file stays as it is."
    )


def apply_migrations(db: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Apply the schema migrations that a catalog has not had yet, in order and in one transaction.

    Raises InputError for a catalog that a newer Saefari wrote, and for tables of another program.
    """
    db.begin()
    db.execute(MIGRATION_TABLE)
    done = {name for (name,) in db.execute("SELECT name FROM migration").fetchall()}
    files = sorted(MIGRATIONS_FOLDER.glob("*.sql"))
    if unknown := done - {file.name for file in files}:
        raise InputError(
            f"{path} was written by a newer Saefari (it has {max(unknown)}). Upgrade Saefari, "
            "or use another store."
        )
    fresh = [file for file in files if file.name not in done]
    for file in fresh:
        db.execute(file.read_text(encoding="utf-8"))
    if fresh:
        names = [file.name for file in fresh]
        db.execute("INSERT INTO migration SELECT unnest(?::VARCHAR[])", [names])
    expected = columns_of_statements(MIGRATION_TABLE, *(file.read_text("utf-8") for file in files))
    if wrong := find_schema_difference(read_columns(db), expected):
        raise InputError(describe_foreign_catalog(path, wrong))
    db.commit()


def utc_now() -> datetime:
    """Return the current time in UTC without a time zone, as the catalog stores it."""
    return datetime.now(UTC).replace(tzinfo=None)


@contextmanager
def incoming_table(db: duckdb.DuckDBPyConnection, table: pa.Table) -> Iterator[None]:
    """Register rows to be saved as the table `incoming` of the catalog until the block ends."""
    db.register("incoming", table)
    try:
        yield
    finally:
        db.unregister("incoming")
