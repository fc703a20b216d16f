"""The Contrast page's fields: two sides of texts, typed or from files, and how to compare them."""

from typing import Any

import streamlit as st

from app import fields, session
from app.contrast.running import ContrastQuestion
from app.costly import draw_costly_button
from app.session import Place
from app.wording import plural
from backend.contrast.contrast_examples import CONTRAST_EXAMPLES
from backend.contrast.contrast_texts import (
    MAX_DOCUMENTS_PER_SIDE,
    READING_UNITS,
    parse_text_file,
    split_lines,
)
from backend.contrast.text_set_contrast import CONTRAST_TESTS
from feature_store.errors import InputError
from feature_store.null_dictionaries import list_model_dictionaries

SIDES = ("a", "b")
DEFAULTS: dict[str, Any] = {
    "a": "",
    "b": "",
    "a_name": "A",
    "b_name": "B",
    "unit": "document",
    "by": "strength",
    "on": None,
}
"""Parameter of the URL → value where it has none; the widget's key is `contrast_` and its name."""
KEPT, FILES, LABELS = "contrast_kept", "contrast_files", "contrast_labels"
GO, OF = "contrast_go", "contrast_of"
"""Keys of the session: the fields' values, texts of files by side, a labelled file, whether the
page is to compare what its fields say, and the dictionary that the bar named last."""
LARGEST = 20_000_000
"""Bytes of a file."""


FIELDS = fields.Fields("contrast_", KEPT)
key, value, keep = FIELDS.key, FIELDS.value, FIELDS.keep


def adopt(place: Place) -> None:
    """Fill the fields: at first sight from the URL, else as this visitor left them."""
    state = st.session_state
    if key("unit") not in state:  # a widget that is drawn always: the page is new
        given: dict[str, Any] = {
            n: v for n, v in st.query_params.to_dict().items() if n in DEFAULTS
        }
        if given:
            given["on"] = st.query_params.get_all("on") or None
        state[KEPT] = DEFAULTS | (given or state.get(KEPT, {}))
        state[GO] = "a" in given and "b" in given
    kept, here = state[KEPT], place.info.dictionary
    on = None if kept["on"] is None else [n for n in kept["on"] if n in place.file.dictionaries]
    moved = state.get(OF, here) != here  # another was chosen in the bar
    if on is None or (kept["on"] and not on) or (moved and here not in on):
        on = [here]
    if on != kept["on"]:
        state.pop(key("on"), None)
    kept |= {
        "on": on,
        "unit": kept["unit"] if kept["unit"] in READING_UNITS else DEFAULTS["unit"],
        "by": kept["by"] if kept["by"] in CONTRAST_TESTS else DEFAULTS["by"],
    }
    state[OF] = here
    FIELDS.restore()


def go() -> None:
    """Callback: compare what the fields say now."""
    keep()
    st.session_state[GO] = True


def example(name: str) -> None:
    """Callback: both sides from an example, compared at once."""
    chosen = CONTRAST_EXAMPLES[name]()
    drop(*SIDES)
    for side, (title, texts) in zip(SIDES, chosen.groups.items(), strict=True):
        st.session_state[key(side)] = "\n".join(texts)
        st.session_state[key(f"{side}_name")] = title
    st.session_state[key("unit")] = chosen.unit
    go()


def drop(*sides: str) -> None:
    """Callback: the fields count again, in place of files."""
    for side in sides:
        st.session_state.get(FILES, {}).pop(side, None)
    st.session_state.pop(LABELS, None)


def uploaded(side: str) -> None:
    """Callback: a file in place of a side's field; one with several labels is both sides."""
    try:
        given = fields.uploaded(key(f"file_{side}"), LARGEST)
        if given is None:
            return
        groups = {name: tuple(texts) for name, texts in parse_text_file(*given).items()}
    except InputError as error:
        st.session_state["contrast_problem"] = str(error)
        return
    if len(groups) > 1:
        st.session_state[LABELS] = (given[0], groups)
        return
    for name, texts in groups.items() or [("", ())]:
        st.session_state.setdefault(FILES, {})[side] = (given[0], texts)
        if name:
            st.session_state[key(f"{side}_name")] = name


def draw(place: Place) -> None:
    """Both sides and the choices below them."""
    if labelled := st.session_state.get(LABELS):
        by_label(*labelled)
    else:
        for side, column in zip(SIDES, st.columns(2), strict=True):
            with column:
                one_side(side)
    if problem := st.session_state.pop("contrast_problem", None):
        st.markdown(f":red[{session.literal(problem)}]")
    choices(place)


