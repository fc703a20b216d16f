"""Contexts by stratum: the strongest, the weakest sign, the whole range, near zero, silent."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import streamlit as st

from app import components, pooling, session
from app.panels.subject import Subject
from app.session import DOCUMENT
from app.tokens import REACH, Line, alike, line
from app.wording import ABSENT, count, plural, share
from feature_store import context_strata, silent_windows
from feature_store.harvest_reader import HarvestFile
from feature_store.records import Context

TITLE = "Contexts"
KEY = "feature_contexts"
NEVER_ASKED = {"width": "16", "group": ""}


class Section(NamedTuple):
    """Contexts under one heading."""

    title: str
    note: str
    contexts: list[Context]
    marked: bool = True
    """Whether the token in the middle is worth an outline."""


@st.fragment
def draw(subject: Subject) -> None:
    """One component with every stratum: changing between them asks nothing of the server.

    Only whole sequences are asked for, and only those of the stratum that is being read.
    """
    asked = (st.session_state.get(KEY) or {}).get("asked") or NEVER_ASKED
    shown = [
        {"name": name, "sections": [written(subject, one, whole(asked, name)) for one in sections]}
        for name, sections in groups(subject).items()
    ]
    if not shown:
        st.caption("It fired, but the harvest kept no context of it.")
        return
    got = components.contexts(
        key=KEY,
        data={"groups": shown, "max": subject.facts.max_act, "asked": asked},
        on_go_change=components.ignore,
        on_asked_change=components.ignore,
    )
    if target := got.get("go"):
        sequence, position = map(int, target.split("-"))
        st.switch_page(DOCUMENT, query_params=address(subject, sequence, position))


def whole(asked: dict[str, str], group: str) -> bool:
    """Whether this stratum was asked for in whole sequences."""
    return asked["width"] == "whole" and asked["group"] == group


def groups(subject: Subject) -> dict[str, list[Section]]:
    """The views of the stored contexts, in the order of their tabs; none that are empty."""
    found = {
        "top": [extreme(subject, "top", "Strongest windows")],
        "bottom": [extreme(subject, "bottom", "Most negative windows")],
        "deciles": deciles(subject),
        "near zero": [near_zero(subject)],
        "silent": silent(subject),
    }
    return {name: sections for name, sections in found.items() if any(s.contexts for s in sections)}


def extreme(subject: Subject, stratum: str, title: str) -> Section:
    """The strongest windows of a sign."""
    members = [c for c in subject.contexts if c.stratum == stratum]
    note = f"{plural(len(members), 'document')}, one each · {mass_of(subject, members)}"
    return Section(title, note, members)


def deciles(subject: Subject) -> list[Section]:
    """The range sample by tenths of its firing windows, each with its share of activation mass."""
    whole = context_strata.activation_mass(subject.contexts)
    found = []
    for number, members in context_strata.group_by_decile(subject.facts, subject.contexts).items():
        mass = context_strata.activation_mass(members) / whole
        note = f"{share(mass)} of activation mass · {plural(len(members), 'window')} sampled"
        ordered = sorted(members, key=lambda c: -abs(c.value))
        found.append(Section(f"Decile {number}", note, ordered))
    return found


def near_zero(subject: Subject) -> Section:
    """The lowest decile, weakest first."""
    low = context_strata.near_zero_contexts(subject.facts, subject.contexts)
    sampled = context_strata.select_range_contexts(subject.contexts)
    note = f"{len(low)} of {plural(len(sampled), 'sampled window')}"
    if low:
        mass = context_strata.activation_mass(low) / context_strata.activation_mass(sampled)
        note += f" · {share(mass)} of activation mass"
    return Section("Lowest decile", note, low)


def mass_of(subject: Subject, members: list[Context]) -> str:
    """The part of all windows' peak activation that these very windows hold."""
    whole = context_strata.activation_mass(subject.contexts)
    if not whole:
        return f"{ABSENT} of activation mass"
    return f"{share(min(1.0, sum(abs(c.value) for c in members) / whole))} of activation mass"


def silent(subject: Subject) -> list[Section]:
    """Random windows in which it does not fire at all: those with its peak's token, and others."""
    file, index = subject.place.file, subject.id.index
    pool = pooling.of(subject.place)
    tokens = silent_windows.find_peak_tokens(subject.contexts, file.sequences)
    found = silent_windows.find_silent_windows(pool, index, file.sequences, tokens)
    n = len(found.hard) + len(found.random)
    said = f"{count(n)} of {plural(len(pool.windows), 'random window')} are silent"
    if found.has_too_few():
        said += " · too dense for detection"
    hard, random = (
        found.hard[: silent_windows.SHOWN_WINDOWS],
        found.random[: silent_windows.SHOWN_WINDOWS],
    )
    held = f"{count(len(found.hard))} hold a token it peaks on"
    return [
        Section("Silent, though a token it peaks on is there", f"{said} · {held}", hard),
        Section("Silent", count(len(found.random)), random, marked=False),
    ]


def written(subject: Subject, section: Section, whole: bool = False) -> dict[str, object]:
    """A section as the component takes it."""
    lines = [read(subject, c, whole, section.marked) for c in section.contexts]
    return {
        "title": section.title,
        "note": section.note,
        "lines": drawn(subject, lines, section.contexts),
    }


def drawn(
    subject: Subject, lines: Sequence[Line], contexts: Sequence[Context]
) -> list[dict[str, Any]]:
    """Lines with where their document is read, and which of them read alike."""
    return [
        vars(found)
        | {
            "alike": first,
            "href": session.href(DOCUMENT, address(subject, context.sequence, context.peak)),
            "target": f"{context.sequence}-{context.peak}",
        }
        for found, context, first in zip(lines, contexts, alike(lines), strict=True)
    ]


def address(subject: Subject, sequence: int, position: int) -> dict[str, str]:
    """The URL's parameters of the document that has this place."""
    here = subject.place.at(subject.id.index)
    return here | {"sequence": str(sequence), "position": str(position)}


def read(subject: Subject, context: Context, whole: bool = False, marked: bool = True) -> Line:
    """A context with the tokens around its peak, or with its whole sequence."""
    return lined(subject.place.file, context, whole, marked)


def lined(file: HarvestFile, context: Context, whole: bool = False, marked: bool = True) -> Line:
    """The same for a context of any feature of the file."""
    reach = file.record.context_size if whole else REACH
    begin, ids = file.tokens_around(context, reach, reach)
    texts = file.vocabulary.display(ids)
    return line(context, begin, ids, texts, file.documents[context.document], marked=marked)
