"""What others say of a feature: explanations, with who wrote them and where they are from."""

import streamlit as st

from app import annotations, session
from app.panels.subject import Subject
from feature_store.explanations import Explanation

TITLE = "Explanations"
SHOWN = 20
"""The newest are drawn, so many at most."""


def draw(subject: Subject) -> None:
    """Each sentence, its provenance, and a way to make it the label."""
    found = subject.said.annotations.explanations.of(subject.id)
    if not found:
        st.write("No explanation of this feature is in the store. One command brings them:")
        name = subject.id.dictionary
        st.code(
            f"saefari import --store {session.store().path} FILE --dictionary {name}",
            language="shell",
        )
        return
    label = subject.said.annotations.of(subject.id).get("label", "")
    for one in found[:SHOWN]:
        with st.container(gap=None, key=f"explanation_{one.explanation}"):
            st.text(one.text)
            with st.container(horizontal=True, gap="small", vertical_alignment="center"):
                st.caption(session.literal(origin(one)), width="content")
                if subject.said.writable and annotations.cleaned("label", one.text) != label:
                    st.button(
                        "Use as label", key=f"explanation_use_{one.explanation}", type="tertiary",
                        on_click=annotations.say, args=(subject.id, "label", one.text),
                    )  # fmt: skip
    if len(found) > SHOWN:
        st.caption(f"the newest {SHOWN} of {len(found)}")


def origin(one: Explanation) -> str:
    """Explainer, model, source, and when it came here."""
    parts = [one.explainer, one.model or ("a person" if one.author == "person" else ""), one.source]
    return " · ".join([*filter(None, dict.fromkeys(parts)), f"imported {one.created:%Y-%m-%d}"])
