"""A list's changes in words, for its history and for what Undo takes back."""

from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from app.wording import plural
from feature_store.feature_lists import ListEntry, ListHeading
from feature_store.records import FeatureId

SHOWN = 80
"""Characters of a text that is quoted."""


@dataclass(frozen=True)
class Change:
    """One change, as a sentence's end: `added resid/3`."""

    when: datetime
    words: str


def changes(history: list[ListHeading | ListEntry]) -> list[Change]:
    """What was done, oldest first; `history` as `Lists.history` has it."""
    head: ListHeading | None = None
    entries: dict[FeatureId, ListEntry] = {}
    found = []
    for _, rows in groupby(history, key=lambda row: row.change):
        group, said = list(rows), []
        for row in group:
            if isinstance(row, ListHeading):
                said += headed(head, row)
                head = row
        said += entered([row for row in group if isinstance(row, ListEntry)], entries)
        entries |= {row.feature: row for row in group if isinstance(row, ListEntry)}
        found.append(Change(group[0].created, "; ".join(said) or "nothing"))
    return found


def headed(former: ListHeading | None, row: ListHeading) -> list[str]:
    """What a new heading changed."""
    if former is None:
        return [f"created “{quoted(row.name)}”"]
    said = []
    if row.deleted != former.deleted:
        said.append("deleted the list" if row.deleted else "brought the list back")
    if row.name != former.name:
        said.append(f"called it “{quoted(row.name)}”")
    if row.description != former.description:
        said.append(f"described it: “{quoted(row.description)}”")
    return said


def entered(rows: list[ListEntry], former: dict[FeatureId, ListEntry]) -> list[str]:
    """What new entries changed, features counted where there are many."""
    kinds: dict[str, list[FeatureId]] = {}
    notes = []
    for row in rows:
        before = former.get(row.feature)
        if row.removed:
            kinds.setdefault("removed", []).append(row.feature)
        elif before is None or before.removed:
            kinds.setdefault("added", []).append(row.feature)
        elif row.note != before.note:
            notes.append(f"note of {row.feature}: “{quoted(row.note)}”")
        else:
            kinds.setdefault("moved", []).append(row.feature)
    told = [f"{kind} {several(features)}" for kind, features in kinds.items()]
    return told + (notes if len(notes) < 3 else [f"changed {plural(len(notes), 'note')}"])


def several(features: list[FeatureId]) -> str:
    """Up to three by name."""
    few = len(features) <= 3
    return ", ".join(map(str, features)) if few else plural(len(features), "feature")


def quoted(text: str) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else line[:SHOWN] + "…"
