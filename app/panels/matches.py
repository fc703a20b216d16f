"""The features of the harvest's other dictionaries that fire like this one."""

import streamlit as st

from app import components, session
from app.panels.subject import Subject
from app.session import Place
from app.tokens import visible
from app.wording import count
from feature_store import pool
from feature_store.pool import Match, Pool
from feature_store.reader import HarvestFile
from feature_store.records import FeatureId

TITLE = "In other dictionaries"
EACH = 1
"""Features shown of a dictionary."""
COLUMNS = [
    {"name": "feature", "kind": "", "hint": ""},
    {"name": "r", "kind": "number", "hint": "correlation of the two activations"},
    {"name": "promotes", "kind": "token", "hint": ""},
]


@st.cache_resource(show_spinner=False, max_entries=32)
def pooled(_file: HarvestFile, harvest_id: str, dictionary: str) -> Pool:
    """A dictionary's part of the pool of random windows."""
    return pool.read(_file, dictionary)


def draw(subject: Subject) -> None:
    """The best match in each dictionary, best first."""
    place = subject.place
    file, name = place.file, place.info.dictionary
    others = [other for other in file.dictionaries if other != name]
    if not others:
        st.caption("This harvest has no other dictionary.")
        return
    mine = pooled(file, file.record.id, name)
    found = [
        (other, match)
        for other in others
        for match in pool.matches(mine, subject.id.index, pooled(file, file.record.id, other), EACH)
    ]
    if not found:
        st.caption(f"Too few firings on the {count(mine.n_tokens)} sampled tokens to tell.")
        return
    ordered = sorted(found, key=lambda pair: -pair[1].correlation)
    components.rows(
        key="feature_matches",
        data={
            "ruled": False,
            "columns": COLUMNS,
            "rows": [row(file, other, match) for other, match in ordered],
        },
        on_go_change=lambda: session.follow("feature_matches"),
    )
    st.caption(f"correlation over {count(mine.n_tokens)} sampled tokens")


def row(file: HarvestFile, dictionary: str, match: Match) -> dict[str, object]:
    """One line of the table."""
    there = Place(file, file.dictionary(dictionary))
    promoted = file.facts(FeatureId(dictionary, match.feature)).promoted_tokens or []
    text = visible(file.vocabulary.text(promoted[0])) if promoted else ""
    return {
        "href": session.href(session.FEATURE, there.at(match.feature)),
        "target": f"{dictionary}/{match.feature}",
        "cells": [f"{dictionary}/{match.feature}", f"{match.correlation:+.2f}", text],
        "notes": [],
    }
