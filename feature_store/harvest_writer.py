"""Writing a harvest file once: Arrow in, rows sorted, one atomic rename at the end."""

import os
from collections.abc import Iterable
from pathlib import Path

import duckdb
import pyarrow as pa

SCHEMA_VERSION = 1
"""The number of the layout in harvest_schema.sql; a reader refuses a higher one."""
ROW_GROUP_SIZE = 4096
"""Rows a row group: small, so that one feature's contexts are one short read (2048 is a vector)."""
SCHEMA_FILE = Path(__file__).with_name("harvest_schema.sql")


class HarvestWriter:
    """A harvest file in the making, under a name that no reader takes for a finished one."""

    def __init__(self, work: Path, *, memory_limit: str = "512MB") -> None:
        self.path = work / "publishing.tmp"
        self.path.unlink(missing_ok=True)
        config = {"memory_limit": memory_limit, "threads": 1, "temp_directory": str(work / "spill")}
        self._db = duckdb.connect(config=config)
        quoted = str(self.path).replace("'", "''")
        self._db.execute(f"ATTACH '{quoted}' AS harvest_file (ROW_GROUP_SIZE {ROW_GROUP_SIZE})")
        self._db.execute("USE harvest_file")
        self._db.execute(SCHEMA_FILE.read_text(encoding="utf-8"))

    def add(self, table: str, rows: pa.Table | Iterable[pa.RecordBatch]) -> None:
        """Append rows to `table`, matched by column name, in the order given."""
        batches = [rows] if isinstance(rows, pa.Table) else rows
        for batch in batches:
            arrow = batch if isinstance(batch, pa.Table) else pa.Table.from_batches([batch])
            self._db.register("incoming", arrow)
            self._db.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming")
            self._db.unregister("incoming")

    def publish(self, target: Path) -> None:
        """Close the file, force it to disk and give it the name that readers look for."""
        self._db.execute("CHECKPOINT harvest_file")
        self.close()
        with self.path.open("rb") as handle:
            os.fsync(handle.fileno())
        target.parent.mkdir(parents=True, exist_ok=True)
        self.path.replace(target)

    def close(self) -> None:
        """Let go of the file; what was not published stays unpublished."""
        self._db.close()
