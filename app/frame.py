"""Around every page: the sidebar, and the bar that says which dictionary one is in."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app import components, session, theme
from app.jobs import watching
from app.session import Place
from feature_store.errors import InputError
from feature_store.records import FeatureId

STYLE = """
<style>
.block-container { padding: 0.75rem 1.5rem 2rem; max-width: none; }
[data-testid="stHeader"] { background: transparent; height: 3.25rem; pointer-events: none; }
[data-testid="stHeader"] div, [data-testid="stHeader"] span { pointer-events: none; }
[data-testid="stHeader"] button { pointer-events: auto; }
body:has([data-testid="stSidebar"][aria-expanded="false"]) .st-key-bar { padding-left: 2.25rem; }
.st-key-bar { padding-right: 2.25rem; min-height: 2.75rem; flex-wrap: nowrap; }
.st-key-bar > div { flex-shrink: 0; }
.st-key-bar > div:first-child { min-width: 0; flex-shrink: 1; }
[data-testid="stSidebarHeader"] { height: 2.25rem; padding-top: 0; }
[data-testid="stMain"]:focus-visible { outline: none; }
[data-testid="stVerticalBlock"] { gap: 0.5rem; }
[data-testid="stHorizontalBlock"] { gap: 1.25rem; }
h3 { padding: 0 0 2px; }
.st-key-panel_Neighbours [data-testid="stColumn"] { min-width: 150px; }
.st-key-sql_text textarea { font-family: "Source Code Pro", ui-monospace, monospace; }
.between { height: 8px; }
.brand { font-size: 15px; font-weight: 600; margin: 0 0 8px 6px; }
[data-testid^="stBaseButton-primary"], [data-testid="stMultiSelect"] [data-tag] { ON_ACCENT }
</style>
""".replace("ON_ACCENT", f"color: light-dark({theme.LIGHT.on_accent}, {theme.DARK.on_accent});")
"""On a light accent Streamlit's white text could not be read."""
PAGES = (
    (
        (session.LIBRARY, "Library"),
        (session.FEATURES, "Features"),
        (session.SEARCH, "Search"),
        (session.MAP, "Map"),
    ),
    ((session.PROMPT, "Prompt"), (session.CONTRAST, "Contrast"), (session.SCORES, "Scores")),
    (
        (session.STEER, "Steer"),
        (session.ABLATE, "Ablate"),
        (session.CIRCUITS, "Circuits"),
        (session.BEHAVIOURS, "Behaviours"),
        (session.SHIFT, "SHIFT"),
        (session.EXPERIMENTS, "Experiments"),
    ),
    ((session.LISTS, "Lists"), (session.SQL, "SQL")),
)
"""The pages of the sidebar: find, read, change, keep."""
PICKED, ASKED = "frame_dictionary", "frame_search"
"""Widget keys."""
BEGUN = "frame_begun"
"""Of the session: that the page of this run has its sidebar."""
LONG_NUMBER = 10
"""Digits from which on a number is a text: no dictionary is so wide."""


def tab(title: str) -> str:
    """What a browser's tab is called: the page, or the feature, first, since tabs are cut."""
    named = st.query_params.get("feature", title) if title == "Feature" else title
    return f"{named} · Saefari"


def sidebar(here: Place | None) -> None:
    """Brand and pages; the chosen dictionary travels along."""
    st.session_state[BEGUN] = True
    query = here.query if here else {}
    with st.sidebar:
        st.html('<div class="brand">Saefari</div>')
        for group in PAGES:
            for page, label in group:
                more = session.kept(here) if here and page == session.FEATURES else {}
                st.page_link(page, label=label, query_params={**query, **more}, width="stretch")
            st.html('<div class="between"></div>')
        watching.link(query)


def bar(here: Place) -> DeltaGenerator:
    """Which dictionary, and the one search; a page adds its own."""
    files = {file.record.id: file for file in session.store().harvests()}
    places = {
        (i, name): Place(file, info)
        for i, file in files.items()
        for name, info in file.dictionaries.items()
    }
    st.session_state[PICKED] = (here.file.record.id, here.info.dictionary)  # the URL decides
    whole = st.container(key="bar", horizontal=True, gap="small")
    with whole:
        picker, field = st.empty(), st.empty()
    picker.selectbox(
        "Dictionary",
        list(places),
        format_func=lambda key: named(places[key]),
        key=PICKED,
        on_change=lambda: choose(places[st.session_state[PICKED]]),
        label_visibility="collapsed",
        width=420,
    )
    with field:
        components.search(
            key=ASKED,
            data={"hint": f"search: label, token, text… or feature 0–{here.info.d_sae - 1}"},
            on_ask_change=components.ignore,
            width=340,
        )
    if text := ((st.session_state.get(ASKED) or {}).get("ask") or "").strip():
        ask(here, text)
    return whole


def refused(error: InputError) -> None:
    """In place of a page, or of what is left of one: what was wrong and the way out."""
    try:
        here = session.place()
    except InputError:
        here = None
    if not st.session_state[BEGUN]:
        sidebar(here)
        st.title("Not found", anchor=False)
    st.markdown(f":red[{session.literal(str(error))}]")
    with st.container(horizontal=True):
        st.page_link(session.LIBRARY, label="Go to the library")
        if here is not None:
            label = f"All features of {session.literal(here.info.dictionary)}"
            st.page_link(session.FEATURES, label=label, query_params=here.query)


def named(place: Place) -> str:
    """MODEL / DICTIONARY · harvest id."""
    return f"{place.file.record.model} / {place.info.dictionary}   ({place.file.record.id})"


def choose(place: Place) -> None:
    """Callback: another dictionary; a feature's page has no feature then and shows the table."""
    st.query_params.from_dict(place.query)


def ask(here: Place, text: str) -> None:
    """A feature's number in this dictionary, or DICTIONARY/INDEX in this harvest, opens it;
    everything else is searched for."""
    wanted = numbered(here, text)
    if wanted is None:
        st.switch_page(session.SEARCH, query_params={**here.query, "q": text})
    try:
        found = here.file.check_feature(wanted)
    except InputError as error:
        st.markdown(f":red[{session.literal(str(error))}]")
        return
    query = {"harvest": here.file.record.id, "feature": str(found)}
    st.switch_page(session.FEATURE, query_params=query)


def numbered(here: Place, text: str) -> FeatureId | None:
    """The feature that a text names, there or not; None for a text that is words."""
    if text.isdecimal() and len(text) < LONG_NUMBER:
        return FeatureId(here.info.dictionary, int(text))
    dictionary, slash, index = text.rpartition("/")
    known = slash and dictionary in here.file.dictionaries and index.isdecimal()
    return FeatureId(dictionary, int(index)) if known and len(index) < LONG_NUMBER else None
