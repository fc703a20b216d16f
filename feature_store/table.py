"""The table of a dictionary's features: filtered and sorted by DuckDB, read a page at a time.

First the order of all features that pass (numbers alone, cheap to keep), then the rows of a page.
The order also says what comes before and after a feature.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from feature_store.annotations import Annotations
from feature_store.errors import InputError, pick
from feature_store.reader import SCALARS, HarvestFile

SAID = ("label", "star")
"""Kinds of annotation that are columns, and that features can be asked to have."""
BESIDE = (*SAID, "score", "name")
"""What stands in tables of its own: `name` is a person's label, else the newest explanation."""
FROM = {"label": "name", "star": "star", "score": "score"}
"""Column → the table of BESIDE that it is read from."""
NUMBERS = {**{name: f"f.{name}" for name in SCALARS}, "score": "score.value"}
"""Column → its SQL, over `feature` as f: what can be bounded."""
COLUMNS = {
    **NUMBERS,
    "label": "name.value",
    "star": "star.value",
    "promoted": "f.promoted_tokens[:5]",
}
"""Column → its SQL, over `feature` and what was said, one table a kind: what can be read."""
SORTED = {name: sql for name, sql in COLUMNS.items() if name != "promoted"}
SORTED["label"] = "lower(name.value)"
"""What the table can be sorted by."""


@dataclass(frozen=True)
class Wanted:
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
        asked = {*self.having, *(FROM[column] for column in columns if column in FROM)}
        return tuple(kind for kind in BESIDE if kind in asked)


def ordering(
    file: HarvestFile, dictionary: str, wanted: Wanted, said: Annotations | None = None
) -> np.ndarray:
    """The indices of the features that pass, int32, sorted; missing values last, ties by index.

    Raises InputError for an unknown dictionary or column.
    """
    file.dictionary(dictionary)
    conditions = ["f.dictionary = ?"]
    values: list[str | float] = [dictionary]
    for column, low, high in wanted.between:
        number = pick("column", column, NUMBERS)
        for bound, sign in ((low, ">="), (high, "<=")):
            if bound is not None:
                conditions.append(f"{number} {sign} ?")
                values.append(bound)
    conditions += [f"{kind}.value IS NOT NULL" for kind in wanted.having if check(kind)]
    if wanted.says:
        conditions.append("contains(lower(name.value), lower(?))")
        values.append(wanted.says)
    tables = tables_of(wanted.kinds, dictionary, said)
    if wanted.among:
        tables["among"] = numbered(wanted.among)
        conditions.append("f.feature IN (SELECT feature FROM among)")
    pick("column to sort by", wanted.order, SORTED)
    by = f"{SORTED[wanted.order]} {'DESC' if wanted.descending else 'ASC'} NULLS LAST, f.feature"
    query = (
        f"SELECT f.feature FROM {joined(wanted.kinds)} "
        f"WHERE {' AND '.join(conditions)} ORDER BY {by}"
    )
    return file.rows(query, values, tables).column("feature").to_numpy()


def rows(
    file: HarvestFile,
    dictionary: str,
    features: Sequence[int] | np.ndarray,
    columns: Sequence[str] = tuple(COLUMNS),
    said: Annotations | None = None,
) -> pa.Table:
    """`columns` of these features, in this order. Raises InputError for an unknown column."""
    for column in columns:
        pick("column", column, COLUMNS)
    kinds = tuple(FROM[column] for column in columns if column in FROM)
    tables = tables_of(kinds, dictionary, said) | {"page": numbered(features)}
    chosen = ", ".join(f"{COLUMNS[name]} AS {name}" for name in columns)
    query = (
        f"SELECT {chosen} FROM {joined(kinds)} JOIN page ON page.feature = f.feature "
        "WHERE f.dictionary = ? AND f.feature IN (SELECT feature FROM page) ORDER BY page.place"
    )
    return file.rows(query, [dictionary], tables)


def joined(kinds: Sequence[str]) -> str:
    """The tables of a query: features, and beside them what was said."""
    return "feature f" + "".join(f" LEFT JOIN {k} ON {k}.feature = f.feature" for k in kinds)


def tables_of(
    kinds: Sequence[str], dictionary: str, said: Annotations | None
) -> dict[str, pa.Table]:
    """Kind → what is in force of it in the dictionary, columns feature and value."""
    known = said or Annotations.empty()
    return {kind: known.values(dictionary, kind) for kind in kinds}


def numbered(features: Sequence[int] | np.ndarray) -> pa.Table:
    """The features as a table, with their places."""
    indices = pa.array(np.asarray(features, dtype=np.int32))
    return pa.table({"feature": indices, "place": pa.array(np.arange(len(indices)))})


def check(kind: str) -> bool:
    """Whether features can be asked to have it; an InputError if there is no such kind."""
    if kind not in SAID:
        raise InputError(f"Features have no {kind!r} to ask for. There is: {', '.join(SAID)}.")
    return True
