"""Import writer: save checked rows of labels, lists and explanations in the catalog in one
transaction, without repeating what is in force."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import duckdb
import pyarrow as pa

from feature_store.catalog import Catalog, utc_now
from feature_store.exchange.import_rows import ImportRows
from feature_store.explanations import EXPLANATION_KEY
from feature_store.feature_list_edits import ListEdit, next_change_number
from feature_store.feature_lists import FeatureList, FeatureLists
from feature_store.records import FeatureId

INSERT_LABELS = """
    INSERT INTO annotation (dictionary, feature, kind, value, created)
    SELECT DISTINCT ON (dictionary, feature, kind) dictionary, feature, kind, incoming.value, ?
    FROM incoming LEFT JOIN (
        SELECT dictionary, feature, kind, arg_max(value, annotation) AS value
        FROM annotation GROUP BY ALL
    ) AS said USING (dictionary, feature, kind)
    WHERE said.value IS DISTINCT FROM incoming.value
    ORDER BY ALL
"""
IN_FORCE = f"""
    FROM explanation
    QUALIFY row_number() OVER (PARTITION BY {EXPLANATION_KEY} ORDER BY explanation DESC) = 1
"""
INSERT_EXPLANATIONS = f"""
    INSERT INTO explanation ({EXPLANATION_KEY}, author, provenance, withdrawn, created)
    SELECT {EXPLANATION_KEY}, author, provenance, false, ? FROM (
        FROM incoming QUALIFY row_number() OVER (PARTITION BY {EXPLANATION_KEY}) = 1
    ) ANTI JOIN (SELECT {EXPLANATION_KEY} FROM ({IN_FORCE}) WHERE NOT withdrawn) USING
    ({EXPLANATION_KEY})
    ORDER BY dictionary, feature
"""
WITHDRAW = f"""
    INSERT INTO explanation ({EXPLANATION_KEY}, author, provenance, withdrawn, created)
    SELECT {EXPLANATION_KEY}, author, provenance, true, ? FROM ({IN_FORCE})
    WHERE NOT withdrawn AND dictionary = ? AND explainer = ? AND model = ?
"""


@dataclass(frozen=True)
class ImportCounts:
    """Numbers of rows that an import added to the catalog, and that it skipped because they were
    there already."""

    new: int
    """Number of rows that the import added."""
    same: int
    """Number of imported rows that were in force already or repeated in the file."""


def save_import(
    catalog: Catalog, rows: ImportRows, *, patience_s: float | None = None
) -> ImportCounts:
    """Save imported rows in the catalog: all of them or, if anything fails, none.

    Importing the same rows again changes nothing. An existing label with another text is replaced
    as if a person had typed the new one: the old label stays in its history.
    """
    now, table = utc_now(), rows.table
    with catalog.transaction(patience_s) as db:
        if rows.kind == "lists":
            new = sum(save_list(db, *one, now) for one in group_rows_by_list(table))
        else:
            db.register("incoming", table)
            query = INSERT_LABELS if rows.kind == "labels" else INSERT_EXPLANATIONS
            new = count_inserted_rows(db, query, [now])
            db.unregister("incoming")
    return ImportCounts(new, table.num_rows - new)


def withdraw_explanations(
    catalog: Catalog,
    dictionary: str,
    explainer: str,
    model: str,
    *,
    patience_s: float | None = None,
) -> int:
    """Withdraw all explanations of a dictionary by one explainer and model; return their number.

    They stay in the catalog as history, and another import restores them.
    """
    with catalog.transaction(patience_s) as db:
        return count_inserted_rows(db, WITHDRAW, [utc_now(), dictionary, explainer, model])


def count_inserted_rows(db: duckdb.DuckDBPyConnection, query: str, given: list[object]) -> int:
    """Run an INSERT into the catalog and return the number of rows it added."""
    ((rows,),) = db.execute(query, given).fetchall()
    return rows


def group_rows_by_list(
    table: pa.Table,
) -> Iterable[tuple[str, str, str, list[tuple[FeatureId, str]]]]:
    """Return (id, name, description, [(feature, note)]) of each list in an import, in the file's
    order."""
    found: dict[str, tuple[str, str, str, list[tuple[FeatureId, str]]]] = {}
    for row in table.to_pylist():
        head = (row["list"], row["name"], row["description"])
        one = found.setdefault(row["list"], (*head, []))
        if row["feature"] is not None:
            one[3].append((FeatureId(row["dictionary"], row["feature"]), row["note"]))
    return found.values()


def save_list(
    db: duckdb.DuckDBPyConnection,
    list_id: str,
    name: str,
    description: str,
    features: list[tuple[FeatureId, str]],
    now: datetime,
) -> int:
    """Save one imported list: its name and notes as in the file; entries that only the store has
    are kept.

    Returns how many of the file's rows were new.
    """
    lists = FeatureLists.read(db, list_id)
    there = any(row.list == list_id for row in lists.headings)
    here = lists.get(list_id) if there else FeatureList(list_id, "", "", False, now, ())
    draft = ListEdit(db, lists, here, next_change_number(db), now)
    renamed = not there or (here.name, here.description, here.deleted) != (name, description, False)
    if renamed:
        draft.write_heading(name, description)
    entries = {entry.feature: entry for entry in here.entries}
    place, new = max((entry.place for entry in here.entries), default=0), 0
    for feature, note in dict(features).items():
        entry = entries.get(feature)
        if entry is None:
            place += 1
        if entry is None or entry.note != note:
            draft.write_entry(feature, note, place if entry is None else entry.place)
            new += 1
    return new if features else int(renamed)
