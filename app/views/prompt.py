"""A text of one's own: which features fire on it, and where."""

from typing import Any

import pyarrow as pa
import streamlit as st

from app import components, frame, live, session, strip
from app.session import Place
from app.tokens import visible
from app.wording import plural
from backend.live import Firing, Text
from feature_store.errors import InputError
from feature_store.reader import HarvestFile

TEXT, PICKED, SORT = "prompt_text", "prompt_dictionaries", "prompt_sort"
SORTS = {
    "activation": "activation",
    "relative": "÷ its maximum",
    "rare": "÷ its maximum, rare ones first",
}
LIMIT = 20_000
"""Characters of the text that a link may carry."""

place = session.place()
frame.sidebar(place)
frame.bar(place)
st.title("Prompt")


def keep() -> None:
    """Put what was typed and picked into the URL."""
    text = st.session_state[TEXT]
    if len(text) <= LIMIT:
        st.query_params["text"] = text
    st.query_params["on"] = st.session_state[PICKED]
    st.query_params["sort"] = st.session_state[SORT]


def controls() -> tuple[str, list[str], str]:
    """Text, dictionaries and order, as the URL has them."""
    query, names = st.query_params, list(place.file.dictionaries)
    st.session_state.setdefault(TEXT, query.get("text", ""))
    on = [name for name in query.get_all("on") if name in names]
    st.session_state.setdefault(PICKED, on or [place.info.dictionary])
    sort = query.get("sort", "activation")
    st.session_state.setdefault(SORT, sort if sort in SORTS else "activation")
    st.text_area(
        "Text",
        key=TEXT,
        placeholder="Type or paste a text, then Ctrl-Enter.",
        height=96,
        label_visibility="collapsed",
        on_change=keep,
    )
    left, right = st.columns([3, 2])
    left.multiselect("Dictionaries", names, key=PICKED, on_change=keep)
    right.segmented_control(
        "Features by",
        list(SORTS),
        format_func=lambda name: SORTS[name],
        key=SORT,
        on_change=keep,
        required=True,
    )
    return st.session_state[TEXT], st.session_state[PICKED], st.session_state[SORT]


def draw(text: str, names: list[str], sort: str) -> None:
    """The strip of tokens and the features of what is selected in it."""
    if not text.strip():
        st.caption("Nothing typed yet. Try a sentence like those the harvest has seen.")
        return
    if not names:
        st.caption("Pick at least one dictionary.")
        return
    engine = live.engine(place.file)
    try:
        read = engine.read(text)
        firing = engine.firing(read, names)
    except InputError as error:
        st.markdown(f":orange[{session.literal(str(error))}]")
        return
    st.caption(
        f"{plural(sum(read.counted), 'token')}. Click tokens, or drag over several, for their "
        "features; point at a feature to see where it fires. BOS is left out."
    )
    components.prompt(
        key="prompt_strip", data=data(read, firing, sort), on_go_change=components.ignore
    )
    if target := (st.session_state.get("prompt_strip") or {}).get("go"):
        st.switch_page(session.FEATURE, query_params={**place.query, "feature": target})


def data(read: Text, firing: dict[str, Firing], sort: str) -> dict[str, Any]:
    """What the component draws: tokens, and for each dictionary its non-zero activations."""
    return {
        "sort": sort,
        "pinned": None,
        "tokens": strip.tokens(read, place.file.vocabulary),
        "dictionaries": [written(name, read, one) for name, one in firing.items()],
    }


def written(name: str, read: Text, firing: Firing) -> dict[str, Any]:
    """One dictionary's activations on counted tokens, and what is known of the features."""
    file = place.file
    here = Place(file, file.dictionary(name))
    triples = [
        (p, f, round(v, 5))
        for p, f, v in zip(
            firing.position.tolist(), firing.feature.tolist(), firing.value.tolist(), strict=True
        )
        if read.counted[p]
    ]
    fired = sorted({feature for _, feature, _ in triples})
    rows = facts(file, file.record.id, name).take(fired).to_pylist()
    return {
        "name": name,
        "hook": here.info.hook_name,
        "triples": triples,
        "features": {row["feature"]: known(here, row) for row in rows},
    }


@st.cache_resource(show_spinner=False, max_entries=16)
def facts(_file: HarvestFile, harvest_id: str, name: str) -> pa.Table:
    """What the lists show of a dictionary's features, by index."""
    return _file.feature_table(name).select(["feature", "max_act", "density", "promoted"])


def known(here: Place, row: dict[str, Any]) -> dict[str, Any]:
    """What the list shows of a feature beside its activation."""
    tokens = (here.file.vocabulary.text(token) for token in row["promoted"] or [])
    return {
        "max": row["max_act"],
        "density": row["density"],
        "promotes": "  ".join(visible(token).strip() for token in tokens),
        "href": session.href(session.FEATURE, here.at(row["feature"])),
    }


draw(*controls())
