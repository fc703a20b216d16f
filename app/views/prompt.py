"""A text or a chat of one's own: which features fire on it, where, and what they add."""

import io
import random
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq
import streamlit as st

from app import annotations, chatting, components, frame, live, session, strip
from app.session import Place
from app.tokens import visible
from app.wording import plural, share
from backend.engine_protocol import Engine, TextActivations, TokenizedText
from feature_store.errors import InputError

TEXT, PICKED, SORT = "prompt_text", "prompt_dictionaries", "prompt_sort"
MODE, BOS, LENS, TARGET = "prompt_mode", "prompt_bos", "prompt_lens", "prompt_target"
STRIP = "prompt_strip"
SORTS = {
    "activation": "activation",
    "relative": "÷ maximum",
    "rare": "÷ maximum × rarity",
    "gradient": "gradient × activation",
}
TAKEN = 40
"""Tokens of a text that is taken from the harvest."""
LIMIT = 20_000
"""Characters of the text that a link may carry."""


@dataclass(frozen=True)
class Aim:
    """A next token that features are measured toward."""

    at: int
    token: int
    said: str
    """In words, for the caption."""


def keep() -> None:
    """Put what was typed and picked into the URL."""
    state, query = st.session_state, st.query_params
    if len(state[TEXT]) <= LIMIT:
        query["text"] = state[TEXT]
    query["on"] = state[PICKED]
    query["sort"] = state[SORT]
    marks = {"bos": "" if state[BOS] else "1", "lens": "1" if state[LENS] else ""}
    marks["toward"] = state.get(TARGET, query.get("toward", ""))
    marks["as"] = "chat" if state.get(MODE) == "chat" else ""
    for name, value in marks.items():
        if value:
            query[name] = value
        else:
            query.pop(name, None)


def begin() -> None:
    """The widgets' first values, as the URL has them."""
    query, names = st.query_params, list(place.file.dictionaries)
    on = [name for name in query.get_all("on") if name in names]
    sort = query.get("sort", "activation")
    first = {
        TEXT: query.get("text", ""),
        PICKED: on or [place.info.dictionary],
        SORT: sort if sort in SORTS else "activation",
        BOS: query.get("bos") != "1",
        LENS: query.get("lens") == "1",
        TARGET: query.get("toward", ""),
        MODE: "chat" if query.get("as") == "chat" else "text",
    }
    for key, value in first.items():
        st.session_state.setdefault(key, value)


def typed() -> str | chatting.Turns:
    """The field for a text; where the model has a chat template, turns instead if one likes."""
    try:
        engine = live.at_hand(place.file)
    except InputError:
        engine = None
    if engine is not None and engine.chats:
        st.segmented_control(
            "Input",
            ["text", "chat"],
            key=MODE,
            on_change=keep,
            required=True,
            label_visibility="collapsed",
        )
        if st.session_state[MODE] == "chat":
            return chatting.fields()
    return st.text_area(
        "Text",
        key=TEXT,
        placeholder="Type or paste a text, then Ctrl-Enter.",
        height=96,
        label_visibility="collapsed",
        on_change=keep,
    )


def controls() -> None:
    """Which dictionaries, in which order, with what beside them."""
    st.multiselect("Dictionaries", list(place.file.dictionaries), key=PICKED, on_change=keep)
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.segmented_control(
            "Features by",
            list(SORTS),
            format_func=lambda name: SORTS[name],
            key=SORT,
            on_change=keep,
            required=True,
            label_visibility="collapsed",
            width="content",
        )
        st.toggle("ignore BOS", key=BOS, on_change=keep)
        st.toggle("logit lens", key=LENS, on_change=keep)
        if st.session_state[SORT] == "gradient":
            st.text_input(
                "Toward the next token",
                key=TARGET,
                on_change=keep,
                width=200,
                placeholder="next token: the likeliest",
                label_visibility="collapsed",
            )


def draw(given: str | chatting.Turns, names: list[str]) -> None:
    """The strip of tokens and the features of what is selected in it."""
    if isinstance(given, str) and not given.strip():
        st.caption("Nothing typed yet. Try a sentence like those the harvest has seen.")
        st.button("Take one from the harvest", on_click=take_one)
        return
    if not names:
        st.caption("Pick at least one dictionary.")
        return
    engine = live.engine(place.file)
    try:
        read = engine.read(given) if isinstance(given, str) else engine.read_chat(given)
    except InputError as error:
        warn(error)
        offer_cut(engine, given)
        return
    try:
        with live.dictionaries_said(engine, names):
            firing = engine.compute_activations(read, names)
            aim = aimed(engine, read) if st.session_state[SORT] == "gradient" else None
            data = drawn(engine, read, firing, aim)
    except InputError as error:
        warn(error)
        return
    above(read, firing, aim)
    components.prompt(key=STRIP, data=data, on_go_change=components.ignore, on_at_change=take_aim)
    if target := (st.session_state.get(STRIP) or {}).get("go"):
        st.switch_page(session.FEATURE, query_params={**place.query, "feature": target})


