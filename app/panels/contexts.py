"""Contexts by stratum: the strongest, the weakest sign, the whole range, near zero."""

from collections.abc import Sequence
from dataclasses import asdict

import streamlit as st

from app import components
from app.panels.subject import Subject
from app.tokens import REACH, Line, line
from app.wording import plural, share
from feature_store import strata
from feature_store.records import Context

TITLE = "Contexts"
Section = tuple[str, str, Sequence[Context]]
"""Title, note, contexts."""


def draw(subject: Subject) -> None:
    """One component with every stratum: changing between them asks nothing of the server."""
    shown = [
        {"name": name, "sections": [written(subject, section) for section in sections]}
        for name, sections in groups(subject).items()
        if any(contexts for _, _, contexts in sections)
    ]
    if not shown:
        st.caption("It fired, but the harvest kept no context of it.")
        return
    components.contexts(
        key="feature_contexts", data={"groups": shown, "max": subject.facts.max_act}
    )


def groups(subject: Subject) -> dict[str, list[Section]]:
    """The views of the stored contexts, in the order of their tabs."""
    facts, contexts = subject.facts, subject.contexts
    top = [c for c in contexts if c.stratum == "top"]
    bottom = [c for c in contexts if c.stratum == "bottom"]
    low = strata.near_zero(facts, contexts)
    sampled = strata.ranged(contexts)
    found = {
        "top": [("Strongest windows", f"{plural(len(top), 'document')}, one each", top)],
        "bottom": [("Most negative windows", f"{plural(len(bottom), 'document')}", bottom)],
        "deciles": deciles(subject),
        "near zero": [
            ("Lowest decile", f"{len(low)} of {plural(len(sampled), 'sampled window')}", low)
        ],
    }
    return {name: sections for name, sections in found.items() if any(s[2] for s in sections)}


def deciles(subject: Subject) -> list[Section]:
    """The range sample by tenths of its firing windows, each with its share of activation mass."""
    whole = strata.mass(subject.contexts)
    found = []
    for number, members in strata.by_decile(subject.facts, subject.contexts).items():
        mass = strata.mass(members) / whole
        note = f"{share(mass)} of activation mass · {plural(len(members), 'window')} sampled"
        ordered = sorted(members, key=lambda c: -abs(c.value))
        found.append((f"Decile {number}", note, ordered))
    return found


def written(subject: Subject, section: Section) -> dict[str, object]:
    """A section as the component takes it."""
    title, note, contexts = section
    return {"title": title, "note": note, "lines": [asdict(read(subject, c)) for c in contexts]}


def read(subject: Subject, context: Context) -> Line:
    """A context with the tokens around its peak."""
    file = subject.place.file
    begin, ids = file.around(context, REACH, REACH)
    texts = file.vocabulary.display(ids)
    return line(context, begin, ids, texts, file.documents[context.document])
