"""The SHIFT page's fields: texts to learn from and to judge on, and where the probe reads."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from app import fields as forms
from app import session
from app.session import Place
from app.wording import plural
from backend.probing import shift_example
from backend.probing.probe_texts import LabelledText, format_labelled_texts, parse_labelled_texts
from backend.probing.shift_request import (
    DEFAULT_MEASURED_FEATURES,
    DEFAULT_RANDOM_DRAWS,
    MAX_MEASURED_FEATURES,
    MAX_RANDOM_DRAWS,
    POOLING_CHOICES,
    ShiftRequest,
)
from feature_store.errors import InputError
from feature_store.null_dictionaries import list_model_dictionaries

SETS = {"train": "Texts to learn from", "test": "Texts to judge on"}
KEPT, PROBLEM = "shift_kept", "shift_problem"
"""Of the session: the fields' values, and what was wrong with a file."""
LINKED = ("hook", "pool", "on", "example")
"""The fields that the URL carries."""
LARGEST = 4_000_000
"""Bytes of a file: a kept run holds the texts whole."""
HINT = '{"text": "…", "label": "…", "group": "…"}'


FIELDS = forms.Fields("shift_", KEPT)
key, value = FIELDS.key, FIELDS.value


def defaults(place: Place) -> dict[str, Any]:
    """Of every field."""
    names = list_model_dictionaries(place.file)
    return {
        "train": "",
        "test": "",
        "hook": place.info.write_hooks[-1],
        "pool": "mean",
        "on": names,
        "exact": DEFAULT_MEASURED_FEATURES,
        "draws": DEFAULT_RANDOM_DRAWS,
    }


def adopt(place: Place) -> None:
    """Fill the fields: from the URL at first sight, else as this visitor left them."""
    state, first = st.session_state, key("pool") not in st.session_state
    start = defaults(place)
    if first:
        given = st.query_params.to_dict()
        here: dict[str, Any] = {name: given[name] for name in ("hook", "pool") if name in given}
        if "on" in given:
            here["on"] = st.query_params.get_all("on")
        if given.get("example"):
            here |= texts(shift_example.draw_training_texts(), shift_example.draw_held_out_texts())
        state[KEPT] = start | state.get(KEPT, {}) | here
    kept = state[KEPT]
    kept["on"] = [
        name for name in kept["on"] if name in list_model_dictionaries(place.file)
    ] or start["on"]
    kept["pool"] = kept["pool"] if kept["pool"] in POOLING_CHOICES else start["pool"]
    FIELDS.restore()


def keep() -> None:
    """Callback: what the fields say is there on the way back, and the short ones in the URL."""
    FIELDS.keep()
    kept = st.session_state[KEPT]
    others = {
        name: st.query_params.get_all(name)
        for name in st.query_params
        if name not in (*LINKED, "experiment")
    }
    same = kept["train"] == format_labelled_texts(shift_example.draw_training_texts())
    st.query_params.from_dict(
        {
            **others,
            "hook": kept["hook"] or "",
            "pool": kept["pool"],
            "on": kept["on"],
            **({"example": "1"} if same else {}),
        }
    )


def texts(train: list[LabelledText], test: list[LabelledText]) -> dict[str, str]:
    """Both sets as the fields have them."""
    return {"train": format_labelled_texts(train), "test": format_labelled_texts(test)}


def show(given: Mapping[str, Any]) -> None:
    """Callback: these values, in the fields and kept."""
    st.session_state[KEPT] |= given
    for name, one in given.items():
        st.session_state[key(name)] = one
    keep()


def show_asked(asked: ShiftRequest) -> None:
    """The fields as a kept run was asked."""
    show(
        {
            **texts(list(asked.train), list(asked.test)),
            "hook": asked.hook,
            "pool": asked.pool,
            "on": list(asked.dictionaries),
            "exact": asked.exact,
            "draws": asked.draws,
        }
    )


def uploaded(name: str) -> None:
    """Callback: a file in place of a field's text."""
    try:
        given = forms.uploaded(key(f"file_{name}"), LARGEST)
        if given is None:
            return
        found = parse_labelled_texts(utf8(*given), given[0])
    except InputError as error:
        st.session_state[PROBLEM] = str(error)
    else:
        show({name: format_labelled_texts(found)})


def utf8(name: str, content: bytes) -> str:
    """A file's text. InputError for another encoding."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{name} is not UTF-8 text. Save it as UTF-8.") from None


def draw(place: Place) -> None:
    """Both sets, and below them what the probe reads and what is ranked."""
    for name, column in zip(SETS, st.columns(2, gap="medium"), strict=True):
        with column:
            one_set(name)
    if said := st.session_state.pop(PROBLEM, None):
        st.markdown(f":red[{session.literal(said)}]")
    infos = place.file.dictionaries.values()
    hooks = list(dict.fromkeys(hook for one in infos for hook in one.read_hooks + one.write_hooks))
    if value("hook") not in hooks:
        hooks.append(value("hook"))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.selectbox(
            "Probe reads at",
            hooks,
            key=key("hook"),
            on_change=keep,
            width=270,
            accept_new_options=True,
            help="Any hook point of the model; a name can be typed.",
        )
        st.segmented_control(
            "Tokens",
            list(POOLING_CHOICES),
            key=key("pool"),
            on_change=keep,
            required=True,
            format_func=POOLING_CHOICES.__getitem__,
        )
        st.multiselect(
            "Features of",
            list_model_dictionaries(place.file),
            key=key("on"),
            on_change=keep,
            width=360,
        )
        st.number_input(
            "Measure",
            0,
            MAX_MEASURED_FEATURES,
            key=key("exact"),
            on_change=keep,
            width=110,
            help="How many of the strongest are taken away one by one, beside the estimate.",
        )


def random_sets() -> int:
    """How many random sets of features the marked ones are compared with."""
    st.number_input(
        "Random sets",
        0,
        MAX_RANDOM_DRAWS,
        key=key("draws"),
        on_change=keep,
        width=120,
        help="Sets of random features, alike in activation, to compare with those you mark.",
    )
    return int(value("draws"))


def one_set(name: str) -> None:
    """Its texts, typed or from a file."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        lines = sum(bool(line.strip()) for line in (value(name) or "").splitlines())
        st.caption(f"{SETS[name]} · {plural(lines, 'text')}", width="content")
        with st.popover("From a file", type="tertiary"):
            st.file_uploader(
                SETS[name],
                key=key(f"file_{name}"),
                type=["jsonl", "txt", "tsv"],
                on_change=uploaded,
                args=[name],
            )
    st.text_area(
        SETS[name],
        key=key(name),
        height=104,
        on_change=keep,
        label_visibility="collapsed",
        placeholder=f"One text a line: {HINT}, or label and text with a tab between",
    )


def asked(features: tuple[Any, ...] = ()) -> ShiftRequest:
    """What the fields say; InputError for texts that cannot be read or will not do."""
    train, test = (parse_labelled_texts(value(name) or "", SETS[name]) for name in SETS)
    if not train or not test:
        raise InputError("Give texts to learn from and others to judge on, or take the example.")
    found = ShiftRequest(
        train,
        test,
        (value("hook") or "").strip(),
        tuple(value("on")),
        value("pool"),
        int(value("exact")),
        features,
        int(value("draws")),
    )
    found.text_sets()
    return found
