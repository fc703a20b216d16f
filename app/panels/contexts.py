"""The Contexts panel: stored contexts of a feature by stratum (strongest, most negative, deciles,
near zero) and its silent windows."""

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
    """Contexts under one heading of the Contexts panel."""

    title: str
    note: str
    contexts: list[Context]
    marked: bool = True
    """Whether the token in the middle of each line is outlined."""


@st.fragment
def draw(panel: PanelContext) -> None:
    """Draw one component that holds every stratum, so that a change of stratum needs no server.

    Whole sequences are sent only for the stratum that the reader asks for.
    """
    asked = (st.session_state.get(KEY) or {}).get("asked") or DEFAULT_REQUEST
    shown = [
        {
            "name": name,
            "sections": [
                make_section_data(panel, one, wants_whole_sequences(asked, name))
                for one in sections
            ],
        }
        for name, sections in group_contexts(panel).items()
    ]
    if not shown:
        st.caption("The feature fired, but the harvest stored no context of it.")
        return
    got = components.contexts(
        key=KEY,
        data={"groups": shown, "max": panel.facts.max_act, "asked": asked},
        on_go_change=components.ignore,
        on_asked_change=components.ignore,
    )
    if target := got.get("go"):
        sequence, position = map(int, target.split("-"))
        st.switch_page(DOCUMENT, query_params=document_query(panel, sequence, position))


def wants_whole_sequences(asked: dict[str, str], group: str) -> bool:
    """Return whether the reader asked for whole sequences in this stratum."""
    return asked["width"] == "whole" and asked["group"] == group


def group_contexts(panel: PanelContext) -> dict[str, list[ContextSection]]:
    """Return the sections of each stratum in the order of the tabs; empty strata are left out."""
    found = {
        "top": [make_extreme_section(panel, "top", "Strongest windows")],
        "bottom": [make_extreme_section(panel, "bottom", "Most negative windows")],
        "deciles": make_decile_sections(panel),
        "near zero": [make_near_zero_section(panel)],
        "silent": make_silent_sections(panel),
    }
    return {name: sections for name, sections in found.items() if any(s.contexts for s in sections)}


def make_extreme_section(panel: PanelContext, stratum: str, title: str) -> ContextSection:
    """Return the section of the strongest windows of one sign, one window a document."""
    members = [c for c in panel.contexts if c.stratum == stratum]
    note = f"{plural(len(members), 'document')}, one each · {describe_mass_share(panel, members)}"
    return ContextSection(title, note, members)


def make_decile_sections(panel: PanelContext) -> list[ContextSection]:
    """Return a section for each tenth of the sampled firing windows, with its share of activation
    mass."""
    whole = context_strata.activation_mass(panel.contexts)
    found = []
    for number, members in context_strata.group_by_decile(panel.facts, panel.contexts).items():
        mass = context_strata.activation_mass(members) / whole
        note = f"{share(mass)} of activation mass · {plural(len(members), 'window')} sampled"
        ordered = sorted(members, key=lambda c: -abs(c.value))
        found.append(ContextSection(f"Decile {number}", note, ordered))
    return found


def make_near_zero_section(panel: PanelContext) -> ContextSection:
    """Return the section of the lowest decile, weakest window first."""
    low = context_strata.near_zero_contexts(panel.facts, panel.contexts)
    sampled = context_strata.select_range_contexts(panel.contexts)
    note = f"{len(low)} of {plural(len(sampled), 'sampled window')}"
    if low:
        mass = context_strata.activation_mass(low) / context_strata.activation_mass(sampled)
        note += f" · {share(mass)} of activation mass"
    return ContextSection("Lowest decile", note, low)


def describe_mass_share(panel: PanelContext, members: list[Context]) -> str:
    """Return, in words, the share of the total activation mass that the peaks of these windows
    hold."""
    whole = context_strata.activation_mass(panel.contexts)
    if not whole:
        return f"{ABSENT} of activation mass"
    return f"{share(min(1.0, sum(abs(c.value) for c in members) / whole))} of activation mass"


def make_silent_sections(panel: PanelContext) -> list[ContextSection]:
    """Return two sections of random windows in which the feature is silent: windows that hold a
    token on which it peaks elsewhere, and all others."""
    file, index = panel.place.file, panel.id.index
    pool = pooling.of(panel.place)
    tokens = silent_windows.find_peak_tokens(panel.contexts, file.sequences)
    found = silent_windows.find_silent_windows(pool, index, file.sequences, tokens)
    n = len(found.hard) + len(found.random)
    said = f"{count(n)} of {plural(len(pool.windows), 'random window')} are silent"
    if found.has_too_few():
        said += " · too dense for detection"
    hard, random = (
        found.hard[: silent_windows.SHOWN_WINDOWS],
        found.random[: silent_windows.SHOWN_WINDOWS],
    )
    held = f"{count(len(found.hard))} hold such a token"
    return [
        ContextSection(
            "Silent at a token on which the feature peaks elsewhere", f"{said} · {held}", hard
        ),
        ContextSection("Silent", count(len(found.random)), random, marked=False),
    ]


def make_section_data(
    panel: PanelContext, section: ContextSection, whole: bool = False
) -> dict[str, object]:
    """Return a section of contexts as the component takes it."""
    lines = [make_context_line(panel, c, whole, section.marked) for c in section.contexts]
    return {
        "title": section.title,
        "note": section.note,
        "lines": make_line_data(panel, lines, section.contexts),
    }


def make_line_data(
    panel: PanelContext, lines: Sequence[ContextLine], contexts: Sequence[Context]
) -> list[dict[str, Any]]:
    """Return the lines of contexts with links to their documents and, for each, the first line of
    the same text."""
    return [
        vars(found)
        | {
            "alike": first,
            "href": session.href(DOCUMENT, document_query(panel, context.sequence, context.peak)),
            "target": f"{context.sequence}-{context.peak}",
        }
        for found, context, first in zip(lines, contexts, alike(lines), strict=True)
    ]


def document_query(panel: PanelContext, sequence: int, position: int) -> dict[str, str]:
    """Return the URL parameters of the Document page for a position of a sequence."""
    here = panel.place.at(panel.id.index)
    return here | {"sequence": str(sequence), "position": str(position)}


def make_context_line(
    panel: PanelContext, context: Context, whole: bool = False, marked: bool = True
) -> ContextLine:
    """Return a context as a line of tokens around its peak, or of its whole sequence."""
    return make_file_context_line(panel.place.file, context, whole, marked)


def make_file_context_line(
    file: HarvestFile, context: Context, whole: bool = False, marked: bool = True
) -> ContextLine:
    """Return the line of a context of any feature of a harvest file."""
    reach = file.record.context_size if whole else REACH
    begin, ids = file.tokens_around(context, reach, reach)
    texts = file.vocabulary.display(ids)
    return line(context, begin, ids, texts, file.documents[context.document], marked=marked)
