"""A few features with numbers, as a table with links; and how they come into the page's edits."""

from collections.abc import Mapping, Sequence

import streamlit as st

from app import session, steering
from app.steer.picking import described
from app.steering import Subject
from backend.interventions.records import Edit
from feature_store.records import FeatureId


def table(subject: Subject, features: Sequence[str], columns: Mapping[str, Sequence[str]]) -> None:
    """A row for each feature: its number, what it is called, and the columns."""
    rows = [
        ["feature", "", *columns],
        ["---", "---", *("---:" for _ in columns)],
    ]
    for at, name in enumerate(features):
        feature = FeatureId.parse(name)
        query = {"harvest": subject.place.file.record.id, "feature": name}
        rows.append([
            f"[{session.literal(name)}]({session.href(session.FEATURE, query)})",
            session.literal(described(subject.place.file, feature, subject.said)),
            *(session.literal(values[at]) for values in columns.values()),
        ])  # fmt: skip
    st.markdown("\n".join(f"| {' | '.join(row)} |" for row in rows))


def offer(key: str, label: str, edits: Sequence[Edit]) -> None:
    """A button that puts these in place of the page's edits; `undo` brings those back."""
    st.button(label, key=key, on_click=steering.put, args=(tuple(edits),),
              help="In place of the edits above; “undo” there brings them back.")  # fmt: skip
