"""Turns of a chat, as a person types them; kept in the URL."""

import streamlit as st

from feature_store.strict_json import JsonError, dump_json, parse_json

ROLES = ["user", "assistant", "system"]
TURNS = "chat_turns"
"""The number of turns in the session; the texts are their widgets' own."""
MOST = 20
LONGEST = 20_000
"""Characters of the turns that a link may carry."""
Turns = list[dict[str, str]]


def parse(text: str) -> Turns:
    """Turns of the URL's JSON; one empty turn where it is none."""
    try:
        found = parse_json(text)
        turns = [
            {"role": one["role"], "content": str(one["content"])}
            for one in found[:MOST]
            if one["role"] in ROLES
        ]
    except (JsonError, TypeError, KeyError):
        turns = []
    return turns or [{"role": "user", "content": ""}]


def fields() -> Turns:
    """The turns' fields, and buttons for more and fewer."""
    if TURNS not in st.session_state:
        for number, turn in enumerate(given := parse(st.query_params.get("chat", ""))):
            st.session_state[key("role", number)] = turn["role"]
            st.session_state[key("content", number)] = turn["content"]
        st.session_state[TURNS] = len(given)
    n = st.session_state[TURNS]
    for number in range(n):
        field(number)
    with st.container(horizontal=True):
        st.button("Add a turn", on_click=grow, args=(1,), disabled=n >= MOST, type="tertiary")
        st.button("Remove the last", on_click=grow, args=(-1,), disabled=n <= 1, type="tertiary")
    return turns()


def field(number: int) -> None:
    """One turn: who speaks, and what is said."""
    st.session_state.setdefault(key("role", number), ROLES[number % 2])
    st.session_state.setdefault(key("content", number), "")
    left, right = st.columns([1, 6], gap="small")
    left.selectbox(
        "Role", ROLES, key=key("role", number), on_change=keep, label_visibility="collapsed"
    )
    right.text_area(
        "Says",
        key=key("content", number),
        height=68,
        on_change=keep,
        label_visibility="collapsed",
        placeholder="What is said; Ctrl-Enter.",
    )


def turns() -> Turns:
    """What the fields hold."""
    return [
        {
            "role": st.session_state.get(key("role", number), ROLES[number % 2]),
            "content": st.session_state.get(key("content", number), ""),
        }
        for number in range(st.session_state[TURNS])
    ]


def keep() -> None:
    """Callback: put the turns into the URL, where they fit."""
    text = dump_json(turns())
    if len(text) <= LONGEST:
        st.query_params["chat"] = text


def grow(by: int) -> None:
    """Callback: a turn more or fewer."""
    st.session_state[TURNS] += by
    keep()


def key(what: str, number: int) -> str:
    """A widget's key."""
    return f"chat_{what}_{number}"
