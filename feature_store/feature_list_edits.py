"""Feature list edits: create, rename, reorder and delete lists of features; every function is one
transaction that adds rows under one change number.

Two people may edit one list: the last change of each entry and heading is in force, and the earlier
ones stay in its history.
"""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import duckdb

from feature_store.catalog import Catalog, utc_now
from feature_store.errors import InputError
from feature_store.feature_lists import FeatureList, FeatureLists, ListHeading
from feature_store.records import FeatureId

NAME_LENGTH, TEXT_LENGTH = 120, 5_000
"""Maximum numbers of characters of a feature list's name, and of a description or a note."""
MAX_FEATURES = 10_000
"""Maximum number of features in a feature list."""


@dataclass
class ListEdit:
    """One change to one feature list, inside an open catalog transaction."""

    db: duckdb.DuckDBPyConnection
    lists: FeatureLists
    list: FeatureList
    change: int
    now: datetime

    def write_heading(self, name: str, description: str, *, deleted: bool = False) -> None:
        """Write the feature list's name, description and whether it is deleted."""
        row = [self.change, self.list.id, name, description, deleted, self.now]
        self.db.execute("INSERT INTO feature_list VALUES (?, ?, ?, ?, ?, ?)", row)

    def write_entry(
        self, feature: FeatureId, note: str, place: int, *, removed: bool = False
    ) -> None:
        """Write a feature's note, place and whether it is removed from the feature list."""
        row = [self.change, self.list.id, feature.dictionary, feature.index, note, place]
        self.db.execute(
            "INSERT INTO list_entry VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [*row, removed, self.now]
        )


@contextmanager
def edit_list(
    catalog: Catalog, list_id: str, patience_s: float | None = None
) -> Iterator[ListEdit]:
    """Yield the edit of one feature list, inside a catalog transaction that is committed at the end
    of the block. Raises InputError if there is no such list."""
    with catalog.transaction(patience_s) as db:
        lists = FeatureLists.read(db, list_id)
        yield ListEdit(db, lists, lists.get(list_id), next_change_number(db), utc_now())


def create_list(
    catalog: Catalog, name: str, description: str = "", *, patience_s: float | None = None
) -> str:
    """Create an empty feature list and return its id. Raises InputError for an empty name."""
    name, description = clean_list_name(name), description.strip()[:TEXT_LENGTH]
    list_id = secrets.token_hex(5)
    with catalog.transaction(patience_s) as db:
        row = [next_change_number(db), list_id, name, description, False, utc_now()]
        db.execute("INSERT INTO feature_list VALUES (?, ?, ?, ?, ?, ?)", row)
    return list_id


def describe_list(
    catalog: Catalog,
    list_id: str,
    *,
    name: str | None = None,
    description: str | None = None,
    patience_s: float | None = None,
) -> None:
    """Change the name or the description of a feature list; arguments that are None change
    nothing."""
    with edit_list(catalog, list_id, patience_s) as draft:
        former = draft.list
        new_name = former.name if name is None else clean_list_name(name)
        text = former.description if description is None else description.strip()[:TEXT_LENGTH]
        if (new_name, text) != (former.name, former.description):
            draft.write_heading(new_name, text, deleted=former.deleted)


def delete_list(
    catalog: Catalog, list_id: str, *, restore: bool = False, patience_s: float | None = None
) -> None:
    """Delete a feature list, or undelete it with `restore`. Its rows are kept either way."""
    with edit_list(catalog, list_id, patience_s) as draft:
        if draft.list.deleted is restore:
            draft.write_heading(draft.list.name, draft.list.description, deleted=not restore)


def add_features(
    catalog: Catalog,
    list_id: str,
    features: Sequence[FeatureId],
    *,
    patience_s: float | None = None,
) -> int:
    """Append features to a feature list; return how many were not in it yet."""
    with edit_list(catalog, list_id, patience_s) as draft:
        there = set(draft.list.features)
        new = [feature for feature in dict.fromkeys(features) if feature not in there]
        if len(there) + len(new) > MAX_FEATURES:
            raise InputError(f"A list holds {MAX_FEATURES} features at most. Start another list.")
        last = draft.list.entries[-1].place if draft.list.entries else 0
        for place, feature in enumerate(new, last + 1):
            draft.write_entry(feature, "", place)
    return len(new)


def write_note(
    catalog: Catalog,
    list_id: str,
    feature: FeatureId,
    text: str,
    *,
    patience_s: float | None = None,
) -> None:
    """Write a feature's note in a feature list. A feature that another person removed is added
    again."""
    text = text.strip()[:TEXT_LENGTH]
    with edit_list(catalog, list_id, patience_s) as draft:
        rows = [row for row in draft.lists.entries if row.feature == feature]
        if not rows:
            raise InputError(f"{feature} is not in the list {draft.list.name!r}. Add it first.")
        if rows[-1].removed or rows[-1].note != text:
            draft.write_entry(feature, text, rows[-1].place)


def move_feature(
    catalog: Catalog,
    list_id: str,
    feature: FeatureId,
    offset: int,
    *,
    patience_s: float | None = None,
) -> None:
    """Swap a feature in a feature list with the entry `offset` places below, if there is one."""
    with edit_list(catalog, list_id, patience_s) as draft:
        entries = list(draft.list.entries)
        here = next((i for i, entry in enumerate(entries) if entry.feature == feature), None)
        if here is None or not 0 <= here + offset < len(entries):
            return
        entries[here], entries[here + offset] = entries[here + offset], entries[here]
        for place, entry in enumerate(entries, 1):
            if entry.place != place:
                draft.write_entry(entry.feature, entry.note, place)


def remove_features(
    catalog: Catalog,
    list_id: str,
    features: Sequence[FeatureId],
    *,
    patience_s: float | None = None,
) -> None:
    """Remove features from a feature list; their notes are kept, so that undo restores them."""
    with edit_list(catalog, list_id, patience_s) as draft:
        for entry in draft.list.entries:
            if entry.feature in features:
                draft.write_entry(entry.feature, entry.note, entry.place, removed=True)


def undo_change(catalog: Catalog, list_id: str, *, patience_s: float | None = None) -> None:
    """Undo the last change of a feature list; a second call redoes it."""
    with edit_list(catalog, list_id, patience_s) as draft:
        past = draft.lists.history(list_id)
        last = past[-1].change
        for row in (row for row in past if row.change == last):
            if isinstance(row, ListHeading):
                former = [r for r in draft.lists.headings if r.change < last]
                said = former[-1] if former else row
                draft.write_heading(
                    said.name, said.description, deleted=said.deleted if former else not row.deleted
                )
            else:
                mine = [r for r in draft.lists.entries if r.feature == row.feature]
                before = [r for r in mine if r.change < last]
                kept = before[-1] if before else row
                gone = kept.removed if before else True
                draft.write_entry(row.feature, kept.note, kept.place, removed=gone)


def next_change_number(db: duckdb.DuckDBPyConnection) -> int:
    """Return a new change number for the rows of one edit of a feature list, above all earlier
    ones."""
    ((number,),) = db.execute("SELECT nextval('list_change')").fetchall()
    return number


def clean_list_name(name: str) -> str:
    """Return a feature list's name on one line. Raises InputError if it is empty."""
    name = " ".join(name.split())[:NAME_LENGTH]
    if not name:
        raise InputError("A list needs a name. Enter one.")
    return name
