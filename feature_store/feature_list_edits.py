"""Changing lists: every call is one transaction that adds rows under one change number.

Two people may edit one list: each entry and each heading is as the last one wrote it, and what the
others wrote stays in its history.
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
"""Characters of a name, and of a description or a note, at most."""
MAX_FEATURES = 10_000
"""Features of a list at most."""


@dataclass
class ListEdit:
    """A list being changed inside a transaction."""

    db: duckdb.DuckDBPyConnection
    lists: FeatureLists
    list: FeatureList
    change: int
    now: datetime

    def head(self, name: str, description: str, *, deleted: bool = False) -> None:
        """Say what the list is called."""
        row = [self.change, self.list.id, name, description, deleted, self.now]
        self.db.execute("INSERT INTO feature_list VALUES (?, ?, ?, ?, ?, ?)", row)

    def put(self, feature: FeatureId, note: str, place: int, *, removed: bool = False) -> None:
        """Say how a feature stands in the list."""
        row = [self.change, self.list.id, feature.dictionary, feature.index, note, place]
        self.db.execute(
            "INSERT INTO list_entry VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [*row, removed, self.now]
        )


@contextmanager
def edit_list(
    catalog: Catalog, list_id: str, patience_s: float | None = None
) -> Iterator[ListEdit]:
    """A list, to be changed in one transaction. Raises InputError where there is none."""
    with catalog.transaction(patience_s) as db:
        lists = FeatureLists.read(db, list_id)
        yield ListEdit(db, lists, lists.get(list_id), next_change_number(db), utc_now())


def create_list(
    catalog: Catalog, name: str, description: str = "", *, patience_s: float | None = None
) -> str:
    """A new, empty list; its id. Raises InputError without a name."""
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
    """Call it otherwise, describe it otherwise; what is not given stays."""
    with edit_list(catalog, list_id, patience_s) as draft:
        said = draft.list
        new_name = said.name if name is None else clean_list_name(name)
        text = said.description if description is None else description.strip()[:TEXT_LENGTH]
        if (new_name, text) != (said.name, said.description):
            draft.head(new_name, text, deleted=said.deleted)


def delete_list(
    catalog: Catalog, list_id: str, *, back: bool = False, patience_s: float | None = None
) -> None:
    """Put a list away; `back` brings it back. Nothing of it is lost."""
    with edit_list(catalog, list_id, patience_s) as draft:
        if draft.list.deleted is back:
            draft.head(draft.list.name, draft.list.description, deleted=not back)


def add_features(
    catalog: Catalog,
    list_id: str,
    features: Sequence[FeatureId],
    *,
    patience_s: float | None = None,
) -> int:
    """Put features at the list's end; how many were not in it yet."""
    with edit_list(catalog, list_id, patience_s) as draft:
        there = set(draft.list.features)
        new = [feature for feature in dict.fromkeys(features) if feature not in there]
        if len(there) + len(new) > MAX_FEATURES:
            raise InputError(f"A list holds {MAX_FEATURES} features at most. Begin another list.")
        last = draft.list.entries[-1].place if draft.list.entries else 0
        for place, feature in enumerate(new, last + 1):
            draft.put(feature, "", place)
    return len(new)


def write_note(
    catalog: Catalog,
    list_id: str,
    feature: FeatureId,
    text: str,
    *,
    patience_s: float | None = None,
) -> None:
    """What a feature is in the list for. A feature that somebody else removed comes back."""
    text = text.strip()[:TEXT_LENGTH]
    with edit_list(catalog, list_id, patience_s) as draft:
        rows = [row for row in draft.lists.entries if row.feature == feature]
        if not rows:
            raise InputError(f"{feature} is not in the list {draft.list.name!r}. Add it first.")
        if rows[-1].removed or rows[-1].note != text:
            draft.put(feature, text, rows[-1].place)


def move_feature(
    catalog: Catalog,
    list_id: str,
    feature: FeatureId,
    by: int,
    *,
    patience_s: float | None = None,
) -> None:
    """Swap a feature with the one `by` entries further down, if there is one."""
    with edit_list(catalog, list_id, patience_s) as draft:
        entries = list(draft.list.entries)
        here = next((i for i, entry in enumerate(entries) if entry.feature == feature), None)
        if here is None or not 0 <= here + by < len(entries):
            return
        entries[here], entries[here + by] = entries[here + by], entries[here]
        for place, entry in enumerate(entries, 1):
            if entry.place != place:
                draft.put(entry.feature, entry.note, place)


def remove_features(
    catalog: Catalog,
    list_id: str,
    features: Sequence[FeatureId],
    *,
    patience_s: float | None = None,
) -> None:
    """Take features out of the list; their notes are kept for undo."""
    with edit_list(catalog, list_id, patience_s) as draft:
        for entry in draft.list.entries:
            if entry.feature in features:
                draft.put(entry.feature, entry.note, entry.place, removed=True)


def undo_change(catalog: Catalog, list_id: str, *, patience_s: float | None = None) -> None:
    """Take the list's last change back; once more, and it is there again."""
    with edit_list(catalog, list_id, patience_s) as draft:
        past = draft.lists.history(list_id)
        last = past[-1].change
        for row in (row for row in past if row.change == last):
            if isinstance(row, ListHeading):
                former = [r for r in draft.lists.headings if r.change < last]
                said = former[-1] if former else row
                draft.head(
                    said.name, said.description, deleted=said.deleted if former else not row.deleted
                )
            else:
                mine = [r for r in draft.lists.entries if r.feature == row.feature]
                before = [r for r in mine if r.change < last]
                kept = before[-1] if before else row
                gone = kept.removed if before else True
                draft.put(row.feature, kept.note, kept.place, removed=gone)


def next_change_number(db: duckdb.DuckDBPyConnection) -> int:
    """A number for the rows of one change, above all former ones."""
    ((number,),) = db.execute("SELECT nextval('list_change')").fetchall()
    return number


def clean_list_name(name: str) -> str:
    """A list's name on one line. Raises InputError when nothing is left."""
    name = " ".join(name.split())[:NAME_LENGTH]
    if not name:
        raise InputError("A list needs a name. Type one.")
    return name
