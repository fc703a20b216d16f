"""Everything that people said of features, as it stood at one moment."""

from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.records import Annotation, FeatureId

COLUMNS = pa.schema(
    [
        ("annotation", pa.int64()),
        ("dictionary", pa.string()),
        ("feature", pa.int32()),
        ("kind", pa.string()),
        ("value", pa.string()),
        ("created", pa.timestamp("us")),
    ]
)
NAMES = ", ".join(COLUMNS.names)


@dataclass(frozen=True)
class Annotations:
    """A copy of the catalog's annotations: nobody's lock is held while it is used."""

    every: pa.Table
    """All rows, oldest first, with the columns of COLUMNS."""
    in_force: pa.Table
    """The newest row of each feature and kind, where it was not taken back."""

    @classmethod
    def empty(cls) -> "Annotations":
        """Of a store in which nobody has said anything."""
        return cls(COLUMNS.empty_table(), COLUMNS.empty_table())

    @classmethod
    def read(cls, db: duckdb.DuckDBPyConnection) -> "Annotations":
        """All that an open catalog holds."""
        every = f"SELECT {NAMES} FROM annotation"
        latest = "row_number() OVER (PARTITION BY dictionary, feature, kind ORDER BY annotation)"
        newest = (
            f"{every} QUALIFY {latest} = count(*) OVER (PARTITION BY dictionary, feature, kind)"
        )
        tables = (
            db.sql(f"{every} ORDER BY annotation").to_arrow_table(),
            db.sql(f"FROM ({newest}) WHERE value <> '' ORDER BY ALL").to_arrow_table(),
        )
        return cls(*(table.cast(COLUMNS) for table in tables))

    def values(self, dictionary: str, kind: str) -> pa.Table:
        """Columns feature and value: what is in force of one kind in a dictionary."""
        found = self.in_force
        mask = pc.and_(pc.equal(found["dictionary"], dictionary), pc.equal(found["kind"], kind))
        return found.filter(mask).select(["feature", "value"])

    def of(self, feature: FeatureId) -> dict[str, str]:
        """Kind → value in force of one feature."""
        rows = rows_of(self.in_force, feature)
        return {row["kind"]: row["value"] for row in rows}

    def history(self, feature: FeatureId) -> list[Annotation]:
        """Everything that was said of a feature, oldest first."""
        names = COLUMNS.names[1:]
        rows = rows_of(self.every, feature)
        return [Annotation(**{name: row[name] for name in names}) for row in rows]


def rows_of(table: pa.Table, feature: FeatureId) -> list[dict]:
    """A feature's rows. Numbers are compared first: few rows are left for the names."""
    near = table.filter(pc.equal(table["feature"], feature.index))
    return near.filter(pc.equal(near["dictionary"], feature.dictionary)).to_pylist()
