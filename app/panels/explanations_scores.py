"""The scores of one explanation: a table beside what labels that know nothing got."""

import streamlit as st

from app import components, session
from app.panels.panel_context import PanelContext
from app.scores import judged, words
from app.wording import count
from feature_store.explanation_scores import ExplanationScore
from feature_store.explanations import Explanation

OPEN_SCORE_KEY = "explanations_judged"
"""Of the session: the score whose wrong windows are shown."""
SCORE_COLUMNS = (
    ("score", "", ""),
    ("measure", "", ""),
    ("value [95 %]", "number", "judgements of one document are not independent; see n"),
    ("chance", "number", "what guessing gives"),
    *((name, "number", hint) for name, hint in words.NULLS.items()),
    ("hard", "number", "the same against silent windows that look alike"),
    (
        "n",
        "number",
        "judgements, of the smaller class where there are two; tokens for a correlation",
    ),
    ("documents", "number", "that these windows are from"),
    ("judge", "", ""),
)
FAILED_COLUMN = ("failed", "number", "items without a usable answer; in no number")


def draw_score_table(
    subject: PanelContext, one: Explanation, scores: list[ExplanationScore]
) -> None:
    """The table, and a button for the windows that the judge got wrong."""
    if not scores:
        st.caption("not scored yet")
        return
    heads = (
        [*SCORE_COLUMNS, FAILED_COLUMN] if any(score.failed for score in scores) else SCORE_COLUMNS
    )
    columns = [dict(zip(("name", "kind", "hint"), head, strict=True)) for head in heads]
    data = {
        "ruled": False,
        "columns": columns,
        "rows": [make_score_row(score, len(heads)) for score in scores],
    }
    components.rows(key=f"explanation_scores_{one.explanation}", data=data)
    shown = [score for score in scores if judged.possible(score) and score.n]
    if not shown:
        return
    opened = st.session_state.get(OPEN_SCORE_KEY)
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.caption("where the judge was wrong:", width="content")
        for score in shown:
            here = opened == score.score
            judge = f", {score.judge}" if len({s.judge for s in shown}) > 1 else ""
            st.button(
                session.literal(f"{score.scorer}{judge}") + (" ✓" if here else ""),
                key=f"judged_open_{score.score}",
                type="tertiary",
                on_click=toggle_misjudged_windows,
                args=(score.score,),
            )
    for score in shown:
        if opened == score.score:
            judged.draw(subject, score)


def make_score_row(score: ExplanationScore, width: int) -> dict[str, object]:
    """One score in so many cells; why there is no value stands under it."""
    known = {"borrowed": score.borrowed, "token": score.token, "constant": score.constant}
    cells = [
        words.title(score.scorer),
        score.measure,
        words.ranged(score),
        words.decimal(words.chance(score.scorer)),
        *map(words.decimal, known.values()),
        words.decimal(score.hard),
        count(score.n),
        count(score.n_documents),
        score.judge,
        count(score.failed) if score.failed else "",
    ]
    note = words.why_none(score) if score.value is None else ""
    return {"href": "", "target": None, "cells": cells[:width], "notes": [note] if note else []}


def toggle_misjudged_windows(score: int) -> None:
    """Callback: show a score's windows; a second click puts them away."""
    st.session_state[OPEN_SCORE_KEY] = (
        None if st.session_state.get(OPEN_SCORE_KEY) == score else score
    )
