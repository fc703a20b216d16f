"""Modes that take values from other texts: the fields for the texts, and measuring them."""

from dataclasses import replace

import streamlit as st

from app import live, session, steering
from app.session import Place
from backend.interventions.edit_modes import MODES
from backend.interventions.records import Edit
from feature_store.errors import InputError

TEXTS = ("slots", "posterior")
"""What such modes need (modes.Mode.basis)."""
LONGEST = 20_000
"""Characters of a field."""


def popover(number: int, edit: Edit, key: str, place: Place) -> None:
    """The texts, and a button that measures the features on them."""
    needs = MODES[edit.mode].basis
    done = bool(edit.basis.slots or edit.basis.posterior)
    with st.popover("texts" if done else "texts: none yet"):
        if needs == "slots":
            st.text_area(
                "Another prompt",
                key=f"{key}_other",
                height=90,
                max_chars=LONGEST,
                help="What the feature has there at a position is put in at the same position.",
            )
        else:
            st.text_area(
                "Texts with the concept, one a line",
                key=f"{key}_with",
                height=90,
                max_chars=LONGEST,
            )
            st.text_area(
                "Texts without it, one a line", key=f"{key}_without", height=90, max_chars=LONGEST
            )
        st.button("measure", key=f"{key}_measure", on_click=measure, args=(number, key, place))
        if done:
            st.caption(session.literal(edit.basis.source))
        if said := st.session_state.get(f"{key}_unmeasured"):
            st.markdown(f":orange[{session.literal(said)}]")


def measure(number: int, key: str, place: Place) -> None:
    """Callback: measure, or keep the sentence that says why not."""
    st.session_state.pop(f"{key}_unmeasured", None)
    edit, texts = steering.edits()[number], st.session_state
    try:
        engine = live.at_hand(place.file)
        if engine is None:
            raise InputError("The model is still loading: try again in some seconds.")
        from backend.interventions.text_statistics import fit_attenuation_basis, read_resample_basis

        if MODES[edit.mode].basis == "slots":
            basis = read_resample_basis(engine, edit.features, texts.get(f"{key}_other", ""))
        else:
            with_, without = (
                [line for line in texts.get(f"{key}_{side}", "").split("\n") if line.strip()]
                for side in ("with", "without")
            )
            basis = fit_attenuation_basis(engine, edit.features, with_, without)
    except InputError as error:
        st.session_state[f"{key}_unmeasured"] = str(error)
        return
    steering.revise(number, replace(edit, basis=basis))
