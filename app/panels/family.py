"""Which features fire nearly wherever it does, and which fire nearly only where it does."""

import streamlit as st

from app import components, pooling, session
from app.panels.panel_context import PanelContext
from app.tokens import visible
from app.wording import count, measure, share
from feature_store import coactivation
from feature_store.coactivation import RelatedFeature
from feature_store.records import FeatureId
from feature_store.window_pool import MIN_TOGETHER

TITLE = "Family"
MAX_RELATIVES = 8
RELATIVE_COLUMNS = [
    {"name": "feature", "kind": "", "hint": ""},
    {"name": "label", "kind": "", "hint": ""},
    {"name": "P(parent | child)", "kind": "number", "hint": "share of the child's tokens"},
    {"name": "95 %", "kind": "number", "hint": "Wilson's interval, tokens taken as independent"},
    {"name": "P(child | parent)", "kind": "number", "hint": "share of the parent's tokens"},
    {"name": "n", "kind": "number", "hint": "sampled tokens on which the child fires"},
    {"name": "promotes", "kind": "code", "hint": "the token it promotes most"},
]
NO_RELATIVES = {
    "parents": "None: nothing else fires on most of its tokens and on many others.",
    "children": "None: nothing else fires mostly inside it and on fewer tokens.",
}


def draw(subject: PanelContext) -> None:
    """Parents and children, side by side."""
    pool = pooling.of(subject.place)
    n = len(pool.activations_of(subject.id.index)[0])
    parents, children = coactivation.find_relatives(pool, subject.id.index, MAX_RELATIVES)
    for side, name, found in zip(
        st.columns(2), ("parents", "children"), (parents, children), strict=True
    ):
        with side:
            st.markdown(f"**{name.capitalize()}**")
            draw_relatives(subject, name, found)
    st.caption(
        f"It fires on {count(n)} of {count(pool.n_tokens)} sampled tokens. A parent fires on at "
        f"least {share(coactivation.MIN_PARENT_SHARE)} of the child's tokens, at least "
        f"{coactivation.MIN_LIFT:g} times as "
        f"often as anywhere and {coactivation.MIN_ASYMMETRY:g} times the share the other way "
        f"round; "
        f"{MIN_TOGETHER} tokens together at least."
    )


def draw_relatives(subject: PanelContext, name: str, found: list[RelatedFeature]) -> None:
    """One side as a table of links."""
    if not found:
        st.caption(NO_RELATIVES[name])
        return
    key = f"feature_{name}"
    data = {
        "ruled": False,
        "columns": RELATIVE_COLUMNS,
        "rows": [make_relative_row(subject, one) for one in found],
    }
    components.rows(key=key, data=data, on_go_change=lambda: session.follow(key))


def make_relative_row(subject: PanelContext, one: RelatedFeature) -> dict[str, object]:
    """One relative."""
    place = subject.place
    there = FeatureId(subject.id.dictionary, one.feature)
    promoted = place.file.facts(there).promoted_tokens
    text = visible(place.file.vocabulary.text(promoted[0])) if promoted else ""
    label = subject.said.annotations.values_of_feature(there).get("label", "")
    cells = [
        str(one.feature),
        label,
        measure(one.p_parent_given_child, 2),
        f"{measure(one.low, 2)}–{measure(one.high, 2)}",
        measure(one.p_child_given_parent, 2),
        count(one.n_child),
        text,
    ]
    query = place.at(one.feature)
    return {
        "href": session.href(session.FEATURE, query),
        "target": query["feature"],
        "cells": cells,
        "notes": [],
    }
