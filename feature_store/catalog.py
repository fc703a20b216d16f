"""catalog.duckdb: small, mutable, opened for one short transaction at a time.

DuckDB lets one process write a file or many read it. So nobody keeps the catalog open: each
transaction opens it, and waits its turn behind a lock in the process and a bounded, jittered retry
across processes. It is opened by attaching it to an instance that stays: see attached.py.
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
"""How long a transaction waits for other processes before it gives up."""
AnnotationKind = Literal["label", "note", "star"]
_file_locks: dict[str, threading.Lock] = {}  # one for each file


class Catalog:
    """The annotations of a store. Every method is one transaction of its own."""

    def __init__(self, path: Path, *, patience_s: float = PATIENCE_S) -> None:
        self.path = path
        self.patience_s = patience_s
        self._lock = _file_locks.setdefault(os.path.realpath(path), threading.Lock())
        self._migrated = False
        self._kept: tuple[tuple[int, ...], Annotations] | None = None
        self.writable = True

    @contextmanager
    def transaction(self, patience_s: float | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """The catalog, open and inside a transaction; committed at the end of the block.

        Raises InputError when another process keeps it beyond `patience_s` (with its pid), when it
        is newer than this Saefari, or when it may not be written.
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
        """Say something of a feature; an empty value takes it back, older ones stay as history.

        What is in force already is not said twice.
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
        """The annotations in force in a dictionary: columns feature, kind, value, created."""
        if not self.path.exists():
            return pa.table({name: [] for name in ("feature", "kind", "value", "created")})
        with self.reading() as db:
            return db.sql(
                "SELECT feature, kind, arg_max(value, annotation) AS value, "
                "max(created) AS created FROM annotation WHERE dictionary = ? "
                "GROUP BY feature, kind HAVING arg_max(value, annotation) <> '' "
                "ORDER BY feature, kind",
                params=[dictionary],
            ).to_arrow_table()

    def history(self, feature: FeatureId) -> list[Annotation]:
        """Everything that was said of a feature, oldest first."""
        if not self.path.exists():
            return []
        with self.reading() as db:
            rows = db.execute(
                "SELECT dictionary, feature, kind, value, created FROM annotation "
                "WHERE dictionary = ? AND feature = ? ORDER BY annotation",
                [feature.dictionary, feature.index],
            ).fetchall()
        return [Annotation(*row) for row in rows]

    def snapshot(self, patience_s: float | None = None) -> Annotations:
        """All annotations in one transaction, kept until the file changes: for pages."""
        if not self.path.exists():
            return Annotations.empty()
        kept = self._kept
        if kept is None or kept[0] != self._stamp():
            with self.reading(patience_s) as db:  # while it is open, nobody else writes
                kept = self._kept = (self._stamp(), Annotations.read(db, self.last_seen()))
        return kept[1]

    def last_seen(self) -> Annotations:
        """The snapshot before now, for when the catalog cannot be had; empty without one."""
        return self._kept[1] if self._kept else Annotations.empty()

    def _stamp(self) -> tuple[int, ...]:
        stat = self.path.stat()
        return (stat.st_mtime_ns, stat.st_size, stat.st_ino)

    @contextmanager
    def reading(self, patience_s: float | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """A catalog that may not be written is read all the same, if it is up to date."""
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
        tries = lambda attach: self._tried(attach, patience_s)  # noqa: E731
        return attach_database(self.path, read_only=not self.writable, tries=tries)

    def _tried(self, attach: AttachCall, patience_s: float | None) -> None:
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
    """The pid behind a lock conflict; None for every other error."""
    if isinstance(error, duckdb.ResourceInUseException):
        return os.getpid()
    return parse_lock_holder(error) if isinstance(error, duckdb.IOException) else None


@contextmanager
def translate_duckdb_errors(path: Path, *, read_only: bool = False) -> Iterator[None]:
    """Turn what DuckDB raises over a catalog's bytes or foreign tables into an InputError."""
    try:
        yield
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        if read_only:
            raise InputError(
                f"{path} was written by an older Saefari ({first_error_line(error)}). Open the "
                f"store "
                "once where it can be written, which brings it up to date."
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
    """Return what DuckDB says of an error, without its hints and without a full stop."""
    return str(error).splitlines()[0].rstrip(".")


def describe_foreign_catalog(path: Path, why: str) -> str:
    """Return the sentence for a file that is no catalog of this Saefari."""
    return (
        f"{path} is not a catalog of Saefari, or it was changed or damaged ({why}). Move it away: "
        "a new one is made, and what the old one holds stays in it."
    )


def apply_migrations(db: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Apply, in order and in one transaction, the migrations that this catalog has not had.

    Raises InputError for a catalog of a newer Saefari, and for tables of another program.
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
    """The time in UTC, without a zone, as the files hold it."""
    return datetime.now(UTC).replace(tzinfo=None)
