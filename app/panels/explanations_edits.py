"""What a person does with explanations: their own words, the preferred one, one taken back."""

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
"""Of the session: what could not be done."""


def draw_explanation_field(subject: PanelContext) -> None:
    """A field for one's own sentence; an explanation that is edited starts from its words."""
    if not subject.said.writable:
        return
    key = explanation_field_key(subject)
    st.text_input(
        "Your explanation",
        key=key,
        label_visibility="collapsed",
        on_change=save_explanation,
        args=(subject,),
        placeholder="your own explanation, kept beside the others and scored like them",
    )


def explanation_field_key(subject: PanelContext) -> str:
    """The key of the field: each feature has its own."""
    return f"explanations_own_{subject.id}"


def save_explanation(subject: PanelContext) -> None:
    """Callback: keep what was typed; it becomes the label, too."""
    text = st.session_state[explanation_field_key(subject)]
    if not text.strip():
        return
    if any(
        is_label(one) and one.text == " ".join(text.split()) for one in list_explanations(subject)
    ):
        st.session_state[explanation_field_key(subject)] = (
            ""  # it is said already, and has its scores
        )
        return
    more = {"from": st.session_state.get(f"{explanation_field_key(subject)}_from")}
    if try_catalog_change(
        explanation_edits.write_explanation, subject.id, text, {k: v for k, v in more.items() if v}
    ):
        st.session_state[explanation_field_key(subject)] = ""
        st.session_state.pop(f"{explanation_field_key(subject)}_from", None)
        annotations.say(subject.id, "label", normalize_label(text))


def start_editing(subject: PanelContext, one: Explanation) -> None:
    """Callback: its words go into the field."""
    st.session_state[explanation_field_key(subject)] = one.text
    st.session_state[f"{explanation_field_key(subject)}_from"] = one.explanation


def withdraw_explanation(subject: PanelContext, one: Explanation) -> None:
    """Callback: take it back; of a person's words the label, too, where another's stay one."""
    if not is_label(one) and not try_catalog_change(
        explanation_edits.withdraw_explanation, one.explanation
    ):
        return
    if one.explainer == PERSON and is_preferred(one, preferred_label(subject)):
        annotations.say(subject.id, "label", "")


def list_explanations(subject: PanelContext) -> list[Explanation]:
    """All that is said of the feature, labels among it."""
    return subject.said.annotations.scorable.of_feature(subject.id)


def is_label(one: Explanation) -> bool:
    """Whether it is a label, and nowhere written as an explanation."""
    return one.explanation < 0


def try_catalog_change(work: Any, *given: Any) -> bool:
    """One change of the catalog; what stands in its way is kept as a sentence."""
    st.session_state.pop(ERROR_KEY, None)
    try:
        work(session.store().catalog, *given)
    except InputError as error:
        st.session_state[ERROR_KEY] = str(error)
        return False
    return True


def draw_problem() -> None:
    """Say what could not be done, once."""
    if sentence := st.session_state.pop(ERROR_KEY, None):
        st.markdown(f":red[{session.literal(sentence)}]")


def draw_edit_buttons(subject: PanelContext, one: Explanation, chosen: str) -> None:
    """What can be done with an explanation; none where the catalog cannot be written."""
    if is_preferred(one, chosen):
        st.caption("preferred", width="content", help="It is the feature's label.")
    if not subject.said.writable:
        return
    if not is_preferred(one, chosen):
        st.button(
            "Use as label",
            key=f"explanation_use_{one.explanation}",
            type="tertiary",
            on_click=annotations.say,
            args=(subject.id, "label", normalize_label(one.text)),
            help="Prefer it: it names the feature, and its score stands in tables.",
        )
    st.button(
        "Edit",
        key=f"explanation_edit_{one.explanation}",
        type="tertiary",
        on_click=start_editing,
        args=(subject, one),
        help="Its words go into the field above; this one stays.",
    )
    st.button(
        "Withdraw",
        key=f"explanation_withdraw_{one.explanation}",
        type="tertiary",
        on_click=withdraw_explanation,
        args=(subject, one),
        help="Take it back, and its scores; both stay as history.",
    )


def preferred_label(subject: PanelContext) -> str:
    """The label in force."""
    return subject.said.annotations.values_of_feature(subject.id).get("label", "")


def is_preferred(one: Explanation, chosen: str) -> bool:
    """Whether an explanation is the label; labels stand on one line and may be cut."""
    return bool(chosen) and normalize_label(one.text) == normalize_label(chosen)


def read_provenance(one: Explanation) -> dict[str, Any]:
    """What is known of where it is from; empty where it is no object."""
    told = parse_json(one.provenance)
    return told if isinstance(told, dict) else {}
