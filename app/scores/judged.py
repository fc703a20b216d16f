"""The misjudged windows of a score: contexts that the judge answered wrongly or not at all."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from app import components, pooling, session
from app.annotations import READ_PATIENCE_S
from app.panels import contexts
from app.panels.contexts import DEFAULT_REQUEST
from app.panels.panel_context import PanelContext
from app.session import DOCUMENT
from app.wording import count, plural
from feature_store import score_storage, silent_windows
from feature_store.errors import InputError
from feature_store.explanation_scores import ExplanationScore
from feature_store.records import Context

MEASURES = ("balanced accuracy",)
"""Measures whose items are yes-or-no answers about a window, so that an answer can be wrong."""
SHOWN = 40
"""Maximum number of windows of a kind to show."""
Item = Mapping[str, Any]


def possible(score: ExplanationScore) -> bool:
    """Return whether a score has windows that can be shown."""
    return score.measure in MEASURES


def draw(subject: PanelContext, score: ExplanationScore) -> None:
    """Draw the misjudged windows: missed active ones, false alarms, and those without answer."""
    if score.harvest != subject.place.file.record.id:
        st.caption(
            f"Scored on harvest {session.literal(score.harvest)}: open it to see the windows."
        )
        return
    try:
        items = judged(score.score, str(session.store().path))
    except InputError as error:
        st.markdown(f":yellow[{session.literal(str(error))}]")
        return
    key = f"judged_{score.score}"
    asked = (st.session_state.get(key) or {}).get("asked") or DEFAULT_REQUEST
    found = groups(subject, items)
    if not found:
        st.caption(f"The judge was right about all {plural(len(items), 'window')}.")
        return
    drawn = [
        {
            "name": name,
            "sections": [
                section(subject, *one, contexts.wants_whole_sequences(asked, name))
                for one in sections
            ],
        }
        for name, sections in found.items()
    ]
    got = components.contexts(
        key=key,
        data={"groups": drawn, "max": subject.facts.max_act, "asked": asked},
        on_go_change=components.ignore,
        on_asked_change=components.ignore,
    )
    if target := got.get("go"):
        sequence, position = map(int, target.split("-"))
        st.switch_page(DOCUMENT, query_params=contexts.document_query(subject, sequence, position))


@st.cache_data(show_spinner=False, max_entries=64)
def judged(score: int, store: str) -> list[dict[str, Any]]:
    """Return the judge's answer for each item of a score; a score never changes."""
    return score_storage.read_score_details(
        session.store().catalog, score, patience_s=READ_PATIENCE_S
    ).judged


def groups(
    subject: PanelContext, items: Sequence[Item]
) -> dict[str, list[tuple[str, str, list[tuple[Item, Context]]]]]:
    """Return the sections (title, note, windows) of each kind of error, if it has any windows."""
    sides: dict[str, Callable[[Item], bool]] = {
        "missed": lambda i: i["truth"] > 0 and i["answer"] is not None and i["answer"] < 0.5,
        "false alarms": lambda i: i["truth"] <= 0 and i["answer"] is not None and i["answer"] > 0.5,
        "no answer": lambda i: i["answer"] is None,
    }
    known = windows(subject)
    found = {}
    for name, wrong in sides.items():
        mine = [
            item for item in items if wrong(item) and (item["sequence"], item["start"]) in known
        ]
        if mine:
            found[f"{name} {len(mine)}"] = by_kind(items, mine, known)
    return found


def by_kind(
    items: Sequence[Item], mine: Sequence[Item], known: Mapping[tuple[int, int], Context]
) -> list[tuple[str, str, list[tuple[Item, Context]]]]:
    """Return a section for each kind of window, with the number of windows judged."""
    found = []
    for kind in sorted({item["kind"] for item in mine}, key=order):
        part = [item for item in mine if item["kind"] == kind]
        asked = sum(item["kind"] == kind for item in items)
        note = f"{count(len(part))} of {plural(asked, 'window')} of this kind"
        pairs = [(item, known[item["sequence"], item["start"]]) for item in part[:SHOWN]]
        found.append((kind, note, pairs))
    return found


def order(kind: str) -> tuple[int, int, str]:
    """Return the sort key of a kind: top, then deciles from the strongest, then silent kinds."""
    tenth = kind.removeprefix("decile ")
    if kind == "top":
        return (0, 0, kind)
    return (1, -int(tenth), kind) if tenth.isdecimal() else (2, 0, kind)


def windows(subject: PanelContext) -> dict[tuple[int, int], Context]:
    """Return the stored windows, active and random ones, by (sequence, start)."""
    pool = pooling.of(subject.place).windows
    found = {
        (one.sequence, one.start): silent_windows.make_silent_context(
            one, one.start + one.length // 2
        )
        for one in pool
    }
    return found | {(c.sequence, c.start): c for c in subject.contexts}


def section(
    subject: PanelContext, kind: str, note: str, pairs: list[tuple[Item, Context]], whole: bool
) -> dict[str, object]:
    """Return a section as the component takes it, with the judge's answer instead of the split."""
    firing = bool(pairs) and pairs[0][0]["truth"] > 0
    rows = [context for _, context in pairs]
    lines = [contexts.make_context_line(subject, context, whole, firing) for context in rows]
    drawn = contexts.make_line_data(subject, lines, rows)
    for line, (item, _) in zip(drawn, pairs, strict=True):
        line["split"] = said(item)
    named = "strongest windows" if kind == "top" else kind if firing else f"silent: {kind}"
    return {"title": named, "note": note, "lines": drawn}


def said(item: Item) -> str:
    """Return the judge's answer, such as `says 12 %` or `says no`, or why there is none."""
    if item["answer"] is None:
        return item["failed"] or "none"
    if item["probability"] is not None:
        return f"says {item['probability']:.0%}"
    return "says yes" if item["answer"] > 0.5 else "says no"
