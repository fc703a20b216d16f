"""Feature lists: a snapshot of people's lists of features with notes, and the history of their
changes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

import duckdb
import pyarrow as pa

from feature_store.errors import InputError, suggest_near_miss
from feature_store.records import FeatureId

HEADING_SCHEMA = pa.schema(
    [
        ("change", pa.int64()),
        ("list", pa.string()),
        ("name", pa.string()),
        ("description", pa.string()),
        ("deleted", pa.bool_()),
        ("created", pa.timestamp("us")),
    ]
)
ENTRY_SCHEMA = pa.schema(
    [
        ("change", pa.int64()),
        ("list", pa.string()),
        ("dictionary", pa.string()),
        ("feature", pa.int32()),
        ("note", pa.string()),
        ("place", pa.int32()),
        ("removed", pa.bool_()),
        ("created", pa.timestamp("us")),
    ]
)
LIST_COLUMNS, ENTRY_COLUMNS = ", ".join(HEADING_SCHEMA.names), ", ".join(ENTRY_SCHEMA.names)


@dataclass(frozen=True)
class ListHeading:
    """One version of a feature list's name and description, in force from a change on until the
    next version."""

    change: int
    list: str
    name: str
    description: str
    deleted: bool
    created: datetime
    """Time of this change of the heading, UTC."""


@dataclass(frozen=True)
class ListEntry:
    """One version of a feature's entry in a feature list (note, place, and whether it is removed),
    in force from a change on until the next version."""

    change: int
    list: str
    feature: FeatureId
    note: str
    place: int
    """Sort key of the entry: entries of a feature list are in ascending order of place."""
    removed: bool
    created: datetime


@dataclass(frozen=True)
class FeatureList:
    """A feature list, a person's named collection of features with notes, in its current state."""

    id: str
    name: str
    description: str
    deleted: bool
    changed: datetime
    """Time of the latest change to the feature list, UTC."""
    entries: tuple[ListEntry, ...]
    """Entries of the feature list in order, without removed ones."""

    @property
    def features(self) -> list[FeatureId]:
        """Features of the feature list, in order."""
        return [entry.feature for entry in self.entries]


@dataclass(frozen=True)
class FeatureLists:
    """Snapshot of the catalog's feature lists with their history: all versions of headings and
    entries, oldest first."""

    headings: Sequence[ListHeading] = ()
    entries: Sequence[ListEntry] = ()

    @classmethod
    def read(cls, db: duckdb.DuckDBPyConnection, only: str | None = None) -> "FeatureLists":
        """Read all feature lists from an open catalog; with `only`, a single list."""
        where = "WHERE list = ?" if only is not None else ""
        given = [only] if only is not None else []
        headings = db.execute(
            f"SELECT {LIST_COLUMNS} FROM feature_list {where} ORDER BY change", given
        ).fetchall()
        rows = db.execute(
            f"SELECT {ENTRY_COLUMNS} FROM list_entry {where} ORDER BY change, place", given
        ).fetchall()
        entries = [ListEntry(c, n, FeatureId(d, f), *rest) for c, n, d, f, *rest in rows]
        return cls([ListHeading(*row) for row in headings], entries)

    def tables(self) -> tuple[pa.Table, pa.Table]:
        """Return the rows of all feature lists as Arrow tables, with the columns of
        HEADING_SCHEMA and ENTRY_SCHEMA."""
        headings = [vars(row) for row in self.headings]
        entries = [
            {**vars(row), "dictionary": row.feature.dictionary, "feature": row.feature.index}
            for row in self.entries
        ]
        return pa.Table.from_pylist(headings, HEADING_SCHEMA), pa.Table.from_pylist(
            entries, ENTRY_SCHEMA
        )

    def get(self, list_id: str) -> FeatureList:
        """Return the feature list of that id, deleted or not; InputError if there is none."""
        if list_id in self._all_lists:
            return self._all_lists[list_id]
        there = "The Lists page shows all lists." if self.current else "There are none yet."
        hint = suggest_near_miss(list_id, list(self._all_lists))
        raise InputError(f"There is no list {list_id!r} in this store.{hint} {there}")

    @cached_property
    def current(self) -> list[FeatureList]:
        """The feature lists that are not deleted, by name."""
        kept = [found for found in self._all_lists.values() if not found.deleted]
        return sorted(kept, key=lambda found: (found.name.casefold(), found.id))

    @cached_property
    def deleted(self) -> list[FeatureList]:
        """The deleted feature lists, most recently changed first."""
        gone = [found for found in self._all_lists.values() if found.deleted]
        return sorted(gone, key=lambda found: found.changed, reverse=True)

    def containing(self, feature: FeatureId) -> list[FeatureList]:
        """Return the feature lists that contain a feature, by name."""
        return [self._all_lists[name] for name in self._holding.get(feature, ())]

    def history(self, list_id: str) -> list[ListHeading | ListEntry]:
        """Return all changes of one feature list, oldest first."""
        rows: list[ListHeading | ListEntry] = [row for row in self.headings if row.list == list_id]
        rows += [row for row in self.entries if row.list == list_id]
        return sorted(rows, key=lambda row: row.change)

    @cached_property
    def _holding(self) -> dict[FeatureId, list[str]]:
        found: dict[FeatureId, list[str]] = {}
        for one in self.current:
            for entry in one.entries:
                found.setdefault(entry.feature, []).append(one.id)
        return found

    @cached_property
    def _all_lists(self) -> dict[str, FeatureList]:
        latest: dict[str, dict[FeatureId, ListEntry]] = {}
        changed: dict[str, tuple[int, datetime]] = {}
        for row in self.entries:
            latest.setdefault(row.list, {})[row.feature] = row
            changed[row.list] = (row.change, row.created)
        found: dict[str, FeatureList] = {}
        for row in self.headings:
            last = max(changed.get(row.list, (0, row.created)), (row.change, row.created))
            found[row.list] = FeatureList(
                row.list, row.name, row.description, row.deleted, last[1], ()
            )
        for name, rows in latest.items():
            kept = sorted((e for e in rows.values() if not e.removed), key=entry_order)
            found[name] = replace(found[name], entries=tuple(kept))
        return found


def entry_order(entry: ListEntry) -> tuple[int, str, int]:
    """Return the sort key of a list entry: its place, and for equal places its dictionary and
    index."""
    return entry.place, entry.feature.dictionary, entry.feature.index
