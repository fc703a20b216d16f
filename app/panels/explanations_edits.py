"""Edits of a feature's explanations by a person: write, edit, withdraw, and choose the preferred
one, which becomes the feature's label."""

from typing import Any

import streamlit as st

from app import annotations, session
from app.panels.panel_context import PanelContext
from feature_store import explanation_edits
from feature_store.errors import InputError
from feature_store.explanations import PERSON, Explanation
from feature_store.label_index import normalize_label
from feature_store.strict_json import parse_json

ERROR_KEY = "explanations_error"
"""Session key of the error of the last edit."""


def draw_explanation_field(panel: PanelContext) -> None:
    """Draw the field in which a person writes an explanation, or edits a copy of another one."""
    if not panel.catalog.writable:
        return
    key = explanation_field_key(panel)
    st.text_input(
        "Your explanation",
        key=key,
        label_visibility="collapsed",
        on_change=save_explanation,
        args=(panel,),
        placeholder="write your own explanation; it can be scored like the others",
    )


def explanation_field_key(panel: PanelContext) -> str:
    """Return the session key of the explanation field, one for each feature."""
    return f"explanations_own_{panel.id}"


def save_explanation(panel: PanelContext) -> None:
    """Callback of the field: save the explanation and make it the feature's label."""
    text = st.session_state[explanation_field_key(panel)]
    if not text.strip():
        return
    if any(
        is_label(one) and one.text == " ".join(text.split()) for one in list_explanations(panel)
    ):
        st.session_state[explanation_field_key(panel)] = (
            ""  # the label exists already, with its scores
        )
        return
    more = {"from": st.session_state.get(f"{explanation_field_key(panel)}_from")}
    if try_catalog_change(
        explanation_edits.write_explanation, panel.id, text, {k: v for k, v in more.items() if v}
    ):
        st.session_state[explanation_field_key(panel)] = ""
        st.session_state.pop(f"{explanation_field_key(panel)}_from", None)
        annotations.say(panel.id, "label", normalize_label(text))


def start_editing(panel: PanelContext, one: Explanation) -> None:
    """Callback of Edit: copy the explanation's text into the field."""
    st.session_state[explanation_field_key(panel)] = one.text
    st.session_state[f"{explanation_field_key(panel)}_from"] = one.explanation


def withdraw_explanation(panel: PanelContext, one: Explanation) -> None:
    """Callback of Withdraw: withdraw the explanation. A preferred explanation by a person also
    stops being the label; one by a model leaves the label in force."""
    if not is_label(one) and not try_catalog_change(
        explanation_edits.withdraw_explanation, one.explanation
    ):
        return
    if one.explainer == PERSON and is_preferred(one, preferred_label(panel)):
        annotations.say(panel.id, "label", "")


def list_explanations(panel: PanelContext) -> list[Explanation]:
    """Return the explanations of the feature, including its labels."""
    return panel.catalog.annotations.scorable.of_feature(panel.id)


def is_label(one: Explanation) -> bool:
    """Return whether the text is only a label, not a stored explanation."""
    return one.explanation < 0


def try_catalog_change(work: Any, *given: Any) -> bool:
    """Apply a change to the catalog and return whether it worked; an InputError is kept for
    `draw_problem`."""
    st.session_state.pop(ERROR_KEY, None)
    try:
        work(session.store().catalog, *given)
    except InputError as error:
        st.session_state[ERROR_KEY] = str(error)
        return False
    return True


def draw_problem() -> None:
    """Draw the error of the last edit, once."""
    if sentence := st.session_state.pop(ERROR_KEY, None):
        st.markdown(f":red[{session.literal(sentence)}]")


def draw_edit_buttons(panel: PanelContext, one: Explanation, chosen: str) -> None:
    """Draw Use as label, Edit and Withdraw for an explanation; nothing where the catalog is
    read-only."""
    if is_preferred(one, chosen):
        st.caption("preferred", width="content", help="This explanation is the feature's label.")
    if not panel.catalog.writable:
        return
    if not is_preferred(one, chosen):
        st.button(
            "Use as label",
            key=f"explanation_use_{one.explanation}",
            type="tertiary",
            on_click=annotations.say,
            args=(panel.id, "label", normalize_label(one.text)),
            help="Make this explanation the feature's label; tables show its score.",
        )
    st.button(
        "Edit",
        key=f"explanation_edit_{one.explanation}",
        type="tertiary",
        on_click=start_editing,
        args=(panel, one),
        help="Copy the text into the field above. This explanation stays.",
    )
    st.button(
        "Withdraw",
        key=f"explanation_withdraw_{one.explanation}",
        type="tertiary",
        on_click=withdraw_explanation,
        args=(panel, one),
        help="Withdraw this explanation and its scores. Both stay in the history.",
    )


def preferred_label(panel: PanelContext) -> str:
    """Return the label of the feature, or an empty text."""
    return panel.catalog.annotations.values_of_feature(panel.id).get("label", "")


def is_preferred(one: Explanation, chosen: str) -> bool:
    """Return whether an explanation is the feature's label, compared as labels are stored: on one
    line and possibly shortened."""
    return bool(chosen) and normalize_label(one.text) == normalize_label(chosen)


def read_provenance(one: Explanation) -> dict[str, Any]:
    """Return an explanation's provenance, or an empty dict where it is no JSON object."""
    told = parse_json(one.provenance)
    return told if isinstance(told, dict) else {}
