"""What is said of a feature, how well it does, and the way to more of both."""

import streamlit as st

from app import session
from app.panels import explanations_edits as edits
from app.panels import explanations_scores as scores
from app.panels.panel_context import PanelContext
from app.scores import now, words
from feature_store.explanations import PERSON, Explanation

TITLE = "Explanations"
MAX_EXPLANATIONS = 20
"""The newest are drawn, so many at most."""


def draw(subject: PanelContext) -> None:
    """The buttons, then each sentence with its provenance, scores, and what can be done with it."""
    found = edits.list_explanations(subject)
    now.offers(subject, explained=bool(found))
    edits.draw_explanation_field(subject)
    edits.draw_problem()
    if not found:
        draw_import_commands(subject)
        return
    chosen = edits.preferred_label(subject)
    ordered = sorted(found, key=lambda one: not edits.is_preferred(one, chosen))
    with st.container(gap="medium"):
        for one in ordered[:MAX_EXPLANATIONS]:
            with st.container(gap=None, key=f"explanation_{one.explanation}"):
                draw_explanation(subject, one, chosen)
    if len(found) > MAX_EXPLANATIONS:
        st.caption(f"the newest {MAX_EXPLANATIONS} of {len(found)}")


def draw_explanation(subject: PanelContext, one: Explanation, chosen: str) -> None:
    """One explanation; untrusted text, so it is never read as markup."""
    st.text(one.text)
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.caption(session.literal(describe_origin(one)), width="content")
        edits.draw_edit_buttons(subject, one, chosen)
    mine = [
        s
        for s in subject.said.annotations.scores.of_feature(subject.id)
        if s.explanation == one.explanation
    ]
    scores.draw_score_table(subject, one, mine)


def draw_import_commands(subject: PanelContext) -> None:
    """Nothing yet: what a terminal has for it."""
    st.write("No explanation of this feature is in the store yet. In a terminal:")
    name = subject.id.dictionary
    files = f"saefari import --store {session.shown_store()} FILE --dictionary {name}"
    st.code("\n".join([*now.commands(subject), files]), language="shell")


def describe_origin(one: Explanation) -> str:
    """Explainer, model, prompt, source, what it was written from, and when it came here."""
    told = edits.read_provenance(one)
    if edits.is_label(one):
        return f"a person’s label · written {one.created:%Y-%m-%d}"
    parts = ["a person" if one.explainer == PERSON else words.by(one.explainer, one.model)]
    prompt, shown = told.get("prompt"), told.get("shown")
    parts += [f"prompt {prompt}"] if prompt else []
    parts += [f"from {len(shown)} windows"] if isinstance(shown, list) and shown else []
    source = str(told.get("source", ""))
    own = source == "saefari"
    parts += [] if own else [source]
    verb = "written" if own else "imported"
    return " · ".join([*filter(None, parts), f"{verb} {one.created:%Y-%m-%d}"])
