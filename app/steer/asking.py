"""The prompt and how tokens are drawn: the page's fields, into the visitor's setting."""

import re
from dataclasses import replace

import streamlit as st

from app import chatting, steering
from app.session import Place
from app.steer.conditions import chats
from feature_store.errors import InputError

FROZEN = {"patterns": "attention patterns", "norms": "norms", "mlps": "MLP outputs"}


def prompt(place: Place) -> None:
    """A text; where the model has a chat template, turns instead if one likes."""
    now, key = steering.setting().prompt, f"steer_{steering.version()}"
    if chats(place):
        st.session_state.setdefault(f"{key}_as", "text" if isinstance(now, str) else "chat")
        st.segmented_control(
            "Input",
            ["text", "chat"],
            key=f"{key}_as",
            required=True,
            label_visibility="collapsed",
        )
        if st.session_state[f"{key}_as"] == "chat":
            turns = tuple(chatting.fields())
            if turns != now:
                steering.change(prompt=turns)
            return
    elif not isinstance(now, str):
        st.caption("This prompt is a chat; it is sent through the model's template.")
        return
    field = f"{key}_prompt"
    st.session_state.setdefault(field, now if isinstance(now, str) else "")
    st.text_area(
        "Prompt",
        key=field,
        height=68,
        label_visibility="collapsed",
        placeholder="What the model goes on from, such as: Once upon a time",
        on_change=typed,
        args=(field,),
    )
    if st.session_state[field] != now:
        steering.change(prompt=st.session_state[field])


def typed(field: str) -> None:
    """Callback: the prompt as it stands now."""
    steering.change(prompt=st.session_state[field])


def sampling() -> None:
    """Seed, temperature and length in the line; the rest behind a click."""
    key = f"steer_{steering.version()}"
    number(key, "seed", "seed", step=1, low=0, high=2**31 - 1)
    hint = "0 takes the likeliest."
    number(key, "temperature", "temperature", step=0.1, low=0.0, high=10.0, hint=hint)
    number(key, "max_new", "tokens", step=10, low=1, high=512, hint="New tokens at most.")
    with st.popover("sampling"):
        number(
            key,
            "top_p",
            "top p",
            step=0.05,
            low=0.0,
            high=1.0,
            hint="Only the likeliest tokens that together reach this probability; 1 keeps all.",
        )
        number(
            key,
            "top_k",
            "top k",
            step=10,
            low=0,
            high=1_000_000,
            hint="Only so many of the likeliest tokens; 0 keeps all.",
        )
        number(
            key,
            "repetition_penalty",
            "repetition penalty",
            step=0.1,
            low=0.1,
            high=10.0,
            hint="1 does nothing; above, tokens that were there become less likely.",
        )
        field = f"{key}_stop"
        st.session_state.setdefault(field, "\n".join(steering.setting().sampling.stop))
        st.text_area(
            "Stop strings",
            key=field,
            height=68,
            placeholder="one a line; the text ends before it",
            on_change=stops,
            args=(field,),
        )
        frozen(key)


def frozen(key: str) -> None:
    """Which layers keep the clean model's values."""
    st.caption(
        "Layers, first to last, that keep the clean model's values in the steered text: what is "
        "left is the edit's effect by other ways."
    )
    parts = st.columns(3, gap="small")
    for part, (name, label) in zip(parts, FROZEN.items(), strict=True):
        field, layers = f"{key}_{name}", getattr(steering.setting().freeze, name)
        st.session_state.setdefault(field, f"{layers[0]}-{layers[1]}" if layers else "")
        part.text_input(label, key=field, placeholder="0-3", on_change=freeze, args=(name, field))


def freeze(name: str, field: str) -> None:
    """Callback: other layers; what is no range is said, and leaves them as they were."""
    now, text = steering.setting().freeze, st.session_state[field].strip()
    found = re.fullmatch(r"(\d{1,4})(?:\s*[-–]\s*(\d{1,4}))?", text)
    if text and not found:
        st.toast(f"Layers are written 0-3, or 2; not {text!r}.")
        return
    layers = (int(found[1]), int(found[2] or found[1])) if found else None
    steering.change(freeze=replace(now, **{name: layers}))


def number(
    key: str, name: str, label: str, *, step: float, low: float, high: float, hint: str = ""
) -> None:
    """A field of the sampling."""
    field = f"{key}_{name}"
    st.session_state.setdefault(field, type(step)(getattr(steering.setting().sampling, name)))
    st.number_input(
        label,
        low,
        high,
        key=field,
        step=step,
        help=hint or None,
        width=112,
        on_change=drawn,
        args=(name, field),
    )


def drawn(name: str, field: str) -> None:
    """Callback: another number; one that cannot be is left as it was."""
    now, value = steering.setting().sampling, st.session_state[field]
    if value is None:
        return
    changed = replace(now, **{name: value})
    try:
        changed.check()
    except InputError as error:
        st.toast(str(error))
        st.session_state[field] = getattr(now, name)
        return
    steering.change(sampling=changed)


def stops(field: str) -> None:
    """Callback: the stop strings."""
    given = tuple(line for line in st.session_state[field].split("\n") if line)
    steering.change(sampling=replace(steering.setting().sampling, stop=given))
