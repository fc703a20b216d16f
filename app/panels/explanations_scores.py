"""The scores of one explanation: a table next to the scores of baseline labels."""

import streamlit as st

from app import components, session
from app.glossary import define_term
from app.panels.panel_context import PanelContext
from app.scores import judged, words
from app.wording import count
from feature_store.explanation_scores import ExplanationScore
from feature_store.explanations import Explanation

OPEN_SCORE_KEY = "explanations_judged"
"""Session key of the score whose misjudged windows are shown."""
SCORE_COLUMNS = (
    ("score", "", define_term("scorer")),
    ("measure", "", ""),
    (
        "value [95 %]",
        "number",
        "95 % interval. Judgements from one document are not independent: compare n and documents.",
    ),
    ("chance", "number", "The value that guessing gives."),
    *(
        (name, "number", f"{define_term('baseline label')} Here: {hint}.")
        for name, hint in words.NULLS.items()
    ),
    ("hard", "number", "The same measure against silent windows that resemble the active ones."),
    (
        "n",
        "number",
        "Number of judgements, of the smaller class where there are two; tokens for a correlation.",
    ),
    ("documents", "number", "Number of documents that the windows are from."),
    ("judge", "", define_term("judge")),
)
FAILED_COLUMN = ("failed", "number", "Items without a usable answer. No other number counts them.")


def draw_score_table(panel: PanelContext, one: Explanation, scores: list[ExplanationScore]) -> None:
    """Draw the table of an explanation's scores, and a button for each that opens the windows the
    judge got wrong."""
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
        st.caption("Show what the judge got wrong:", width="content")
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
            judged.draw(panel, score)


def make_score_row(score: ExplanationScore, width: int) -> dict[str, object]:
    """Return one score as the first `width` cells of a table row; a missing value is explained in a
    note."""
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
    """Callback: show the misjudged windows of a score, or hide them at the second click."""
    st.session_state[OPEN_SCORE_KEY] = (
        None if st.session_state.get(OPEN_SCORE_KEY) == score else score
    )
