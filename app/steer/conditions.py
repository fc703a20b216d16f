"""Where and when an edit acts: at which tokens, how much, only while another feature fires."""

from dataclasses import replace
from typing import get_args

import streamlit as st

from app import live, session, steering
from app.chatting import ROLES
from app.session import Place
from backend.interventions.edit_modes import MODES
from backend.interventions.records import (
    Edit,
    EditCondition,
    EditSchedule,
    Read,
    Schedule,
    TextParts,
)
from feature_store.errors import InputError
from feature_store.records import FeatureId

PARTS = {"all": "prompt and generated", "prompt": "prompt only", "generated": "generated only"}
SCHEDULES = {
    "constant": "always",
    "ramp": "growing over the first n",
    "first": "the first n",
    "every": "one in n",
}
READS = {"edited": "this pass, edits before it included", "clean": "the clean model"}
assert set(PARTS) == set(get_args(TextParts)) and set(SCHEDULES) == set(get_args(Schedule))
assert set(READS) == set(get_args(Read))


def words(edit: Edit) -> str:
    """Where and when, in brief."""
    where, when = edit.where, edit.when
    said = ["all tokens" if where.parts == "all" else PARTS[where.parts]]
    marks = {
        "chosen": where.positions is not None,
        "matching": where.pattern is not None,
        "roles": where.roles is not None,
        "gated": where.gate is not None,
    }
    said += [name for name, on in marks.items() if on]
    if when.schedule != "constant":
        said.append(SCHEDULES[when.schedule].replace(" n", f" {when.n}"))
    return " · ".join(said)


def popover(number: int, edit: Edit, key: str, place: Place) -> None:
    """The controls, and behind its title what they are set to."""
    first = {
        "parts": edit.where.parts,
        "positions": ", ".join(map(str, edit.where.positions or ())),
        "pattern": edit.where.pattern or "",
        "roles": list(edit.where.roles or ()),
        "special": edit.where.special,
        "bos": edit.where.bos,
        "gate": str(edit.where.gate or ""),
        "threshold": edit.where.threshold,
        "schedule": edit.when.schedule,
        "n": edit.when.n,
        "read": edit.read,
    }
    for name, value in first.items():
        st.session_state.setdefault(f"{key}_{name}", value)
    with st.popover(words(edit), width="stretch"):
        mode = MODES[edit.mode]
        st.caption(session.literal(" ".join([mode.help, mode.formula, mode.no_neutral]).strip()))
        tokens(number, key, place)
        gate_and_time(number, key, place)


def tokens(number: int, key: str, place: Place) -> None:
    """At which tokens."""
    change = {"on_change": revise, "args": (number, key, place)}
    st.radio("Where", list(PARTS), format_func=PARTS.__getitem__, key=f"{key}_parts", **change)
    st.text_input(
        "Positions",
        key=f"{key}_positions",
        placeholder="all; or 3, 5, 8: 0 is the first token",
        help="Whatever stands there is edited, BOS too.",
        **change,
    )
    st.text_input(
        "Matching",
        key=f"{key}_pattern",
        placeholder="a regular expression over the text",
        help="Tokens that touch a match; a generated token by the text up to it.",
        **change,
    )
    if chats(place):
        st.multiselect("Roles", ROLES, key=f"{key}_roles", placeholder="all", **change)
    with st.container(horizontal=True):
        st.checkbox("special tokens too", key=f"{key}_special", **change)
        st.checkbox(
            "BOS too",
            key=f"{key}_bos",
            help="Its norm is many times that of other tokens.",
            **change,
        )


def gate_and_time(number: int, key: str, place: Place) -> None:
    """Only while another feature fires; and how much of it at each generated token."""
    change = {"on_change": revise, "args": (number, key, place)}
    left, right = st.columns([3, 2], gap="small")
    left.text_input(
        "Only while this feature", key=f"{key}_gate", placeholder="DICTIONARY/INDEX", **change
    )
    right.number_input("is above", key=f"{key}_threshold", step=0.1, format="%.4g", **change)
    left.selectbox(
        "At generated tokens",
        list(SCHEDULES),
        format_func=SCHEDULES.__getitem__,
        key=f"{key}_schedule",
        **change,
    )
    right.number_input("n", min_value=1, key=f"{key}_n", step=1, **change)
    st.selectbox(
        "Activations are read in",
        list(READS),
        format_func=READS.__getitem__,
        key=f"{key}_read",
        **change,
    )
    if said := st.session_state.get(f"{key}_wrong"):
        st.markdown(f":orange[{session.literal(said)}]")


def chats(place: Place) -> bool:
    """Whether the model has a chat template, as far as it is loaded."""
    try:
        engine = live.at_hand(place.file)
    except InputError:
        return False
    return engine is not None and engine.chats


def revise(number: int, key: str, place: Place) -> None:
    """Callback: take over what the controls say; where that cannot be, a sentence."""
    st.session_state.pop(f"{key}_wrong", None)
    try:
        edit = read(steering.edits()[number], key, place)
    except InputError as error:
        st.session_state[f"{key}_wrong"] = str(error)
        return
    steering.revise(number, edit)


def read(edit: Edit, key: str, place: Place) -> Edit:
    """The edit with the controls' conditions."""
    given = {
        name: st.session_state.get(f"{key}_{name}")
        for name in (
            "parts",
            "positions",
            "pattern",
            "roles",
            "special",
            "bos",
            "gate",
            "threshold",
            "schedule",
            "n",
            "read",
        )
    }
    gate = (given["gate"] or "").strip()
    where = EditCondition(
        parts=given["parts"] or "all",
        positions=positions(given["positions"] or ""),
        pattern=given["pattern"] or None,
        roles=tuple(given["roles"] or ()) or None,
        special=bool(given["special"]),
        bos=bool(given["bos"]),
        gate=place.file.check_feature(FeatureId.parse(gate)) if gate else None,
        threshold=float(given["threshold"] or 0.0),
    )
    when = EditSchedule(given["schedule"] or "constant", int(given["n"] or 1))
    return replace(edit, where=where, when=when, read=given["read"] or "edited")


def positions(text: str) -> tuple[int, ...] | None:
    """`3, 5 8` as numbers; None for nothing written."""
    parts = text.replace(",", " ").split()
    if not all(part.isascii() and part.isdecimal() and len(part) < 7 for part in parts):
        raise InputError(f"Positions are whole numbers from 0 on, such as 3, 5; not {text!r}.")
    return tuple(map(int, parts)) or None
