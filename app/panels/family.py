"""The Family panel: parent and child features by co-activation."""

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
    {
        "name": "P(parent | child)",
        "kind": "number",
        "hint": "Share of the child's tokens at which the parent is active.",
    },
    {
        "name": "95 %",
        "kind": "number",
        "hint": "Wilson's 95 % interval; tokens are treated as independent.",
    },
    {
        "name": "P(child | parent)",
        "kind": "number",
        "hint": "Share of the parent's tokens at which the child is active.",
    },
    {"name": "n", "kind": "number", "hint": "Sampled tokens at which the child is active."},
    {"name": "promotes", "kind": "code", "hint": "The token whose logit the feature raises most."},
]
NO_RELATIVES = {
    "parents": "None: no other feature is active at most of its tokens and at many others.",
    "children": "None: no other feature is active mostly at its tokens and at fewer of them.",
}


def draw(panel: PanelContext) -> None:
    """Draw the tables of the feature's parents and children next to each other."""
    pool = pooling.of(panel.place)
    n = len(pool.activations_of(panel.id.index)[0])
    parents, children = coactivation.find_relatives(pool, panel.id.index, MAX_RELATIVES)
    for side, name, found in zip(
        st.columns(2), ("parents", "children"), (parents, children), strict=True
    ):
        with side:
            st.markdown(f"**{name.capitalize()}**")
            draw_relatives(panel, name, found)
    st.caption(
        f"The feature is active at {count(n)} of {count(pool.n_tokens)} sampled tokens. A parent "
        f"is active at {share(coactivation.MIN_PARENT_SHARE)} or more of the child's tokens, "
        f"which is at least {coactivation.MIN_LIFT:g} times its density and at least "
        f"{coactivation.MIN_ASYMMETRY:g} times the child's share of the parent's tokens. Both are "
        f"active at {MIN_TOGETHER} or more tokens."
    )


def draw_relatives(panel: PanelContext, name: str, found: list[RelatedFeature]) -> None:
    """Draw the parents or the children of a feature as a table of links."""
    if not found:
        st.caption(NO_RELATIVES[name])
        return
    key = f"feature_{name}"
    data = {
        "ruled": False,
        "columns": RELATIVE_COLUMNS,
        "rows": [make_relative_row(panel, one) for one in found],
    }
    components.rows(key=key, data=data, on_go_change=lambda: session.follow(key))


def make_relative_row(panel: PanelContext, one: RelatedFeature) -> dict[str, object]:
    """Return one parent or child as a row of the table."""
    place = panel.place
    there = FeatureId(panel.id.dictionary, one.feature)
    promoted = place.file.facts(there).promoted_tokens
    text = visible(place.file.vocabulary.text(promoted[0])) if promoted else ""
    label = panel.catalog.annotations.values_of_feature(there).get("label", "")
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
