"""A few features with numbers, as a table with links; and how they come into the page's edits."""

from collections.abc import Mapping, Sequence

import streamlit as st

from app import components, session, steering
from app.steer.picking import described
from app.steering import SteeringTabContext
from backend.interventions.records import Edit
from feature_store.records import FeatureId


def table(
    key: str,
    subject: SteeringTabContext,
    features: Sequence[str],
    columns: Mapping[str, Sequence[str]],
) -> None:
    """A row for each feature: its number, what it is called, and the columns; a click opens it."""
    file = subject.place.file
    kinds = {"feature": "", "label, or what it promotes": "", **dict.fromkeys(columns, "number")}
    rows = []
    for at, name in enumerate(features):
        query = {"harvest": file.record.id, "feature": name}
        called = described(file, FeatureId.parse(name), subject.said)
        numbers = [values[at] for values in columns.values()]
        rows.append(
            {
                "href": session.href(session.FEATURE, query),
                "target": name,
                "cells": [name, called, *numbers],
                "notes": [],
            }
        )
    heads = [{"name": name, "kind": kind, "hint": ""} for name, kind in kinds.items()]
    data = {"ruled": True, "columns": heads, "rows": rows}
    clicked = components.rows(key=key, data=data, on_go_change=components.ignore)
    if clicked.go:
        query = {"harvest": file.record.id, "feature": clicked.go}
        st.switch_page(session.FEATURE, query_params=query)


def offer(key: str, label: str, edits: Sequence[Edit]) -> None:
    """A button that puts these in place of the page's edits; `undo` brings those back."""
    st.button(
        label,
        key=key,
        on_click=steering.put,
        args=(tuple(edits),),
        help="In place of the edits above; “undo” there brings them back.",
    )
