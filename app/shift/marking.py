"""The ranked features, and which of them are marked as irrelevant."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from app import annotations, collecting, session
from app.ablate.ranked import told
from app.session import Place
from app.wording import ABSENT, count, measure, plural, share
from feature_store.errors import InputError
from feature_store.records import FeatureId

BASE, VERSION, LIST = "shift_base", "shift_version", "shift_list"
"""Of the session: what was marked when the table was last made anew, how often that was, and the
list to mark from."""
LABELLED = 300


def forget() -> None:
    """Nothing is marked."""
    begin([])


def begin(marked: Sequence[str]) -> None:
    """Exactly these are marked: the table is made anew."""
    st.session_state[BASE] = list(marked)
    st.session_state[VERSION] = st.session_state.get(VERSION, 0) + 1


def draw(place: Place, ranking: Mapping[str, Any]) -> list[FeatureId]:
    """The table with its ticks; gives what is marked."""
    said = annotations.read()
    st.caption(session.literal(summary(ranking)))
    if ranking["beyond"]:
        names = ", ".join(ranking["beyond"])
        st.caption(session.literal(f"Not ranked, since they write behind the probe: {names}."))
    base: list[str] = st.session_state.setdefault(BASE, [])
    lines = rows(place, ranking, base)
    a, b = ranking["labels"]
    number, text = st.column_config.NumberColumn, st.column_config.TextColumn
    ticked = st.data_editor(
        lines,
        key=f"shift_table_{st.session_state.get(VERSION, 0)}",
        hide_index=True,
        height=372,
        row_height=28,
        num_rows="fixed",
        placeholder=ABSENT,
        disabled=[name for name in lines[0] if name != "irrelevant"] if lines else True,
        column_config={
            "irrelevant": st.column_config.CheckboxColumn("irrelevant", width=76),
            "feature": text("feature", width=104),
            "label": text(
                "label or tokens", width=200, help="a label, else the tokens that it promotes"
            ),
            "effect": number(
                "predicted",
                format="%+.3f",
                width=84,
                help="change of the log-odds of a text's own label, nats; below 0 the "
                "probe is better with the feature",
            ),
            "measured": number("measured", format="%+.3f", width=84, help="by removing it, nats"),
            "a": number(
                f"on {a}",
                format="%+.3f",
                width=84,
                help=f"change of the log-odds of {b!r}, on texts of {a!r}",
            ),
            "b": number(
                f"on {b}",
                format="%+.3f",
                width=84,
                help=f"change of the log-odds of {b!r}, on texts of {b!r}",
            ),
            "share_a": number(
                f"in {a}", format="percent", width=72, help="texts on which it is active"
            ),
            "share_b": number(f"in {b}", format="percent", width=72),
            "open": st.column_config.LinkColumn("", display_text="open", width=56),
        },
    )
    shown = {line["feature"] for line in lines}
    marked = [name for name in base if name not in shown]
    marked += [line["feature"] for line in ticked if line["irrelevant"]]
    found = [FeatureId.parse(name) for name in marked]
    actions(place, found, said)
    agreement(ranking)
    return found


def rows(place: Place, ranking: Mapping[str, Any], base: Sequence[str]) -> list[dict[str, Any]]:
    """One line a feature."""
    ids = [FeatureId.parse(one["feature"]) for one in ranking["rows"][:LABELLED]]
    plain: list[Mapping[str, Any]] = [
        {"dictionary": one.dictionary, "feature": one.index} for one in ids
    ]
    words, n = told(place, plain), ranking["n"]
    found = []
    for one in ranking["rows"]:
        query = {"harvest": place.file.record.id, "feature": one["feature"]}
        found.append(
            {
                "irrelevant": one["feature"] in base,
                "feature": one["feature"],
                "label": words.get(one["feature"], ""),
                "effect": one["effect"],
                "measured": one["measured"],
                "a": one["on"][0],
                "b": one["on"][1],
                "share_a": one["texts"][0] / n[0],
                "share_b": one["texts"][1] / n[1],
                "open": session.href(session.FEATURE, query),
            }
        )
    return found


def summary(ranking: Mapping[str, Any]) -> str:
    """What the probe is and what the numbers are."""
    (a, b), n, of = ranking["labels"], ranking["n"], ranking["of"]
    return (
        f"A probe for {b} against {a} at {ranking['hook']}, right on {share(ranking['right'])} of "
        f"the {count(sum(n))} texts that it was trained on. Effects of the strongest "
        f"{count(len(ranking['rows']))} of {count(of)} active features: what becomes of its "
        "log-odds when the feature is zero, the mean over these texts. Effects of dictionaries "
        "that cut one stream are not added."
    )


def agreement(ranking: Mapping[str, Any]) -> None:
    """How well estimates and removals agree, and what dictionaries miss."""
    found = ranking["agreement"]
    missed = " · ".join(
        f"{one['dictionary']} {ABSENT if one['error_share'] is None else share(one['error_share'])}"
        for one in ranking["cuts"]
    )
    st.caption(
        session.literal(
            f"Estimate against removal, {plural(found['n'], 'strongest feature')}: Spearman "
            f"{measure(found['spearman'], 2)}, slope {measure(found['slope'], 2)}. Share of "
            f"effects that error terms have, a cut each: {missed}."
        )
    )


def actions(place: Place, marked: list[FeatureId], said: annotations.Said) -> None:
    """Marks into a list, or out of one."""
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.caption(f"{plural(len(marked), 'feature')} marked", width="content")
        collecting.menu(marked, "shift_keep", said)
        lists = said.annotations.lists
        if lists.current:
            st.selectbox(
                "Mark those of a list",
                [one.id for one in lists.current],
                index=None,
                key=LIST,
                format_func=lambda name: collecting.named(lists, name),
                width=260,
                placeholder="mark those of a list",
                label_visibility="collapsed",
                on_change=from_list,
                args=(place, marked, said),
            )
        if marked:
            st.button("Unmark all", type="tertiary", on_click=forget)


def from_list(place: Place, marked: list[FeatureId], said: annotations.Said) -> None:
    """Callback: what a list has, as far as this harvest has it, is marked too."""
    chosen = st.session_state[LIST]
    if not chosen:
        return
    try:
        there = said.annotations.lists.get(chosen).features
    except InputError:
        return
    known = [str(one) for one in there if one.dictionary in place.file.dictionaries]
    begin(list(dict.fromkeys([*map(str, marked), *known])))
    st.session_state[LIST] = None
