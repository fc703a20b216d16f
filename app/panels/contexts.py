"""Contexts by stratum: the strongest, the weakest sign, the whole range, near zero, silent."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import streamlit as st

from app import components, pooling, session
from app.panels.panel_context import PanelContext
from app.session import DOCUMENT
from app.tokens import REACH, ContextLine, alike, line
from app.wording import ABSENT, count, plural, share
from feature_store import context_strata, silent_windows
from feature_store.harvest_reader import HarvestFile
from feature_store.records import Context

TITLE = "Contexts"
KEY = "feature_contexts"
DEFAULT_REQUEST = {"width": "16", "group": ""}


class ContextSection(NamedTuple):
    """Contexts under one heading."""

    title: str
    note: str
    contexts: list[Context]
    marked: bool = True
    """Whether the token in the middle is worth an outline."""


@st.fragment
def draw(subject: PanelContext) -> None:
    """One component with every stratum: changing between them asks nothing of the server.

    Only whole sequences are asked for, and only those of the stratum that is being read.
    """
    asked = (st.session_state.get(KEY) or {}).get("asked") or DEFAULT_REQUEST
    shown = [
        {
            "name": name,
            "sections": [
                make_section_data(subject, one, wants_whole_sequences(asked, name))
                for one in sections
            ],
        }
        for name, sections in group_contexts(subject).items()
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
        st.switch_page(DOCUMENT, query_params=document_query(subject, sequence, position))


def wants_whole_sequences(asked: dict[str, str], group: str) -> bool:
    """Whether this stratum was asked for in whole sequences."""
    return asked["width"] == "whole" and asked["group"] == group


def group_contexts(subject: PanelContext) -> dict[str, list[ContextSection]]:
    """The views of the stored contexts, in the order of their tabs; none that are empty."""
    found = {
        "top": [make_extreme_section(subject, "top", "Strongest windows")],
        "bottom": [make_extreme_section(subject, "bottom", "Most negative windows")],
        "deciles": make_decile_sections(subject),
        "near zero": [make_near_zero_section(subject)],
        "silent": make_silent_sections(subject),
    }
    return {name: sections for name, sections in found.items() if any(s.contexts for s in sections)}


def make_extreme_section(subject: PanelContext, stratum: str, title: str) -> ContextSection:
    """The strongest windows of a sign."""
    members = [c for c in subject.contexts if c.stratum == stratum]
    note = f"{plural(len(members), 'document')}, one each · {describe_mass_share(subject, members)}"
    return ContextSection(title, note, members)


def make_decile_sections(subject: PanelContext) -> list[ContextSection]:
    """The range sample by tenths of its firing windows, each with its share of activation mass."""
    whole = context_strata.activation_mass(subject.contexts)
    found = []
    for number, members in context_strata.group_by_decile(subject.facts, subject.contexts).items():
        mass = context_strata.activation_mass(members) / whole
        note = f"{share(mass)} of activation mass · {plural(len(members), 'window')} sampled"
        ordered = sorted(members, key=lambda c: -abs(c.value))
        found.append(ContextSection(f"Decile {number}", note, ordered))
    return found


def make_near_zero_section(subject: PanelContext) -> ContextSection:
    """The lowest decile, weakest first."""
    low = context_strata.near_zero_contexts(subject.facts, subject.contexts)
    sampled = context_strata.select_range_contexts(subject.contexts)
    note = f"{len(low)} of {plural(len(sampled), 'sampled window')}"
    if low:
        mass = context_strata.activation_mass(low) / context_strata.activation_mass(sampled)
        note += f" · {share(mass)} of activation mass"
    return ContextSection("Lowest decile", note, low)


def describe_mass_share(subject: PanelContext, members: list[Context]) -> str:
    """The part of all windows' peak activation that these very windows hold."""
    whole = context_strata.activation_mass(subject.contexts)
    if not whole:
        return f"{ABSENT} of activation mass"
    return f"{share(min(1.0, sum(abs(c.value) for c in members) / whole))} of activation mass"


def make_silent_sections(subject: PanelContext) -> list[ContextSection]:
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
        ContextSection("Silent, though a token it peaks on is there", f"{said} · {held}", hard),
        ContextSection("Silent", count(len(found.random)), random, marked=False),
    ]


def make_section_data(
    subject: PanelContext, section: ContextSection, whole: bool = False
) -> dict[str, object]:
    """A section as the component takes it."""
    lines = [make_context_line(subject, c, whole, section.marked) for c in section.contexts]
    return {
        "title": section.title,
        "note": section.note,
        "lines": make_line_data(subject, lines, section.contexts),
    }


def make_line_data(
    subject: PanelContext, lines: Sequence[ContextLine], contexts: Sequence[Context]
) -> list[dict[str, Any]]:
    """Lines with where their document is read, and which of them read alike."""
    return [
        vars(found)
        | {
            "alike": first,
            "href": session.href(DOCUMENT, document_query(subject, context.sequence, context.peak)),
            "target": f"{context.sequence}-{context.peak}",
        }
        for found, context, first in zip(lines, contexts, alike(lines), strict=True)
    ]


def document_query(subject: PanelContext, sequence: int, position: int) -> dict[str, str]:
    """The URL's parameters of the document that has this place."""
    here = subject.place.at(subject.id.index)
    return here | {"sequence": str(sequence), "position": str(position)}


def make_context_line(
    subject: PanelContext, context: Context, whole: bool = False, marked: bool = True
) -> ContextLine:
    """A context with the tokens around its peak, or with its whole sequence."""
    return make_file_context_line(subject.place.file, context, whole, marked)


def make_file_context_line(
    file: HarvestFile, context: Context, whole: bool = False, marked: bool = True
) -> ContextLine:
    """The same for a context of any feature of the file."""
    reach = file.record.context_size if whole else REACH
    begin, ids = file.tokens_around(context, reach, reach)
    texts = file.vocabulary.display(ids)
    return line(context, begin, ids, texts, file.documents[context.document], marked=marked)