def one_side(side: str) -> None:
    """Its name and its texts."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.text_input(
            f"Name of side {side}",
            key=key(f"{side}_name"),
            max_chars=40,
            width=180,
            on_change=keep,
            label_visibility="collapsed",
        )
        st.caption(f"{plural(len(texts_of(side)), 'text')}", width="content")
        with st.popover("From a file", type="tertiary"):
            st.file_uploader(
                f"Texts of side {side}",
                key=key(f"file_{side}"),
                type=["txt", "jsonl"],
                on_change=uploaded,
                args=[side],
            )
            st.caption(
                ".txt: one text a line. .jsonl: an object a line with `text`; with several "
                "`label` values the file gives all sides at once."
            )
    if file := st.session_state.get(FILES, {}).get(side):
        st.markdown(f"{plural(len(file[1]), 'text')} of {session.literal(file[0])}")
        st.button("Remove", key=key(f"drop_{side}"), type="tertiary", on_click=drop, args=[side])
        return
    st.text_area(
        f"Texts of side {side}",
        key=key(side),
        height=104,
        on_change=keep,
        placeholder="One text a line",
        label_visibility="collapsed",
    )


def by_label(name: str, groups: dict[str, tuple[str, ...]]) -> None:
    """Which label of a file is set against all others."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.selectbox(
            f"Label of {session.literal(name)}",
            list(groups),
            key=key("label"),
            width=260,
            format_func=lambda x: f"{x or '(no label)'}: {plural(len(groups[x]), 'text')}",
        )
        st.caption(f"against all other {len(groups) - 1}", width="content")
        st.button("Remove the file", type="tertiary", on_click=drop, args=SIDES)


def choices(place: Place) -> None:
    """Where to read, what to test, in which dictionaries; and the buttons."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.segmented_control(
            "Read at",
            list(READING_UNITS),
            key=key("unit"),
            required=True,
            on_change=keep,
            format_func=READING_UNITS.__getitem__,
            help="The strongest activation anywhere in a text, or that on one token: the last, or "
            "the last of a span marked [[so]].",
        )
        st.segmented_control(
            "Rank by",
            list(CONTRAST_TESTS),
            key=key("by"),
            required=True,
            on_change=keep,
            format_func=CONTRAST_TESTS.__getitem__,
            help="How strongly: ranks of the activations, silent texts at 0. How often: the share "
            "of texts on which it fires.",
        )
        names = list(place.file.dictionaries)
        st.multiselect("Dictionaries", names, key=key("on"), on_change=keep, width=330)
        if len(names) > 1:
            st.button(
                "All", type="tertiary", on_click=every, args=[list_model_dictionaries(place.file)]
            )
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        draw_costly_button("Compare", go, type="primary")
        st.caption("Examples:", width="content")
        for name in CONTRAST_EXAMPLES:
            st.button(name, type="tertiary", on_click=example, args=[name])
        st.caption(
            f"At most {MAX_DOCUMENTS_PER_SIDE:,} texts a side.".replace(",", "\u202f"),
            width="content",
        )


def every(names: list[str]) -> None:
    """Callback: all dictionaries of the harvest."""
    st.session_state[key("on")] = names
    keep()


def texts_of(side: str) -> tuple[str, ...]:
    """A side's texts: the file's, else the field's."""
    file = st.session_state.get(FILES, {}).get(side)
    return file[1] if file else tuple(split_lines(value(side)))


def asked() -> ContrastQuestion:
    """What the fields say. InputError for two sides of one name and for no dictionary."""
    if not value("on"):
        raise InputError("Pick at least one dictionary.")
    if labelled := st.session_state.get(LABELS):
        label, groups = st.session_state[key("label")], labelled[1]
        others = [(name, texts) for name, texts in groups.items() if name != label]
        found = ((label, groups[label]), *others)
    else:
        names = [value(f"{side}_name").strip() or side.upper() for side in SIDES]
        if names[0] == names[1]:
            raise InputError(f"Both sides are called {names[0]!r}: give them two names.")
        found = tuple((name, texts_of(side)) for name, side in zip(names, SIDES, strict=True))
    return ContrastQuestion(found, tuple(value("on")), value("unit"), value("by"))


def link(given: ContrastQuestion) -> bool:
    """Put what is compared into the URL; False where it is too long, or comes from files."""
    typed = given.short and not any(st.session_state.get(name) for name in (FILES, LABELS))
    carried = DEFAULTS if typed else ("unit", "by", "on")
    changed = {name: value(name) for name in carried if value(name) != DEFAULTS[name]}
    others = {n: v for n, v in st.query_params.to_dict().items() if n not in DEFAULTS}
    st.query_params.from_dict({**others, **changed})
    return typed
