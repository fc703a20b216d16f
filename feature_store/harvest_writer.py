"""Harvest writer: write a harvest file (DuckDB) once from Arrow tables and publish it by one
atomic rename."""

import os
from collections.abc import Iterable
from pathlib import Path

import duckdb
import pyarrow as pa

SCHEMA_VERSION = 2
"""Version of the tables in harvest_schema.sql; a reader also takes version 1, and no others."""
ROW_GROUP_SIZE = 4096
"""Rows of a DuckDB row group in a harvest file: small, so that one feature's contexts are one
short read (2048 is DuckDB's vector size)."""
SCHEMA_FILE = Path(__file__).with_name("harvest_schema.sql")


class HarvestWriter:
    """Writer of a harvest file, which has a temporary name until it is published."""

    def __init__(self, work: Path, *, memory_limit: str = "512MB") -> None:
        self.path = work / "publishing.tmp"
        self.path.unlink(missing_ok=True)
        config = {"memory_limit": memory_limit, "threads": 1, "temp_directory": str(work / "spill")}
        self._db = duckdb.connect(config=config)
        quoted = str(self.path).replace("'", "''")
        self._db.execute(f"ATTACH '{quoted}' AS harvest_file (ROW_GROUP_SIZE {ROW_GROUP_SIZE})")
        self._db.execute("USE harvest_file")
        self._db.execute(SCHEMA_FILE.read_text(encoding="utf-8"))

    def append_rows(self, table: str, rows: pa.Table | Iterable[pa.RecordBatch]) -> None:
        """Append rows to a table of the harvest file; columns are matched by name."""
        batches = [rows] if isinstance(rows, pa.Table) else rows
        for batch in batches:
            arrow = batch if isinstance(batch, pa.Table) else pa.Table.from_batches([batch])
            self._db.register("incoming", arrow)
            self._db.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming")
            self._db.unregister("incoming")

    def publish(self, target: Path) -> None:
        """Close the harvest file, force it to disk and rename it to the path that readers look
        for."""
        self._db.execute("CHECKPOINT harvest_file")
        self.close()
        with self.path.open("rb") as handle:
            os.fsync(handle.fileno())
        target.parent.mkdir(parents=True, exist_ok=True)
        self.path.replace(target)

    def close(self) -> None:
        """Close the harvest file without publishing it."""
        self._db.close()
