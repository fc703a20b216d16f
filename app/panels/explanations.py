"""The Explanations panel: every explanation of the feature with its provenance and scores, and the
controls that generate, score and edit explanations."""

import streamlit as st

from app import session
from app.panels import explanations_edits as edits
from app.panels import explanations_scores as scores
from app.panels.panel_context import PanelContext
from app.scores import now, words
from feature_store.explanations import PERSON, Explanation

TITLE = "Explanations"
MAX_EXPLANATIONS = 20
"""The newest explanations are drawn, up to this number."""


def draw(panel: PanelContext) -> None:
    """Draw the Generate and Score buttons, the field for an explanation of one's own, and each
    explanation with its scores."""
    found = edits.list_explanations(panel)
    now.offers(panel, explained=bool(found))
    edits.draw_explanation_field(panel)
    edits.draw_problem()
    if not found:
        draw_import_commands(panel)
        return
    chosen = edits.preferred_label(panel)
    ordered = sorted(found, key=lambda one: not edits.is_preferred(one, chosen))
    with st.container(gap="medium"):
        for one in ordered[:MAX_EXPLANATIONS]:
            with st.container(gap=None, key=f"explanation_{one.explanation}"):
                draw_explanation(panel, one, chosen)
    if len(found) > MAX_EXPLANATIONS:
        st.caption(f"the newest {MAX_EXPLANATIONS} of {len(found)}")


def draw_explanation(panel: PanelContext, one: Explanation, chosen: str) -> None:
    """Draw one explanation as plain text (it is untrusted, so it is never read as Markdown), its
    origin, its buttons and its scores."""
    st.text(one.text)
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.caption(session.literal(describe_origin(one)), width="content")
        edits.draw_edit_buttons(panel, one, chosen)
    mine = [
        s
        for s in panel.catalog.annotations.scores.of_feature(panel.id)
        if s.explanation == one.explanation
    ]
    scores.draw_score_table(panel, one, mine)


def draw_import_commands(panel: PanelContext) -> None:
    """Draw, for a feature without explanations, the commands that generate or import them."""
    st.write("The store has no explanation of this feature yet. Add one in a terminal:")
    name = panel.id.dictionary
    files = f"saefari import --store {session.shown_store()} FILE --dictionary {name}"
    st.code("\n".join([*now.commands(panel), files]), language="shell")


def describe_origin(one: Explanation) -> str:
    """Return who or what wrote an explanation: explainer, model, prompt, windows shown, source and
    date."""
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
