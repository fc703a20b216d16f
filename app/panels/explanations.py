"""What is said of a feature, how well it does, and the way to more of both."""

import streamlit as st

from app import session
from app.panels import explanations_edits as edits
from app.panels import explanations_scores as scores
from app.panels.subject import Subject
from app.scores import now, words
from feature_store.explanations import PERSON, Explanation

TITLE = "Explanations"
SHOWN = 20
"""The newest are drawn, so many at most."""


def draw(subject: Subject) -> None:
    """The buttons, then each sentence with its provenance, scores, and what can be done with it."""
    found = edits.known(subject)
    now.offers(subject, explained=bool(found))
    edits.own(subject)
    edits.problem()
    if not found:
        empty(subject)
        return
    chosen = edits.preferred(subject)
    ordered = sorted(found, key=lambda one: not edits.is_preferred(one, chosen))
    with st.container(gap="medium"):
        for one in ordered[:SHOWN]:
            with st.container(gap=None, key=f"explanation_{one.explanation}"):
                sentence(subject, one, chosen)
    if len(found) > SHOWN:
        st.caption(f"the newest {SHOWN} of {len(found)}")


def sentence(subject: Subject, one: Explanation, chosen: str) -> None:
    """One explanation; untrusted text, so it is never read as markup."""
    st.text(one.text)
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.caption(session.literal(origin(one)), width="content")
        edits.buttons(subject, one, chosen)
    mine = [
        s
        for s in subject.said.annotations.scores.of_feature(subject.id)
        if s.explanation == one.explanation
    ]
    scores.draw(subject, one, mine)


def empty(subject: Subject) -> None:
    """Nothing yet: what a terminal has for it."""
    st.write("No explanation of this feature is in the store yet. In a terminal:")
    name = subject.id.dictionary
    files = f"saefari import --store {session.shown_store()} FILE --dictionary {name}"
    st.code("\n".join([*now.commands(subject), files]), language="shell")


def origin(one: Explanation) -> str:
    """Explainer, model, prompt, source, what it was written from, and when it came here."""
    told = edits.provenance(one)
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
