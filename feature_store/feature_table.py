"""The table of a dictionary's features: filtered and sorted by DuckDB, read a page at a time.

First the order of all features that pass (numbers alone, cheap to keep), then the rows of a page.
The order also says what comes before and after a feature.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from feature_store.annotations import Annotations
from feature_store.errors import InputError, pick_by_name
from feature_store.harvest_reader import SCALAR_COLUMNS, HarvestFile

ANNOTATION_KINDS = ("label", "star")
"""Kinds of annotation that are columns, and that features can be asked to have."""
JOINED_TABLES = (*ANNOTATION_KINDS, "score", "name")
"""What stands in tables of its own: `name` is a person's label, else the newest explanation."""
COLUMN_TABLES = {"label": "name", "star": "star", "score": "score"}
"""Column → the table of BESIDE that it is read from."""
NUMBER_COLUMNS = {**{name: f"f.{name}" for name in SCALAR_COLUMNS}, "score": "score.value"}
"""Column → its SQL, over `feature` as f: what can be bounded."""
COLUMNS = {
    **NUMBER_COLUMNS,
    "label": "name.value",
    "star": "star.value",
    "promoted": "f.promoted_tokens[:5]",
}
"""Column → its SQL, over `feature` and what was said, one table a kind: what can be read."""
SORT_COLUMNS = {name: sql for name, sql in COLUMNS.items() if name != "promoted"}
SORT_COLUMNS["label"] = "lower(name.value)"
"""What the table can be sorted by."""


@dataclass(frozen=True)
class FeatureQuery:
    """Which features, in which order. Everything given must hold."""

    between: tuple[tuple[str, float | None, float | None], ...] = ()
    """(column, low, high), both ends included; None is open. A missing value does not pass."""
    says: str = ""
    """What its label, or the explanation in its place, contains in any case."""
    having: tuple[str, ...] = ()
    """Kinds of SAID that it must have: given by a person."""
    among: tuple[int, ...] = ()
    """Only these features; all, if empty."""
    order: str = "feature"
    descending: bool = False

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of BESIDE, what the answer depends on."""
        columns = {
            self.order,
            *(["label"] if self.says else []),
            *(one for one, _, _ in self.between),
        }
        asked = {
            *self.having,
            *(COLUMN_TABLES[column] for column in columns if column in COLUMN_TABLES),
        }
        return tuple(kind for kind in JOINED_TABLES if kind in asked)


def order_features(
    file: HarvestFile, dictionary: str, wanted: FeatureQuery, said: Annotations | None = None
) -> np.ndarray:
    """The indices of the features that pass, int32, sorted; missing values last, ties by index.

    Raises InputError for an unknown dictionary or column.
    """
    file.dictionary(dictionary)
    conditions = ["f.dictionary = ?"]
    values: list[str | float] = [dictionary]
    for column, low, high in wanted.between:
        number = pick_by_name("column", column, NUMBER_COLUMNS)
        for bound, sign in ((low, ">="), (high, "<=")):
            if bound is not None:
                conditions.append(f"{number} {sign} ?")
                values.append(bound)
    conditions += [
        f"{kind}.value IS NOT NULL" for kind in wanted.having if check_annotation_kind(kind)
    ]
    if wanted.says:
        conditions.append("contains(lower(name.value), lower(?))")
        values.append(wanted.says)
    tables = annotation_tables(wanted.kinds, dictionary, said)
    if wanted.among:
        tables["among"] = number_features(wanted.among)
        conditions.append("f.feature IN (SELECT feature FROM among)")
    pick_by_name("column to sort by", wanted.order, SORT_COLUMNS)
    by = (
        f"{SORT_COLUMNS[wanted.order]} {'DESC' if wanted.descending else 'ASC'} NULLS LAST, "
        f"f.feature"
    )
    query = (
        f"SELECT f.feature FROM {join_tables(wanted.kinds)} "
        f"WHERE {' AND '.join(conditions)} ORDER BY {by}"
    )
    return file.rows(query, values, tables).column("feature").to_numpy()


def read_feature_rows(
    file: HarvestFile,
    dictionary: str,
    features: Sequence[int] | np.ndarray,
    columns: Sequence[str] = tuple(COLUMNS),
    said: Annotations | None = None,
) -> pa.Table:
    """`columns` of these features, in this order. Raises InputError for an unknown column."""
    for column in columns:
        pick_by_name("column", column, COLUMNS)
    kinds = tuple(COLUMN_TABLES[column] for column in columns if column in COLUMN_TABLES)
    tables = annotation_tables(kinds, dictionary, said) | {"page": number_features(features)}
    chosen = ", ".join(f"{COLUMNS[name]} AS {name}" for name in columns)
    query = (
        f"SELECT {chosen} FROM {join_tables(kinds)} JOIN page ON page.feature = f.feature "
        "WHERE f.dictionary = ? AND f.feature IN (SELECT feature FROM page) ORDER BY page.place"
    )
    return file.rows(query, [dictionary], tables)


def join_tables(kinds: Sequence[str]) -> str:
    """The tables of a query: features, and beside them what was said."""
    return "feature f" + "".join(f" LEFT JOIN {k} ON {k}.feature = f.feature" for k in kinds)


def annotation_tables(
    kinds: Sequence[str], dictionary: str, said: Annotations | None
) -> dict[str, pa.Table]:
    """Kind → what is in force of it in the dictionary, columns feature and value."""
    known = said or Annotations.empty()
    return {kind: known.values(dictionary, kind) for kind in kinds}


def number_features(features: Sequence[int] | np.ndarray) -> pa.Table:
    """The features as a table, with their places."""
    indices = pa.array(np.asarray(features, dtype=np.int32))
    return pa.table({"feature": indices, "place": pa.array(np.arange(len(indices)))})


def check_annotation_kind(kind: str) -> bool:
    """Whether features can be asked to have it; an InputError if there is no such kind."""
    if kind not in ANNOTATION_KINDS:
        raise InputError(
            f"Features have no {kind!r} to ask for. There is: {', '.join(ANNOTATION_KINDS)}."
        )
    return True