def take_one() -> None:
    """Callback: the beginning of some text of the harvest, its BOS left out."""
    sequences, vocabulary = place.file.sequences, place.file.vocabulary
    ids = sequences.window(random.randrange(len(sequences)), 1, TAKEN)
    st.session_state[TEXT] = "".join(vocabulary.display(ids)).strip()
    keep()


def warn(error: InputError) -> None:
    """A sentence in place of what it stands in the way of."""
    st.markdown(f":orange[{session.literal(str(error))}]")


def offer_cut(engine: Engine, given: str | chatting.Turns) -> None:
    """A button that cuts a text to what the model reads; none for a chat."""
    if not isinstance(given, str):
        return
    fit = engine.cut_to_context(given)
    if len(fit) < len(given):
        label = f"Cut to the first {plural(len(engine.read(fit).token_ids), 'token')}"
        st.button(label, on_click=cut, args=(fit,))


def cut(fit: str) -> None:
    """Callback: the text is its beginning now."""
    st.session_state[TEXT] = fit
    keep()


def aimed(engine: Engine, read: TokenizedText) -> Aim:
    """The position and the next token that the URL names; else the last, and the likeliest."""
    last = len(read.token_ids) - 1
    asked = st.query_params.get("at", "")
    at = int(asked) if asked.isdecimal() and len(asked) < 8 and int(asked) <= last else last
    answer = st.session_state.get(TARGET, "")
    ((likeliest, p),) = engine.predict_next_tokens(read, at, 1)
    token = engine.find_target_token(read, at, answer) if answer.strip() else likeliest
    text = visible(place.file.vocabulary.text(token))
    mark = f", the likeliest ({share(p)})" if token == likeliest else ""
    return Aim(at, token, f"toward “{text}”{mark} after position {at}")


def take_aim() -> None:
    """Callback: another position was chosen in the strip."""
    at = (st.session_state.get(STRIP) or {}).get("at")
    if at is not None:
        st.query_params["at"] = str(at)


def above(read: TokenizedText, firing: dict[str, TextActivations], aim: Aim | None) -> None:
    """What is shown, in a line, and the way to take all of it away."""
    said = f"{plural(sum(read.counted), 'token')}. Click tokens, or drag over several, for their "
    said += "features; point at a feature to see where it fires."
    said += " BOS is left out." if st.session_state[BOS] else " BOS and special tokens are shown."
    if aim:
        said = (
            f"{plural(sum(read.counted), 'token')}. Gradient × activation {aim.said}, in logits "
            "above the vocabulary's mean: what each feature adds, to first order."
        )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(session.literal(said))
        st.download_button(
            "Activations as Parquet",
            lambda: parquet(read, firing),
            "saefari-prompt.parquet",
            type="tertiary",
            on_click="ignore",
        )


def parquet(read: TokenizedText, firing: dict[str, TextActivations]) -> bytes:
    """All non-zero activations of the chosen dictionaries."""
    out = io.BytesIO()
    pq.write_table(strip.table(read, firing, place.file.vocabulary), out)
    return out.getvalue()


def drawn(
    engine: Engine, read: TokenizedText, firing: dict[str, TextActivations], aim: Aim | None
) -> dict[str, Any]:
    """What the component draws."""
    ignore_bos = st.session_state[BOS]
    shown = read.counted if ignore_bos else [True] * len(read.counted)
    called = annotations.read().annotations.feature_names
    toward = engine.attribute_logit(read, list(firing), aim.token, aim.at) if aim else {}
    tokens = strip.tokens(read, place.file.vocabulary)
    rows = engine.lens_rows(read) if st.session_state[LENS] else None
    return {
        "sort": st.session_state[SORT],
        "pinned": None,
        "at": aim.at if aim else None,
        "lens": strip.lens(rows, place.file.vocabulary) if rows else None,
        "tokens": [{**token, "counted": on} for token, on in zip(tokens, shown, strict=True)],
        "dictionaries": [
            strip.dictionary(
                Place(place.file, place.file.dictionary(name)),
                strip.active(one, shown),
                called,
                toward.get(name),
            )
            for name, one in firing.items()
        ],
    }


place = session.place()
frame.sidebar(place)
frame.bar(place)
st.title("Prompt")
begin()
given = typed()
controls()
draw(given, st.session_state[PICKED])
