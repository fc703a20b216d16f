"""Feature table: the features of a dictionary, filtered and sorted by DuckDB and read one page at a
time.

The order of all matching features (indices only, cheap to keep) is computed first, then the rows of
a page. The order also gives the features before and after a feature.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from feature_store.annotations import Annotations
from feature_store.errors import InputError, pick_by_name
from feature_store.harvest_reader import SCALAR_COLUMNS, HarvestFile

ANNOTATION_KINDS = ("label", "star")
"""Kinds of annotation that are columns of the feature table and that features can be required to
have."""
JOINED_TABLES = (*ANNOTATION_KINDS, "score", "name")
"""Tables that are joined to the feature table: `name` is a person's label, or else the newest
explanation."""
COLUMN_TABLES = {"label": "name", "star": "star", "score": "score"}
"""Column of the feature table -> the table of JOINED_TABLES that it is read from."""
NUMBER_COLUMNS = {**{name: f"f.{name}" for name in SCALAR_COLUMNS}, "score": "score.value"}
"""Column of the feature table -> its SQL expression over `feature` as f, for columns that can be
filtered by bounds."""
COLUMNS = {
    **NUMBER_COLUMNS,
    "label": "name.value",
    "star": "star.value",
    "promoted": "f.promoted_tokens[:5]",
}
"""Column of the feature table -> its SQL expression over `feature` and the annotation tables."""
SORT_COLUMNS = {name: sql for name, sql in COLUMNS.items() if name != "promoted"}
SORT_COLUMNS["label"] = "lower(name.value)"
"""Column of the feature table -> the SQL expression to sort by."""


@dataclass(frozen=True)
class FeatureQuery:
    """Query of the feature table: which features of a dictionary it shows, in which order. All
    conditions must hold."""

    between: tuple[tuple[str, float | None, float | None], ...] = ()
    """(column, low, high) bounds, both ends included; None is open. A missing value does not
    match."""
    name_contains: str = ""
    """Text that the feature's displayed name (label or explanation) must contain, ignoring case."""
    required_annotations: tuple[str, ...] = ()
    """Kinds of ANNOTATION_KINDS that a person must have given to the feature."""
    only_features: tuple[int, ...] = ()
    """Features to which the query is restricted; empty for all features."""
    order: str = "feature"
    descending: bool = False

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of annotation (of JOINED_TABLES) by which this query of the feature table filters
        or sorts."""
        columns = {
            self.order,
            *(["label"] if self.name_contains else []),
            *(one for one, _, _ in self.between),
        }
        asked = {
            *self.required_annotations,
            *(COLUMN_TABLES[column] for column in columns if column in COLUMN_TABLES),
        }
        return tuple(kind for kind in JOINED_TABLES if kind in asked)


def order_features(
    file: HarvestFile, dictionary: str, query: FeatureQuery, annotations: Annotations | None = None
) -> np.ndarray:
    """Return the indices of the features that match a query, int32, sorted; missing values last,
    ties by index.

    Raises InputError for an unknown dictionary or column.
    """
    file.dictionary(dictionary)
    conditions = ["f.dictionary = ?"]
    values: list[str | float] = [dictionary]
    for column, low, high in query.between:
        number = pick_by_name("column", column, NUMBER_COLUMNS)
        for bound, sign in ((low, ">="), (high, "<=")):
            if bound is not None:
                conditions.append(f"{number} {sign} ?")
                values.append(bound)
    conditions += [
        f"{kind}.value IS NOT NULL"
        for kind in query.required_annotations
        if check_annotation_kind(kind)
    ]
    if query.name_contains:
        conditions.append("contains(lower(name.value), lower(?))")
        values.append(query.name_contains)
    tables = annotation_tables(query.kinds, dictionary, annotations)
    if query.only_features:
        tables["among"] = number_features(query.only_features)
        conditions.append("f.feature IN (SELECT feature FROM among)")
    pick_by_name("column to sort by", query.order, SORT_COLUMNS)
    by = (
        f"{SORT_COLUMNS[query.order]} {'DESC' if query.descending else 'ASC'} NULLS LAST, f.feature"
    )
    sql = (
        f"SELECT f.feature FROM {join_tables(query.kinds)} "
        f"WHERE {' AND '.join(conditions)} ORDER BY {by}"
    )
    return file.rows(sql, values, tables).column("feature").to_numpy()


def read_feature_rows(
    file: HarvestFile,
    dictionary: str,
    features: Sequence[int] | np.ndarray,
    columns: Sequence[str] = tuple(COLUMNS),
    annotations: Annotations | None = None,
) -> pa.Table:
    """Read `columns` of these features of the feature table, in this order. Raises InputError
    for an unknown column."""
    for column in columns:
        pick_by_name("column", column, COLUMNS)
    kinds = tuple(COLUMN_TABLES[column] for column in columns if column in COLUMN_TABLES)
    tables = annotation_tables(kinds, dictionary, annotations) | {"page": number_features(features)}
    chosen = ", ".join(f"{COLUMNS[name]} AS {name}" for name in columns)
    query = (
        f"SELECT {chosen} FROM {join_tables(kinds)} JOIN page ON page.feature = f.feature "
        "WHERE f.dictionary = ? AND f.feature IN (SELECT feature FROM page) ORDER BY page.place"
    )
    return file.rows(query, [dictionary], tables)


def join_tables(kinds: Sequence[str]) -> str:
    """Return the SQL FROM clause that joins the feature table with the annotation tables."""
    return "feature f" + "".join(f" LEFT JOIN {k} ON {k}.feature = f.feature" for k in kinds)


def annotation_tables(
    kinds: Sequence[str], dictionary: str, annotations: Annotations | None
) -> dict[str, pa.Table]:
    """Return the annotations in force to join to the feature table: kind -> Arrow table of feature
    and value."""
    known = annotations or Annotations.empty()
    return {kind: known.values_of_kind(dictionary, kind) for kind in kinds}


def number_features(features: Sequence[int] | np.ndarray) -> pa.Table:
    """Return an Arrow table of features with their places in the given sequence, to join to the
    feature table."""
    indices = pa.array(np.asarray(features, dtype=np.int32))
    return pa.table({"feature": indices, "place": pa.array(np.arange(len(indices)))})


def check_annotation_kind(kind: str) -> bool:
    """Return True if the feature table can be filtered by this kind of annotation; otherwise raise
    InputError."""
    if kind not in ANNOTATION_KINDS:
        raise InputError(
            f"Features cannot be filtered by {kind!r}. Use one of: {', '.join(ANNOTATION_KINDS)}."
        )
    return True
